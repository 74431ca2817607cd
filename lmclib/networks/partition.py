"""What is averaged with one coefficient: single tensors, layers, blocks of layers, or whatever a pattern takes together."""

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from difflib import get_close_matches
from itertools import groupby

from torch import nn

from lmclib.errors import LmcError
from lmclib.networks.layers import Layer

Partition = str | Mapping[str, Sequence[str]]
NAMED = ("layers", "blocks", "fine")
BLOCK = re.compile(r"(?:.*?[._])?\d+(?=\.)")  # up to the first number in a path that goes on: layer1.0, transformer.h.3


def partitioned(
    model: nn.Module, layers: Sequence[Layer], partition: Partition = "layers", asked: str = "layers"
) -> tuple[Layer, ...]:
    r"""The axes of a layer cube: a partition of the network's tensors, so that $\Delta = \sum_\ell P_\ell \Delta$.

    `layers` are modules that own parameters. `blocks` are what a path is called up to its first number, such as `layer1.0` or
    `transformer.h.3`; a layer without one is its own block. `fine` are single parameters; running statistics go with the first of their
    layer. Anything else is a regular expression: layers in whose names it finds the same text (its first group, if it has one) are
    taken together, and each of the others stays alone. A mapping gives each axis its name, and the layers or parameters on it.

    Args:
        model: the network, which says which keys are tied.
        layers: its layers, from `find_layers`.
        partition: `layers`, `blocks`, `fine`, a regular expression, or names with what they stand for.
        asked: what the argument is called where the reader gave it, for messages.

    Returns:
        The axes, in the order in which the forward pass reaches the first layer of each.

    Raises:
        LmcError: no regular expression, or one that finds nothing; names that miss, repeat or do not know a parameter.

    Example:
        >>> layers = [Layer(name, (f"{name}.weight",), ()) for name in ("stem", "layer1.0.conv", "layer1.0.norm", "layer1.1.conv")]
        >>> [axis.name for axis in partitioned(nn.Linear(1, 1), layers, "blocks")]
        ['stem', 'layer1.0', 'layer1.1']
        >>> [axis.name for axis in partitioned(nn.Linear(1, 1), layers, "conv|norm")]
        ['stem', 'conv', 'norm']
    """
    if not isinstance(partition, str):
        return _by_name(model, layers, partition, asked)
    if partition == "layers":
        return tuple(layers)
    if partition == "fine":
        return tuple(single for layer in layers for single in _tensors(model, layer))
    return _together(layers, BLOCK if partition == "blocks" else _pattern(partition, layers, asked))


def _by_name(
    model: nn.Module, layers: Sequence[Layer], partition: Mapping[str, Sequence[str]], asked: str
) -> tuple[Layer, ...]:
    """Layers and parameters taken together as the reader says."""
    whole = {layer.name: layer for layer in layers}
    single = {part.name: part for layer in layers for part in _tensors(model, layer)}
    axes = []
    for name, members in partition.items():
        members = [members] if isinstance(members, str) else members
        for member in members:
            if member not in whole and member not in single:
                near = get_close_matches(member, [*whole, *single], 1) or [*whole][:1]
                raise LmcError(
                    f"{asked}: {name!r} holds {member!r}, which the model does not have; did you mean {near[0]!r}?"
                )
        axes.append(_joined(name, [whole.get(member) or single[member] for member in members]))
    count = Counter(key for axis in axes for key in axis.parameters)
    for key in (key for layer in layers for key in layer.parameters):
        if count[key] != 1:
            raise LmcError(f"{asked}: {key!r} is on {count[key] or 'no'} axes; must be on exactly one")
    return tuple(axes)


def _pattern(partition: str, layers: Sequence[Layer], asked: str) -> re.Pattern:
    try:
        pattern = re.compile(partition)
    except re.error as error:
        raise LmcError(f"{asked}={partition!r}: must be {_allowed()} ({error})") from None
    if not any(pattern.search(layer.name) for layer in layers):
        some = ", ".join(layer.name for layer in layers[:3])
        raise LmcError(f"{asked}={partition!r}: is found in no layer's name, such as {some}; must be {_allowed()}")
    return pattern


def _allowed() -> str:
    return f"{', '.join(NAMED)}, or a regular expression found in names of layers"


def _together(layers: Sequence[Layer], pattern: re.Pattern) -> tuple[Layer, ...]:
    """Layers in whose names a pattern finds the same, as one."""
    names = []
    for layer in layers:
        found = pattern.search(layer.name)
        names.append(layer.name if found is None else found[1] if pattern.groups and found[1] else found[0])
    order = sorted(range(len(layers)), key=lambda i: names.index(names[i]))  # stable: within a group as they were
    return tuple(_joined(name, [layers[i] for i in group]) for name, group in groupby(order, key=lambda i: names[i]))


def _joined(name: str, layers: Sequence[Layer]) -> Layer:
    parts = (
        tuple(key for layer in layers for key in getattr(layer, part)) for part in ("parameters", "buffers", "aliases")
    )
    return Layer(name, *parts)


def _tensors(model: nn.Module, layer: Layer) -> list[Layer]:
    """Every parameter of a layer by itself, with the keys that it is tied to."""
    identity = {key: id(value) for key, value in model.named_parameters(remove_duplicate=False)}
    tied = {key: tuple(a for a in layer.aliases if identity.get(a) == identity.get(key)) for key in layer.parameters}
    singles = [Layer(key, (key,), (), tied[key]) for key in layer.parameters]
    rest = tuple(alias for alias in layer.aliases if not any(alias in aliases for aliases in tied.values()))
    singles[0] = replace(singles[0], buffers=layer.buffers, aliases=singles[0].aliases + rest)
    return singles
