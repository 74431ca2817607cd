"""Which tensors two checkpoints share with a network and with each other; what does not match stays the first model's."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from lmclib.errors import LmcError
from lmclib.merging.checkpoints import Checkpoint
from lmclib.merging.models import tied_keys

SHOWN = 3  # mismatches that a message names
Shapes = Mapping[str, tuple[int, ...]]


class Fitted(Mapping):
    """A checkpoint under the keys of a network: tied tensors that a file holds once under every key, a common prefix added or left out.

    Half-precision tensors come as they are; what reads them computes in float32.
    """

    def __init__(self, checkpoint: Checkpoint, model: nn.Module):
        self.checkpoint = checkpoint
        self.sources = _sources(checkpoint, model)
        # buffers that older files of Hugging Face hold and its networks no longer have
        self._passed_over = getattr(model, "_keys_to_ignore_on_load_unexpected", None) or ()

    def __getitem__(self, key: str) -> Tensor:
        return self.checkpoint[self.sources[key]]

    def __iter__(self) -> Iterator[str]:
        return iter(self.sources)

    def __len__(self) -> int:
        return len(self.sources)

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """The shape of every tensor."""
        return {key: self.checkpoint.shapes[source] for key, source in self.sources.items()}

    @property
    def types(self) -> dict[str, torch.dtype | None]:
        """The floating type of every tensor; None where it holds whole numbers."""
        return {key: self.checkpoint.types[source] for key, source in self.sources.items()}

    @property
    def unused(self) -> list[str]:
        """What the file holds and the network has no place for."""
        rest = set(self.checkpoint) - set(self.sources.values())
        return sorted(key for key in rest if not any(re.search(pattern, key) for pattern in self._passed_over))


@dataclass(frozen=True)
class Match:
    """Two checkpoints of one network.

    Attributes:
        one: model 1, complete.
        two: model 2, as far as it matches.
        kept: what of model 2 does not match, with the reason; it stays model 1's.
    """

    one: Fitted
    two: Fitted
    kept: dict[str, str] = field(default_factory=dict)


def match(model: nn.Module, first: Checkpoint, second: Checkpoint) -> Match:
    """Compare two checkpoints with a network, by keys and shapes; nothing is read but headers.

    The first must be complete. Of the second less may match, but the greater part of all numbers must.

    Raises:
        LmcError: names the first mismatches with their shapes.
    """
    wanted = {key: tuple(value.shape) for key, value in model.state_dict().items()}
    one, two = Fitted(first, model), Fitted(second, model)
    if (wrong := _mismatches(wanted, one.shapes)) or one.unused:
        wrong |= {key: f"{first.shapes[key]} where the model has none" for key in one.unused}
        raise LmcError(f"{first.path}: is of another architecture than the model: {_shown(wrong)}")
    kept = _mismatches(wanted, two.shapes)
    left_out = sum(_numel(wanted[key]) for key in kept)
    if 2 * left_out > sum(map(_numel, wanted.values())):
        raise LmcError(f"{second.path}: is of another architecture than {first.path}: {_shown(kept)}")
    kept |= {key: f"{second.shapes[key]} where the first has none" for key in two.unused}
    return Match(one, two, kept)


def _sources(checkpoint: Checkpoint, model: nn.Module) -> dict[str, str]:
    """The key in the file for every key of the network that it has."""
    tied, state = tied_keys(model), model.state_dict()
    prefix = f"{getattr(model, 'base_model_prefix', '')}."
    found = {}
    for key in state:
        for name in (key, key.removeprefix(prefix), *tied.get(key, ())):
            if name in checkpoint:
                found[key] = name
                break
    return found


def _mismatches(wanted: Shapes, found: Shapes) -> dict[str, str]:
    return {
        key: f"{found.get(key, 'absent')} where the model has {shape}"
        for key, shape in wanted.items()
        if found.get(key) != shape
    }


def _shown(wrong: Mapping[str, str]) -> str:
    first = "; ".join(f"{key}: {said}" for key, said in list(wrong.items())[:SHOWN])
    more = f"; and {len(wrong) - SHOWN} more" if len(wrong) > SHOWN else ""
    return first + more


def _numel(shape: tuple[int, ...]) -> int:
    return torch.Size(shape).numel()
