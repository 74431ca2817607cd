"""One network on its way through training."""

from dataclasses import dataclass, field

from torch import Tensor


@dataclass(eq=False)  # the same run is the same object
class Run:
    """One network on its way from step `step` to step `stop`.

    Attributes:
        name: what progress and errors call it.
        random_stream: seeds its data order and augmentation; two runs differ in it where they should see other batches.
        state: the state dict it starts from.
        step: the step it is at.
        stop: the step at which it ends.
        checkpoints: the steps after which `on_checkpoint` is called; `stop` is always one.
        momentum: what the optimiser remembers (SGD: momentum buffers) where it starts; none means zeros.
        clock: the step at which its learning-rate schedule starts.
    """

    name: str
    random_stream: tuple[int, ...]
    state: dict[str, Tensor]
    step: int
    stop: int
    checkpoints: frozenset[int]
    momentum: dict[str, Tensor] | None = None
    clock: int = 0
    _order: tuple[int, *tuple[Tensor, ...]] | None = field(default=None, repr=False)
