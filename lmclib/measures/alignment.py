"""Alignment: the units of one network in the order of another's, which changes no output."""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor, fx, nn
from torch.nn.utils.parametrize import is_parametrized

from lmclib.errors import LmcError

SWEEPS = 50  # over all layers; each makes the two more alike, and it ends where none does
WEIGHTED, NORMS = (nn.Linear, nn.Conv2d), (nn.BatchNorm1d, nn.BatchNorm2d)
# what acts on each unit alone, or on the places of each channel
UNITWISE = (
    nn.ReLU,
    nn.GELU,
    nn.SiLU,
    nn.Tanh,
    nn.Sigmoid,
    nn.LeakyReLU,
    nn.Identity,
    nn.Dropout,
    nn.Flatten,
    nn.MaxPool2d,
    nn.AvgPool2d,
    nn.AdaptiveAvgPool2d,
)


@dataclass(frozen=True)
class _Units:
    """The units between two layers: who makes them, which norms act on them, who reads them."""

    maker: str
    norms: tuple[str, ...]
    reader: str


def align(model: nn.Module, t1: Mapping[str, Tensor], t2: Mapping[str, Tensor]) -> dict[str, Tensor]:
    r"""Model 2 with its hidden units permuted so that its weights are nearest to model 1's: weight matching.

    The permutations $\pi_1, \dots, \pi_{L-1}$ maximise $\sum_\ell \langle W^{(1)}_\ell,\, P_{\pi_\ell} W^{(2)}_\ell P_{\pi_{\ell-1}}^\top\rangle$ one at a time, each by a linear
    assignment, until none changes. The function of model 2 stays what it is. It is a local maximum: another order of layers may find a
    better one.

    Args:
        model: a plain chain of linear layers and convolutions (not grouped), batch norms, and what acts on each unit alone.
        t1: the state dict of model 1.
        t2: the state dict of model 2.

    Returns:
        The state dict of model 2 in the order of model 1's units.

    Raises:
        LmcError: another kind of network, such as one with skip connections.

    Source:
        Git Re-Basin (Ainsworth et al. 2023), algorithm 1, for networks without skip connections.

    Example:
        >>> net = nn.Sequential(nn.Linear(1, 2), nn.Tanh(), nn.Linear(2, 1))
        >>> t1 = {"0.weight": torch.tensor([[1.0], [5.0]]), "0.bias": torch.zeros(2), "2.weight": torch.tensor([[2.0, 3.0]])}
        >>> t1["2.bias"] = torch.zeros(1)
        >>> t2 = t1 | {"0.weight": torch.tensor([[5.0], [1.0]]), "2.weight": torch.tensor([[3.0, 2.0]])}
        >>> align(net, t1, t2)["0.weight"].tolist()
        [[1.0], [5.0]]
    """
    chain = _chain(model)
    moved = dict(t2)
    for _ in range(SWEEPS):
        if not any([_improved(units, t1, moved) for units in chain]):  # a list: each one has its turn
            break
    return moved


def _improved(units: _Units, t1: Mapping[str, Tensor], moved: dict[str, Tensor]) -> bool:
    """Put the units between two layers in the best order for all others as they are; whether that changed anything."""
    n = len(t1[f"{units.maker}.weight"])
    alike = sum(_rows(t1, key, n) @ _rows(moved, key, n).T for key in _made(units, moved))
    alike = alike + _columns(t1, units.reader, n) @ _columns(moved, units.reader, n).T
    _, order = linear_sum_assignment(alike.numpy(), maximize=True)
    order = torch.from_numpy(order)
    gain = alike[torch.arange(n), order].sum() - alike.diagonal().sum()
    if gain <= 1e-9 * alike.abs().sum():  # rounding is no gain
        return False
    for key in _made(units, moved):
        moved[key] = moved[key][order]
    key = f"{units.reader}.weight"
    weight = moved[key]
    moved[key] = weight.unflatten(1, (n, -1))[:, order].flatten(1, 2)
    return True


def _made(units: _Units, state: Mapping[str, Tensor]) -> list[str]:
    """The keys of tensors whose rows are these units."""
    names = ("weight", "bias", "running_mean", "running_var")
    return [f"{layer}.{name}" for layer in (units.maker, *units.norms) for name in names if f"{layer}.{name}" in state]


def _rows(state: Mapping[str, Tensor], key: str, n: int) -> Tensor:
    return state[key].double().reshape(n, -1).cpu()


def _columns(state: Mapping[str, Tensor], reader: str, n: int) -> Tensor:
    """What a layer reads of each unit; of a flattened image every place of a channel."""
    return state[f"{reader}.weight"].double().unflatten(1, (n, -1)).transpose(0, 1).reshape(n, -1).cpu()


def _chain(model: nn.Module) -> list[_Units]:
    """The units between neighbouring layers, in the order of the forward pass.

    Raises:
        LmcError: no plain chain.
    """
    try:
        nodes = [node for node in fx.symbolic_trace(model).graph.nodes if node.op not in ("placeholder", "output")]
    except Exception as error:  # control flow on values raises whatever it meets
        raise LmcError(f"model: {type(model).__name__} cannot be aligned, as it cannot be traced ({error})") from None
    found, maker, norms = [], None, []
    if len({node.target for node in nodes}) < len(nodes):
        raise LmcError(f"model: {type(model).__name__} cannot be aligned, as it uses a layer twice")
    for node in nodes:
        module = model.get_submodule(node.target) if node.op == "call_module" else None
        if len(node.all_input_nodes) != 1 or len(node.users) != 1 or not _is_plain(module):
            raise LmcError(
                f"model: {type(model).__name__} cannot be aligned at {node.name!r}; must be a plain chain of layers"
            )
        if isinstance(module, NORMS):
            norms.append(node.target)
        elif isinstance(module, WEIGHTED):
            if maker is not None:
                found.append(_Units(maker, tuple(norms), node.target))
            maker, norms = node.target, []
    return found


def _is_plain(module: nn.Module | None) -> bool:
    if isinstance(module, nn.Conv2d) and module.groups > 1:
        return False
    return isinstance(module, (*WEIGHTED, *NORMS, *UNITWISE)) and not is_parametrized(module)
