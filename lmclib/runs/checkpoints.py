"""How a run's networks are called and laid out in the store."""

from collections.abc import Mapping

from torch import Tensor


def step_name(step: int) -> str:
    """The name of the checkpoint after a step.

    Example:
        >>> step_name(45)
        '00000045'
    """
    return f"{step:08d}"


def joined_state(state: Mapping[str, Tensor], momentum: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A state dict and its momentum as one mapping."""
    return {**{f"state/{k}": v for k, v in state.items()}, **{f"momentum/{k}": v for k, v in momentum.items()}}


def split_state(tensors: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """The inverse of `joined_state`."""
    parts = {"state": {}, "momentum": {}}
    for key, value in tensors.items():
        part, _, name = key.partition("/")
        parts[part][name] = value
    return parts["state"], parts["momentum"]
