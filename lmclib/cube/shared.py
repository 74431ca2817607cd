"""Many points of the layer cube at once: what points have in common is computed once, and what they compute alike together."""

import copy
import operator
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby

import torch
from torch import Tensor, fx, nn
from torch.func import functional_call
from torch.nn import functional as F

from lmclib.networks.layers import Layer

IN_PLACE = {
    operator.iadd: operator.add,
    operator.isub: operator.sub,
    operator.imul: operator.mul,
    operator.itruediv: operator.truediv,
}
PROBES = 3, 4  # examples in two trial batches: no size but a batch's own is both
Weights = Callable[[int, float], dict[str, Tensor]]  # a layer's index and coefficient to its tensors by state-dict key


class SharedEvaluation:
    r"""The outputs of a network at many points of its layer cube, step by step over the forward pass.

    Points whose coefficients agree on all layers so far have one value between them. Values that go through a step with the same
    weights go through it together, as one larger batch, if the step acts on each row alone: after the layer in which it differs,
    each point of a sweep into model 1 uses model 1's weights again. So a sweep over single layers costs half of what its points
    cost one by one, in a few large batches instead of many small ones, and so does a staircase. A convolution and the batch norm
    that alone uses its output are one step, the second folded into the first. Values are released after their last use.

    Args:
        model: the architecture.
        layers: its layers, from `find_layers`.
        x: inputs for trials: whether the traced network is the network, and what each step does with the rows of a batch.
        weights: each layer's tensors at a coefficient.

    Attributes:
        largest: the numbers that the largest value of one input holds.

    Raises:
        ValueError: the network cannot be traced, or not be taken apart safely, or what it makes of an example depends on the others
            in its batch; evaluate its points one by one.
    """

    def __init__(self, model: nn.Module, layers: Sequence[Layer], x: Tensor, weights: Weights):
        plain = copy.deepcopy(model).eval()
        for module in plain.modules():
            if getattr(module, "inplace", False):
                module.inplace = False  # points share values, so nothing may write over them
        try:
            self.net = fx.symbolic_trace(plain)
        except Exception as error:  # control flow on values raises whatever it meets
            raise ValueError(f"cannot be traced: {error}") from None
        nodes = [_out_of_place(node) for node in self.net.graph.nodes]
        self.norm_of = {node: norm for node in nodes if (norm := self._norm_after(node)) is not None}
        self.value_of = {norm: conv for conv, norm in self.norm_of.items()}  # what a folded node stands for
        self.nodes = [node for node in nodes if node not in self.value_of]
        self._find_owners(model, layers)
        last = {used: i for i, node in enumerate(self.nodes) for used in self._inputs(node)}
        self.dead = [[node for node, at in last.items() if at == i] for i in range(len(self.nodes))]
        parts = x[torch.arange(sum(PROBES), device=x.device) % len(x)].split(PROBES)
        # not at a corner, where a layer may be zero still; the last point has no layer in common with the first
        points = torch.full((4, len(layers)), 0.37, dtype=torch.float64)
        points[1, 0] = points[2, len(layers) // 2] = points[3] = 0.81
        try:
            self._find_rowwise(parts, points[[0, 3]], weights)
            self._check(plain, layers, parts, points, weights)
        except ValueError:
            raise
        except Exception as error:  # whatever a network says of a batch that it cannot take
            raise ValueError(f"fails on batches of {PROBES} examples: {error}") from None

    def outputs(self, x: Tensor, points: Tensor, weights: Weights) -> Iterator[tuple[list[int], Tensor]]:
        """The outputs on a batch at points (n, L), as pairs of the points' numbers and their outputs (B, ...)."""
        alive: dict[fx.Node, _Value] = {}
        for i, node in enumerate(self.nodes):
            if node.op == "output":
                value = alive[self._resolved(node.args[0])]
                groups = value.which.argsort(stable=True).split(value.which.bincount().tolist())
                for place, group in zip(value.places, groups, strict=True):
                    yield group.tolist(), value.joined([place], len(x))
                return
            alive[node] = self._step(i, alive, x, points, weights)
            for done in self.dead[i]:
                del alive[done]

    def _step(self, i: int, alive: dict, x: Tensor, points: Tensor, weights: Weights) -> "_Value":
        """One step for all points: once for each choice of weights, on all values that meet these."""
        if self.nodes[i].op == "placeholder":
            return _Value([x], [True], [(0, 0)], torch.zeros(len(points), dtype=torch.int64))
        inputs = [alive[used] for used in self._inputs(self.nodes[i])]
        tasks, which = self._tasks(i, inputs, points)
        alike: dict[tuple, list[tuple]] = {}
        for own, places in tasks:
            fixed = tuple(p for p, value in zip(places, inputs, strict=True) if not value.is_batch[p[0]])
            alike.setdefault((own, fixed), []).append((own, places))
        parts, flags, where = [], [], {}
        for (own, _), together in alike.items():
            tensors = self._tensors(i, own, weights)
            for chosen, out, is_batch in self._run_together(i, inputs, together, tensors, len(x)):
                where |= {task: (len(parts), slot) for slot, task in enumerate(chosen)}
                parts.append(out)
                flags.append(is_batch)
        return _Value(parts, flags, [where[task] for task in tasks], which)

    def _tasks(self, i: int, inputs: list["_Value"], points: Tensor) -> tuple[list[tuple], Tensor]:
        """What a step has to do, as coefficients of its layers and places of its inputs, and which of it is each point's (n,).

        Points of one task have computed the same so far, and do the same now.
        """
        layers = self.layers_of[i]
        if not layers and not inputs:
            return [((), ())], torch.zeros(len(points), dtype=torch.int64)
        if not layers and len(inputs) == 1:
            return [((), (place,)) for place in inputs[0].places], inputs[0].which
        met = torch.cat([points[:, layers], *(value.which[:, None].double() for value in inputs)], 1)
        distinct, which = met.unique(dim=0, return_inverse=True)
        tasks = []
        for row in distinct.tolist():
            own, met_there = row[: len(layers)], row[len(layers) :]
            places = (value.places[int(k)] for value, k in zip(inputs, met_there, strict=True))
            tasks.append((tuple(own), tuple(places)))
        return tasks, which

    def _run_together(
        self, i: int, inputs: list["_Value"], tasks: list[tuple], tensors: dict, size: int
    ) -> list[tuple]:
        """Tasks of the same weights as one batch, where the step acts on each row alone; else each by itself."""
        if len(tasks) == 1 or self.rowwise[i]:
            arguments = [value.joined([places[n] for _, places in tasks], size) for n, value in enumerate(inputs)]
            out = self._run(i, arguments, tensors)
            is_batch = self.has_rows[i] and len(out) == len(tasks) * size
            if len(tasks) == 1 or is_batch:
                return [(tasks, out, is_batch)]
        return [part for task in tasks for part in self._run_together(i, inputs, [task], tensors, size)]

    def _tensors(self, i: int, own: Sequence[float], weights: Weights) -> dict[str, Tensor]:
        """The tensors of a step's layers at their coefficients."""
        return {key: v for layer, a in zip(self.layers_of[i], own, strict=True) for key, v in weights(layer, a).items()}

    def _run(self, i: int, arguments: list, tensors: dict[str, Tensor]) -> object:
        node = self.nodes[i]
        given = dict(zip(self._inputs(node), arguments, strict=True))
        args, kwargs = fx.node.map_arg((node.args, node.kwargs), lambda other: given[self._resolved(other)])
        if node in self.norm_of:
            return self._folded(node, *args, tensors)
        if node.op == "call_function":
            return node.target(*args, **kwargs)
        if node.op == "call_method":
            return getattr(args[0], node.target)(*args[1:], **kwargs)
        if node.op == "get_attr":
            owner = self.owner.get(node.target)
            return tensors[owner] if owner in tensors else operator.attrgetter(node.target)(self.net)
        module = self.net.get_submodule(node.target)
        if not tensors:
            return module(*args, **kwargs)
        own = {key[len(node.target) + 1 :]: tensors[self.owner[key]] for key in self.keys_of[i]}
        return functional_call(module, own, args, kwargs)

    def _folded(self, node: fx.Node, x: Tensor, tensors: dict[str, Tensor]) -> Tensor:
        """A convolution with the batch norm after it: its weights times γ/σ, and a bias."""
        conv, norm = (self.net.get_submodule(name) for name in (node.target, self.norm_of[node].target))

        def own(name: str, key: str) -> Tensor:
            return tensors[self.owner[f"{name}.{key}"]]

        after = self.norm_of[node].target
        scale = own(after, "weight") * (own(after, "running_var") + norm.eps).rsqrt()
        bias = own(after, "bias") - own(after, "running_mean") * scale
        if conv.bias is not None:
            bias = bias + own(node.target, "bias") * scale
        weight = own(node.target, "weight") * scale[:, None, None, None]
        return F.conv2d(x, weight, bias, conv.stride, conv.padding, conv.dilation, conv.groups)

    def _norm_after(self, node: fx.Node) -> fx.Node | None:
        """The batch norm that alone uses a convolution's output, if there is one."""
        users = list(node.users)
        if not self._is(node, nn.Conv2d) or len(users) != 1 or not self._is(users[0], nn.BatchNorm2d):
            return None
        conv, norm = (self.net.get_submodule(each.target) for each in (node, users[0]))
        plain = conv.padding_mode == "zeros" and norm.affine and norm.track_running_stats and not node.kwargs
        return users[0] if plain else None

    def _is(self, node: fx.Node, kind: type) -> bool:
        return node.op == "call_module" and type(self.net.get_submodule(node.target)) is kind

    def _resolved(self, node: fx.Node) -> fx.Node:
        return self.value_of.get(node, node)

    def _inputs(self, node: fx.Node) -> list[fx.Node]:
        return list(dict.fromkeys(self._resolved(used) for used in node.all_input_nodes))

    def _find_owners(self, model: nn.Module, layers: Sequence[Layer]) -> None:
        """Which layers and state-dict keys each step uses; a tied parameter is its owner's."""
        named = dict(model.named_parameters(remove_duplicate=False))
        first = {id(named[key]): key for layer in layers for key in layer.parameters}
        self.owner = {key: first[id(value)] for key, value in named.items()}
        self.owner |= {key: key for layer in layers for key in layer.buffers}
        index = {key: i for i, layer in enumerate(layers) for key in layer.keys}
        self.keys_of = [self._keys(node) for node in self.nodes]
        self.layers_of = [sorted({index[self.owner[key]] for key in keys}) for keys in self.keys_of]

    def _keys(self, node: fx.Node) -> list[str]:
        if node.op == "get_attr":
            return [node.target] if node.target in self.owner else []
        modules = [node, self.norm_of[node]] if node in self.norm_of else [node] if node.op == "call_module" else []
        return [key for module in modules for key in self.owner if key.startswith(f"{module.target}.")]

    @torch.no_grad()
    def _find_rowwise(self, parts: Sequence[Tensor], points: Tensor, weights: Weights) -> None:
        """Which values have a row for each example, and which steps do to the rows of several points what they do to those of one;
        how large the largest value is.

        Sizes alone do not tell: a sequence may be as long as the batch. So two batches of different sizes, at two points, go through
        each step one by one, and one below the other.
        """
        values: list[dict[fx.Node, object]] = [{}, {}]
        self.has_rows, self.rowwise, self.largest = [], [], 1
        rows_of: dict[fx.Node, bool] = {}
        for i, node in enumerate(self.nodes):
            if node.op == "output":
                return
            if node.op == "placeholder":
                outs, rowwise = parts, False
            else:
                inputs = [[value[used] for used in self._inputs(node)] for value in values]
                tensors = [self._tensors(i, point[self.layers_of[i]].tolist(), weights) for point in points]
                outs = [self._run_tidily(i, *given) for given in zip(inputs, tensors, strict=True)]
                batched = [rows_of[used] for used in self._inputs(node)]
                rowwise = any(batched) and self._is_rowwise(i, inputs, batched, tensors[0], outs[0])
            if torch.is_tensor(outs[0]):
                self.largest = max(self.largest, outs[0].numel() // len(parts[0]))
            rows_of[node] = all(map(_has_rows, outs, parts))
            self.has_rows.append(rows_of[node])
            self.rowwise.append(rowwise and rows_of[node])
            for value, out in zip(values, outs, strict=True):
                value[node] = out

    def _is_rowwise(self, i: int, inputs: list[list], batched: list[bool], tensors: dict, first: object) -> bool:
        """Whether a step puts out for two batches, one below the other, what it puts out for each; what is no batch is the first's."""
        other = [theirs if rows else own for own, theirs, rows in zip(*inputs, batched, strict=True)]
        try:
            both = [torch.cat(pair) if rows else pair[0] for *pair, rows in zip(*inputs, batched, strict=True)]
            return _same(self._run(i, both, tensors), torch.cat([first, self._run(i, other, tensors)]))
        except Exception:  # whatever a step says of sizes that do not go together
            return False

    def _run_tidily(self, i: int, arguments: list, tensors: dict[str, Tensor]) -> object:
        given = [
            value for value in (*arguments, *tensors.values()) if torch.is_tensor(value) and not value.is_inference()
        ]
        before = [value._version for value in given]
        out = self._run(i, arguments, tensors)
        if before != [value._version for value in given]:
            raise ValueError(f"writes over its values in {self.nodes[i].name}")
        return out

    @torch.no_grad()
    def _check(
        self, plain: nn.Module, layers: Sequence[Layer], parts: Sequence[Tensor], points: Tensor, weights: Weights
    ) -> None:
        """Compare with the network itself, for two batches, at points that part at its start, within it, and everywhere."""
        states = [
            {key: weights(i, a)[key] for i, a in enumerate(point.tolist()) for key in layers[i].tensors}
            for point in points
        ]
        alone = [[functional_call(plain, state, (x,)) for state in states] for x in parts]
        for x, expected in zip(parts, alone, strict=True):
            for group, out in self.outputs(x, points, weights):
                if not all(_same(out, expected[k]) for k in group):
                    raise ValueError("the traced network computes something else")
        for order in (1, -1):  # what goes by threes shows in one order only
            together = functional_call(plain, states[0], (torch.cat(parts[::order]),))
            if not _same(together, torch.cat([expected[0] for expected in alone[::order]])):
                raise ValueError("what it makes of an example depends on the others in its batch")


@dataclass
class _Value:
    """What a step put out for all points: parts, of which some are several values one below the other."""

    parts: list
    is_batch: list[bool]
    places: list[tuple[int, int]]  # of every value: the part, and which of that part's it is
    which: Tensor  # of every point (n,): the number of its value's place

    def joined(self, places: list[tuple[int, int]], size: int) -> object:
        """The values at some places as one batch; `size` is the rows of a value. What is no batch is alike in all of them."""
        if not self.is_batch[places[0][0]]:
            return self.parts[places[0][0]]
        slices = []
        # neighbours in a part are taken as one piece
        for _, run in groupby(enumerate(places), lambda item: (item[1][0], item[1][1] - item[0])):
            run = [place for _, place in run]
            part, first = self.parts[run[0][0]], run[0][1] * size
            whole = first == 0 and len(run) * size == len(part)
            slices.append(part if whole else part[first : first + len(run) * size])
        return slices[0] if len(slices) == 1 else torch.cat(slices)


def _out_of_place(node: fx.Node) -> fx.Node:
    if node.op == "call_function" and node.target in IN_PLACE:
        node.target = IN_PLACE[node.target]
    if node.kwargs.get("inplace"):
        node.kwargs = {**node.kwargs, "inplace": False}
    if node.op == "call_method" and node.target.endswith("_") and not node.target.endswith("__"):
        raise ValueError(f"writes over its values with {node.target}")
    return node


def _has_rows(value: object, x: Tensor) -> bool:
    return torch.is_tensor(value) and value.dim() > 0 and len(value) == len(x)


def _same(one: Tensor, other: Tensor) -> bool:
    """Equal up to rounding, which is relative to the largest finite entry."""
    if one.shape != other.shape or one.dtype != other.dtype or one.is_complex():
        return False
    exact = not one.is_floating_point()
    close = 0.0 if exact else torch.finfo(one.dtype).eps ** 0.5
    scale = 0.0 if exact else float(torch.nan_to_num(other, 0, 0, 0).abs().max())
    return torch.allclose(one, other, rtol=close, atol=close * scale)
