"""Two checkpoints as the two ends of a layer cube."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor, nn

from lmclib.cube.interpolation import Interpolation
from lmclib.cube.points import LayerCube
from lmclib.errors import LmcError
from lmclib.merging.checkpoints import Checkpoint
from lmclib.merging.data import Pair
from lmclib.merging.matching import Match, match
from lmclib.merging.streamed import PIECE, StreamedCube
from lmclib.networks.layers import Layer, find_layers
from lmclib.networks.partition import partitioned

LARGE = 2**28  # bytes of a checkpoint from which on the ends stay on disk
Cube = LayerCube | StreamedCube
Loss = str | Callable[[Tensor, Tensor], Tensor]


@dataclass(frozen=True)
class Ends:
    """Two checkpoints of one network, compared, and what of them differs.

    Attributes:
        model: the network.
        first: model 1.
        second: model 2.
        matched: which of their tensors go together.
        axes: what moves, in the order of the forward pass.
        still: all other layers.
        identical: layers whose tensors are the same in both.
        kept: tensors, or whole layers that hold one, that do not match, with the reason; they stay model 1's.
    """

    model: nn.Module
    first: Checkpoint
    second: Checkpoint
    matched: Match
    axes: tuple[Layer, ...]
    still: tuple[Layer, ...]
    identical: tuple[str, ...]
    kept: dict[str, str]

    @property
    def states(self) -> tuple[Mapping[str, Tensor], Mapping[str, Tensor]]:
        """Both state dicts, read where they are asked for; what does not match is model 1's in both."""
        moving = {key for axis in self.axes for key in axis.keys}
        return self.matched.one, _Second(self.matched, moving)

    @cached_property
    def dtype(self) -> torch.dtype:
        """What is computed in: float64 where a checkpoint is, else float32."""
        types = {*self.matched.one.types.values(), *self.matched.two.types.values()}
        return torch.float64 if torch.float64 in types else torch.float32

    @property
    def large(self) -> bool:
        """Whether the ends stay on disk, with one network in memory."""
        return max(self.first.size, self.second.size) >= LARGE

    def cube(self, data: Pair, loss: Loss, norm_stats: str = "interpolate", norm_data: Pair | None = None) -> Cube:
        """The layer cube between the two on some data.

        Raises:
            LmcError: recomputed statistics of checkpoints that stay on disk.
        """
        if not self.large:
            t1, t2 = ({key: _widened(value, self.dtype) for key, value in state.items()} for state in self.states)
            cube = LayerCube(self.model, t1, t2, data, loss, norm_stats, norm_data)
            cube.ends = Interpolation(cube.ends.t1, cube.ends.t2, covering(self.axes, self.still))
            return cube
        if norm_stats != "interpolate":
            raise LmcError(
                f"norm_stats={norm_stats!r}: checkpoints of {LARGE:,} bytes and more stay on disk; must be 'interpolate'"
            )
        return StreamedCube(self.model, *self.states, self.axes, data, loss, self.dtype)


def open_ends(model: nn.Module, first: Checkpoint, second: Checkpoint, x: Tensor, partition: str = "layers") -> Ends:
    """Compare two checkpoints of a network, once through both files.

    Args:
        model: the network.
        first: model 1, complete.
        second: model 2; what of it does not match stays model 1's, by whole layers.
        x: inputs to send through the network, which tells the order of layers.
        partition: as `partitioned` takes it.

    Raises:
        LmcError: another architecture, NaN weights, the same weights twice, a wrong partition.
    """
    matched = match(model, first, second)
    layers = find_layers(model, x[:2])
    kept = dict(matched.kept)
    whole, still = [], []
    for layer in layers:
        if bad := [key for key in layer.tensors if key in kept]:
            kept |= {key: f"its layer has {bad[0]} elsewise" for key in layer.tensors if key not in kept}
            still.append(layer)
        else:
            whole.append(layer)
    if not whole:
        raise LmcError(f"{second.path}: matches {first.path} in no whole layer; must be of the same architecture")
    same = _same(matched, first, second)
    axes = partitioned(model, whole, partition, "partition")
    moving = tuple(axis for axis in axes if any(key not in same for key in axis.tensors))
    if not moving:
        raise LmcError(
            f"{first.path} and {second.path}: are identical in all weights; must be two different checkpoints"
        )
    same_axes = [axis for axis in axes if axis not in moving]
    identical = tuple(axis.name for axis in same_axes)
    return Ends(model, first, second, matched, moving, (*still, *same_axes), identical, kept)


def covering(axes: Sequence[Layer], others: Iterable[Layer]) -> tuple[Layer, ...]:
    """The axes with every tensor of the network in one of them, as points that share passes want it: what does not move goes with the
    first, where it makes no difference.

    Example:
        >>> axes = covering([Layer("a", ("a.weight",), ()), Layer("c", ("c.weight",), ())], [Layer("b", ("b.weight",), ())])
        >>> [(axis.name, axis.parameters) for axis in axes]
        [('a', ('a.weight', 'b.weight')), ('c', ('c.weight',))]
    """
    first, *rest = axes
    taken = {key for axis in axes for key in axis.keys}
    parts = []
    for part in ("parameters", "buffers", "aliases"):
        added = dict.fromkeys(key for layer in others for key in getattr(layer, part) if key not in taken)
        parts.append((*getattr(first, part), *added))
    return (Layer(first.name, *parts), *rest)


def on_data(cube: Cube, data: object) -> Cube:
    """The same cube on other data, with interpolated statistics."""
    if isinstance(cube, StreamedCube):
        return cube.on(data)
    size = cube.batching.size
    other = LayerCube(cube.model, cube.ends.t1, cube.ends.t2, data, cube.loss, batch_size=size, device=cube.device)
    other.ends = cube.ends  # with its axes
    return other


def _same(matched: Match, first: Checkpoint, second: Checkpoint) -> set[str]:
    """The keys of equal tensors; all are checked for weights that are not finite."""
    same = set()
    for key, one in matched.one.items():
        _check_finite(first, key, one)
        if key in matched.kept:
            continue
        _check_finite(second, key, two := matched.two[key])
        if _equal(one, two):
            same.add(key)
    return same


def _equal(one: Tensor, two: Tensor) -> bool:
    pieces = zip(one.reshape(-1).split(PIECE), two.reshape(-1).split(PIECE), strict=True)
    return all(torch.equal(first, second.to(first.dtype)) for first, second in pieces)


def _check_finite(checkpoint: Checkpoint, key: str, value: Tensor) -> None:
    pieces = value.reshape(-1).split(PIECE) if value.is_floating_point() else ()
    if not all(bool(piece.isfinite().all()) for piece in pieces):  # in pieces, as `isfinite` makes a copy
        raise LmcError(f"{checkpoint.path}: {key!r} holds NaN or infinite weights; every weight must be finite")


def _widened(value: Tensor, dtype: torch.dtype) -> Tensor:
    return value.to(dtype) if value.is_floating_point() else value


class _Second(Mapping):
    """Model 2 where it moves, and model 1 elsewhere."""

    def __init__(self, matched: Match, moving: set[str]):
        self.matched, self.moving = matched, moving

    def __getitem__(self, key: str) -> Tensor:
        return (self.matched.two if key in self.moving else self.matched.one)[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self.matched.one)

    def __len__(self) -> int:
        return len(self.matched.one)
