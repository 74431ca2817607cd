"""Alignment: the units of one network in the order of another's, which changes no output."""

import operator
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor, fx, nn
from torch.nn import functional as F

from lmclib.cube.interpolation import check_states
from lmclib.errors import LmcError

LEARNT = "weight", "bias"
MEASURED = (
    "running_mean",
    "running_var",
)  # which move with the units and do not count: large, they would be all that counts
SWEEPS = 50  # over all units; each makes the two networks more alike, and it ends where none does
WEIGHTED, NORMS = (nn.Linear, nn.Conv2d), (nn.BatchNorm1d, nn.BatchNorm2d, nn.GroupNorm)
# what acts on each unit alone, or on the places of each channel: modules, functions, and methods by their names
UNITWISE = (nn.ReLU, nn.GELU, nn.SiLU, nn.Tanh, nn.Sigmoid, nn.LeakyReLU, nn.Identity, nn.Dropout, nn.Flatten)
POOLS = (nn.MaxPool2d, nn.AvgPool2d, nn.AdaptiveAvgPool2d)
FUNCTIONS = (F.relu, F.gelu, F.silu, F.leaky_relu, F.dropout, F.max_pool2d, F.avg_pool2d, F.adaptive_avg_pool2d)
OPERATIONS = (torch.relu, torch.tanh, torch.sigmoid, "relu", "tanh", "sigmoid")
FLATTENED, MEANS = (torch.flatten, "flatten"), (torch.mean, "mean")
SUMS = (operator.add, operator.iadd, torch.add, "add", "add_")  # of values that have their units in one order


@dataclass(eq=False)
class _Units:
    """Units that have one order: who makes them, which norms act on them, who reads them; `fixed` are those of inputs and outputs."""

    makers: list[str] = field(default_factory=list)
    norms: list[str] = field(default_factory=list)
    readers: list[str] = field(default_factory=list)
    fixed: bool = False


def align(model: nn.Module, t1: Mapping[str, Tensor], t2: Mapping[str, Tensor]) -> dict[str, Tensor]:
    r"""Model 2 with its hidden units permuted so that its weights are nearest to model 1's: weight matching.

    The permutations $\pi$, one for all layers whose units have one order (those that a skip connection adds up share theirs), maximise
    $\sum_\ell \langle W^{(1)}_\ell,\, P_{\mathrm{out}(\ell)} W^{(2)}_\ell P_{\mathrm{in}(\ell)}^\top\rangle$ one at a time, each by a linear assignment, until none changes. The function of
    model 2 stays what it is. It is a local maximum, the better of two: from model 2's own order, and from one that is found layer by layer
    from the inputs on.

    Args:
        model: linear layers and convolutions (not grouped), batch norms, what acts on each unit alone, and sums, as in residual networks.
        t1: the state dict of model 1.
        t2: the state dict of model 2.

    Returns:
        The state dict of model 2 in the order of model 1's units.

    Raises:
        LmcError: another kind of network, such as one with attention; state dicts that are not this network's.

    Source:
        Git Re-Basin (Ainsworth et al. 2023), algorithm 1.

    Example:
        >>> net = nn.Sequential(nn.Linear(1, 2), nn.Tanh(), nn.Linear(2, 1))
        >>> t1 = {"0.weight": torch.tensor([[1.0], [5.0]]), "0.bias": torch.zeros(2), "2.weight": torch.tensor([[2.0, 3.0]])}
        >>> t1["2.bias"] = torch.zeros(1)
        >>> t2 = t1 | {"0.weight": torch.tensor([[5.0], [1.0]]), "2.weight": torch.tensor([[3.0, 2.0]])}
        >>> align(net, t1, t2)["0.weight"].tolist()
        [[1.0], [5.0]]
    """
    every = _units(model)
    check_states(model, t1, t2)
    starts = dict(t2), _from_inputs(every, t1, t2)
    found = [_matched(every, t1, start) for start in starts]
    return max(found, key=lambda moved: _likeness(t1, moved))  # of equals the first, in which the least is moved


def _matched(every: Sequence[_Units], t1: Mapping[str, Tensor], moved: dict[str, Tensor]) -> dict[str, Tensor]:
    """Where permuting one group of units after the other comes to."""
    for _ in range(SWEEPS):
        if not any([_improved(units, t1, moved, units.makers, units.readers) for units in every]):  # each has its turn
            break
    return moved


