"""Many points of the layer cube at once: networks that agree up to a layer share the pass up to there."""

import copy
import operator
from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor, fx, nn
from torch.func import functional_call

from lmclib.layers import Layer

IN_PLACE = {
    operator.iadd: operator.add,
    operator.isub: operator.sub,
    operator.imul: operator.mul,
    operator.itruediv: operator.truediv,
}
Weights = Callable[[int, float], dict[str, Tensor]]  # a layer's index and coefficient to its tensors by state-dict key


class Prefixes:
    r"""The outputs of a network at many points of its layer cube, computed as a tree over the forward pass.

    Points are walked together as long as their coefficients agree on the layers that were reached. Where they part, each
    branch goes on from the values that are alive there. A sweep over single layers so costs half of what its points
    cost one by one, as does a staircase. Only values that a later step needs are kept: one frontier of the
    pass for every open branching.

    Args:
        model: the architecture.
        layers: its layers, from `find_layers`.
        x: a batch of inputs for a check that the traced network is the network.

    Raises:
        ValueError: the network cannot be traced, or not be taken apart safely; evaluate its points one by one.
    """

    def __init__(self, model: nn.Module, layers: Sequence[Layer], x: Tensor):
        plain = copy.deepcopy(model).eval()
        for module in plain.modules():
            if getattr(module, "inplace", False):
                module.inplace = False  # branches share values, so nothing may write over them
        try:
            self.net = fx.symbolic_trace(plain)
        except Exception as error:  # control flow on values raises whatever it meets
            raise ValueError(f"cannot be traced: {error}") from None
        self.nodes = [_out_of_place(node) for node in self.net.graph.nodes]
        self._find_owners(model, layers)
        last = {used: i for i, node in enumerate(self.nodes) for used in node.all_input_nodes}
        self.dead = [[node for node, at in last.items() if at == i] for i in range(len(self.nodes))]
        ours = [out for _, out in self.outputs(x, torch.zeros(1, len(layers)), lambda layer, _: self._own(layer))]
        with torch.no_grad():
            if not torch.allclose(ours[0], plain(x), rtol=1e-4, atol=1e-5):
                raise ValueError("the traced network computes something else")

    def outputs(self, x: Tensor, points: Tensor, weights: Weights) -> Iterator[tuple[list[int], Tensor]]:
        """The outputs on a batch at points (n, L), as pairs of the points' numbers and their outputs (B, ...)."""
        yield from self._walk(0, {}, list(range(len(points))), x, points.tolist(), weights)

    def _walk(self, start: int, alive: dict, group: list[int], x: Tensor, points: list, weights: Weights):
        for i in range(start, len(self.nodes)):
            node = self.nodes[i]
            if node.op == "output":
                yield group, alive[node.args[0]]
                return
            *branches, group = _branches(group, [[points[k][layer] for layer in self.layers_of[i]] for k in group])
            for branch in branches:
                yield from self._walk(i, dict(alive), branch, x, points, weights)
            alive[node] = x if node.op == "placeholder" else self._run(i, alive, points[group[0]], weights)
            for done in self.dead[i]:
                del alive[done]

    def _run(self, i: int, alive: dict, point: list[float], weights: Weights) -> object:
        node = self.nodes[i]
        args, kwargs = fx.node.map_arg((node.args, node.kwargs), lambda other: alive[other])
        tensors = {key: value for layer in self.layers_of[i] for key, value in weights(layer, point[layer]).items()}
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
        own = {key: tensors[self.owner[key]] for key in self.keys_of[i]}
        return functional_call(module, {key[len(node.target) + 1 :]: value for key, value in own.items()}, args, kwargs)

    def _find_owners(self, model: nn.Module, layers: Sequence[Layer]) -> None:
        """Which layers and state-dict keys each step uses; a tied parameter is its owner's."""
        named = dict(model.named_parameters(remove_duplicate=False))
        first = {id(named[key]): key for layer in layers for key in layer.parameters}
        self.owner = {key: first[id(value)] for key, value in named.items()}
        self.owner |= {key: key for layer in layers for key in layer.buffers}
        index = {key: i for i, layer in enumerate(layers) for key in layer.keys}
        self.keys_of = []
        for node in self.nodes:
            if node.op == "call_module":
                self.keys_of.append([key for key in self.owner if key.startswith(f"{node.target}.")])
            else:
                self.keys_of.append([node.target] if node.op == "get_attr" and node.target in self.owner else [])
        self.layers_of = [sorted({index[self.owner[key]] for key in keys}) for keys in self.keys_of]
        state = model.state_dict()
        self._own = lambda layer: {key: state[key] for key in layers[layer].keys}


def _branches(group: list[int], coefficients: list[list[float]]) -> list[list[int]]:
    """The group split by coefficients, the largest branch last."""
    split: dict[tuple, list[int]] = {}
    for k, own in zip(group, coefficients, strict=True):
        split.setdefault(tuple(own), []).append(k)
    return sorted(split.values(), key=len)


def _out_of_place(node: fx.Node) -> fx.Node:
    if node.op == "call_function" and node.target in IN_PLACE:
        node.target = IN_PLACE[node.target]
    if node.kwargs.get("inplace"):
        node.kwargs = {**node.kwargs, "inplace": False}
    if node.op == "call_method" and node.target.endswith("_") and not node.target.endswith("__"):
        raise ValueError(f"writes over its values with {node.target}")
    return node