def _from_inputs(every: Sequence[_Units], t1: Mapping[str, Tensor], t2: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Units matched in the order of the forward pass, by those weights alone whose other units have been matched before."""
    moved, behind = dict(t2), {name for units in every for name in units.readers}
    ahead = {name for units in every for name in units.makers}
    for units in every:
        makers = [name for name in units.makers if name not in behind] or units.makers
        readers = [name for name in units.readers if name not in ahead]
        _improved(units, t1, moved, makers, readers)
        behind -= set(units.readers)
        ahead -= set(units.makers)
    return moved


def _likeness(t1: Mapping[str, Tensor], moved: Mapping[str, Tensor]) -> float:
    """What is maximised."""
    counted = (key for key in t1 if key.rpartition(".")[2] in LEARNT)
    return sum(float((t1[key].double() * moved[key].double()).sum()) for key in counted)


def _improved(
    units: _Units, t1: Mapping[str, Tensor], moved: dict[str, Tensor], makers: Sequence[str], readers: Sequence[str]
) -> bool:
    """Put units in the best order for all others as they are, judged by some layers; whether that changed anything."""
    n = len(t1[f"{units.makers[0]}.weight"])
    learnt = _made([*makers, *units.norms], moved, LEARNT)
    alike = sum(_rows(t1, key, n) @ _rows(moved, key, n).T for key in learnt)
    for reader in readers:
        alike = alike + _columns(t1, reader, n) @ _columns(moved, reader, n).T
    _, order = linear_sum_assignment(alike.numpy(), maximize=True)
    order = torch.from_numpy(order)
    gain = alike[torch.arange(n), order].sum() - alike.diagonal().sum()
    if gain <= 1e-9 * alike.abs().sum():  # rounding is no gain
        return False
    for key in _made([*units.makers, *units.norms], moved):
        moved[key] = moved[key][order]
    for reader in units.readers:
        key = f"{reader}.weight"
        moved[key] = moved[key].unflatten(1, (n, -1))[:, order].flatten(1, 2)
    return True


def _made(layers: Sequence[str], state: Mapping[str, Tensor], names: Sequence[str] = (*LEARNT, *MEASURED)) -> list[str]:
    """The keys of tensors whose rows are the units that some layers make or act on."""
    return [f"{layer}.{name}" for layer in layers for name in names if f"{layer}.{name}" in state]


def _rows(state: Mapping[str, Tensor], key: str, n: int) -> Tensor:
    return state[key].double().reshape(n, -1).cpu()


def _columns(state: Mapping[str, Tensor], reader: str, n: int) -> Tensor:
    """What a layer reads of each unit; of a flattened image every place of a channel."""
    return state[f"{reader}.weight"].double().unflatten(1, (n, -1)).transpose(0, 1).reshape(n, -1).cpu()


def _units(model: nn.Module) -> list[_Units]:
    """All units that can be permuted, those together that have one order, in the order of the forward pass.

    Raises:
        LmcError: something in the network may depend on the order of units.
    """
    kind = type(model).__name__
    if len(dict(model.named_parameters())) < len(dict(model.named_parameters(remove_duplicate=False))):
        raise LmcError(f"model: {kind} cannot be aligned, as it uses a weight twice")
    try:
        nodes = list(fx.symbolic_trace(model).graph.nodes)
    except Exception as error:  # control flow on values raises whatever it meets
        raise LmcError(f"model: {kind} cannot be aligned, as it cannot be traced ({error})") from None
    owners = [node.target for node in nodes if node.op == "call_module" and _weighted(model, node)]
    if len(set(owners)) < len(owners):
        raise LmcError(f"model: {kind} cannot be aligned, as it uses a layer twice")
    of: dict[fx.Node, _Units] = {}
    for node in nodes:
        if not _followed(model, node, of):
            allowed = "linear layers, convolutions, batch norms, what acts on each unit alone, and sums"
            raise LmcError(f"model: {kind} cannot be aligned at {node.name!r}; must be made of {allowed}")
    found = [units for units in dict.fromkeys(of.values()) if not units.fixed and units.readers]
    for units in found:
        if both := set(units.makers) & set(units.readers):
            raise LmcError(f"model: {kind} cannot be aligned at {min(both)!r}, which reads the units that it makes")
    return found


def _followed(model: nn.Module, node: fx.Node, of: dict[fx.Node, _Units]) -> bool:
    """Note which units the value of a node has; whether that can be said."""
    if node.op == "placeholder":
        of[node] = _Units(fixed=True)
        return True
    inputs = node.all_input_nodes
    if node.op == "output":
        for used in inputs:
            of[used].fixed = True
        return True
    module = model.get_submodule(node.target) if node.op == "call_module" else None
    if node.target in SUMS:
        for used in inputs[1:]:
            _join(of[inputs[0]], of[used], of)
        of[node] = of[inputs[0]]
        return True
    if len(inputs) != 1:
        return False
    units = of[inputs[0]]
    if isinstance(module, WEIGHTED):
        if getattr(module, "groups", 1) > 1 or not isinstance(
            module.weight, nn.Parameter
        ):  # made of others, as by weight norm
            return False
        units.readers.append(node.target)
        of[node] = _Units([node.target])
        return True
    of[node] = units
    if isinstance(module, NORMS) and getattr(module, "num_groups", 1) == 1:
        units.norms.append(node.target)
        return True
    return isinstance(module, (*UNITWISE, *POOLS)) if module is not None else _is_unitwise(node)


def _is_unitwise(node: fx.Node) -> bool:
    """Whether a function or method acts on units alone: a mean only over places, a flattening only of what is behind the examples."""
    given = [*node.args[1:], *node.kwargs.values()]
    if node.target in FLATTENED:
        return given == [1]
    if node.target in MEANS:
        dims = given[0] if given and isinstance(given[0], (tuple, list)) else given[:1]
        return bool(dims) and all(dim in (2, 3, -1, -2) for dim in dims)
    return node.op != "get_attr" and node.target in (*FUNCTIONS, *OPERATIONS)


def _join(one: _Units, other: _Units, of: dict[fx.Node, _Units]) -> None:
    """Make the units of two values one group."""
    if one is other:
        return
    one.makers += other.makers
    one.norms += other.norms
    one.readers += other.readers
    one.fixed |= other.fixed
    of |= {node: one for node, units in of.items() if units is other}


def _weighted(model: nn.Module, node: fx.Node) -> bool:
    return any(True for _ in model.get_submodule(node.target).parameters())
