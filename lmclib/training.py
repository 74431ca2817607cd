"""Stochastic gradient descent for many runs at once, each with random streams of its own."""

from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import partial
from typing import Literal

import numpy as np
import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn
from torch.nn import functional as F

from lmclib.data import Dataset
from lmclib.errors import LmcError
from lmclib.stack import SEATS, SMALL, Stack

NUMERICS = 2  # part of every run's address: raise it when a change alters the bits that training produces


class Recipe(BaseModel):
    """The hyper-parameters of SGD: epochs are passes over the training set, `milestones` and `warmup` are in epochs.

    The last incomplete batch of an epoch is left out, so an epoch has ⌊N / batch_size⌋ steps.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    epochs: int = Field(12, ge=1)
    batch_size: int = Field(32, ge=1)
    lr: float = Field(0.1, gt=0)
    momentum: float = Field(0.9, ge=0, lt=1)
    weight_decay: float = Field(1e-4, ge=0)
    schedule: Literal["step", "cosine", "constant"] = "step"
    milestones: tuple[float, ...] = (6, 9)
    factor: float = Field(0.1, gt=0, le=1)
    warmup: float = Field(0, ge=0)
    warmup_from: float = Field(1e-4, gt=0)
    schedule_after_fork: Literal["continue", "reset"] = "continue"

    def lr_at(self, epoch: float) -> float:
        r"""The learning rate after `epoch` epochs: $\eta \prod_{m \le e} \gamma$ or $\eta \cos^2(\pi e / 2E)$.

        Example:
            >>> [round(Recipe().lr_at(epoch), 4) for epoch in (0, 5.9, 6, 9)]
            [0.1, 0.1, 0.01, 0.001]
        """
        if epoch < self.warmup:
            return self.warmup_from + (self.lr - self.warmup_from) * epoch / self.warmup
        if self.schedule == "step":
            return self.lr * self.factor ** sum(epoch >= milestone for milestone in self.milestones)
        if self.schedule == "cosine":
            return self.lr * float(np.cos(np.pi * min(epoch / self.epochs, 1) / 2) ** 2)
        return self.lr


# Landscaping Linear Mode Connectivity, appendix B.1; Layer-wise Linear Mode Connectivity, figure 1
RECIPES = {
    "digits": Recipe(),
    "landscaping": Recipe(epochs=160, batch_size=128, milestones=(80, 120)),
    "layer-wise": Recipe(epochs=200, batch_size=64, lr=0.05, weight_decay=5e-4, schedule="cosine", warmup=1),
}


@dataclass
class Run:
    """One network on its way from step `step` to step `stop`.

    Attributes:
        name: what progress and errors call it.
        stream: seeds its data order and augmentation; two runs differ in it where they should see other batches.
        state: the state dict it starts from.
        step: the step it is at.
        stop: the step at which it ends.
        checkpoints: the steps after which `on_checkpoint` is called; `stop` is always one.
        momentum: the momentum buffers it starts from; none means zeros.
        clock: the step at which its learning-rate schedule starts.
    """

    name: str
    stream: tuple[int, ...]
    state: dict[str, Tensor]
    step: int
    stop: int
    checkpoints: frozenset[int]
    momentum: dict[str, Tensor] | None = None
    clock: int = 0
    _order: tuple[int, Tensor, Tensor, Tensor] | None = field(default=None, repr=False)


OnCheckpoint = Callable[[Run, dict[str, Tensor], dict[str, Tensor]], Iterable[Run]]
OnEpoch = Callable[[Run, Callable[[], tuple[dict[str, Tensor], dict[str, Tensor]]]], None]


def steps_per_epoch(data: Dataset, recipe: Recipe) -> int:
    """⌊N / batch_size⌋.

    Raises:
        LmcError: the training set is smaller than one batch.
    """
    if len(data.train) < recipe.batch_size:
        raise LmcError(f"batch_size={recipe.batch_size}: must be at most the {len(data.train)} training examples")
    return len(data.train) // recipe.batch_size


def train(
    model: nn.Module,
    data: Dataset,
    recipe: Recipe,
    runs: Iterable[Run],
    on_checkpoint: OnCheckpoint,
    on_step: Callable[[int], None] = lambda steps: None,
    device: str | torch.device = "cpu",
    on_epoch: OnEpoch = lambda run, read: None,
) -> None:
    r"""Train runs with SGD, $v \leftarrow \mu v + \nabla L + \lambda\theta$, $\theta \leftarrow \theta - \eta v$.

    Runs take the seats of a `Stack` and leave it when they are done; the next in the queue takes their place. A run's
    result depends on its own streams only, not on the company. `on_checkpoint` may return further runs (a parent's
    children), which join the queue.

    Args:
        model: the architecture.
        data: the data set.
        recipe: the hyper-parameters.
        runs: the runs to start with.
        on_checkpoint: called with the run, its state dict and its momentum after each of its checkpoint steps.
        on_step: called after every step with the number of runs that took it.
        device: where to compute.
        on_epoch: called with a run at the end of its epochs, and a function that reads its state dict and momentum.

    Raises:
        LmcError: the loss of a run is no longer finite; what was checkpointed before stays.
    """
    SeatedTraining(model, data.to(device), recipe, on_checkpoint, on_step, on_epoch).train(deque(runs))


class SeatedTraining:
    """The loop behind `train`: a stack, its momentum, and who sits where."""

    def __init__(
        self,
        model: nn.Module,
        data: Dataset,
        recipe: Recipe,
        on_checkpoint: OnCheckpoint,
        on_step: Callable,
        on_epoch: OnEpoch,
    ):
        self.data, self.recipe = data, recipe
        self.on_checkpoint, self.on_step, self.on_epoch = on_checkpoint, on_step, on_epoch
        self.epoch_steps = steps_per_epoch(data, recipe)
        _, height, width = data.shape
        self.padded = F.pad(data.train.x, (data.shift,) * 4)
        seats = SEATS if height * width <= SMALL else 1
        probe = data.normalise(data.train.x[:4])
        self.stack = Stack(model.to(data.train.x.device), seats, probe)
        self.stack.train()
        self.names = [name for name, _ in self.stack.net.named_parameters()]
        self.parameters = [parameter for _, parameter in self.stack.net.named_parameters()]
        self.momentum = [torch.zeros_like(parameter) for parameter in self.parameters]
        self.seats: list[Run | None] = [None] * self.stack.width

    def train(self, queue: deque[Run]) -> None:
        while queue or any(self.seats):
            for k, run in enumerate(self.seats):
                if run is None and queue:
                    self._sit(k, queue.popleft())
            self._check(self._step())
            self.on_step(sum(run is not None for run in self.seats))
            for k, run in enumerate(self.seats):
                if run is None:
                    continue
                run.step += 1
                if run.step in run.checkpoints or run.step == run.stop:
                    queue.extend(self.on_checkpoint(run, *self._read(k)))
                if run.step == run.stop:
                    self.seats[k] = None
                elif run.step % self.epoch_steps == 0:
                    self.on_epoch(run, partial(self._read, k))

    def _read(self, k: int) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """A seat's state dict and momentum."""
        momentum = self.stack.seat(dict(zip(self.names, self.momentum, strict=True)), k)
        return self.stack.read(k), {key: value.clone() for key, value in momentum.items()}

    def _sit(self, k: int, run: Run) -> None:
        self.seats[k] = run
        self.stack.load(k, run.state)
        for name, view in self.stack.seat(dict(zip(self.names, self.momentum, strict=True)), k).items():
            view.zero_() if run.momentum is None else view.copy_(run.momentum[name])

    def _step(self) -> Tensor:
        """One SGD step in every seat; returns each seat's batch loss (K,)."""
        x, y = self._batch()
        out = self.stack(x)  # (B, K, n_classes)
        losses = F.cross_entropy(out.flatten(0, 1), y.flatten(), reduction="none").view_as(y).mean(0)
        # networks in a stack share no parameter, so the gradient of the sum is each network's own
        grads = list(torch.autograd.grad(losses.sum(), self.parameters))
        with torch.no_grad():
            torch._foreach_add_(grads, self.parameters, alpha=self.recipe.weight_decay)
            torch._foreach_mul_(self.momentum, self.recipe.momentum)
            torch._foreach_add_(self.momentum, grads)
            lr = torch.tensor([self._lr(run) for run in self.seats], device=x.device)[:, None]
            for parameter, velocity in zip(self.parameters, self.momentum, strict=True):
                parameter.view(len(lr), -1).sub_(lr * velocity.view(len(lr), -1))
        return losses.detach()

    def _lr(self, run: Run | None) -> float:
        # a seat without a run repeats a batch with learning rate 0
        return 0.0 if run is None else self.recipe.lr_at((run.step - run.clock) / self.epoch_steps)

    def _batch(self) -> tuple[Tensor, Tensor]:
        """The next batch of every seat, augmented and normalised: (B, K, C, H, W) and (B, K)."""
        device = self.padded.device
        taken = next(run for run in self.seats if run is not None)
        parts = [self._examples(run or taken) for run in self.seats]
        index, shifts, flips = (torch.stack(part, 1).to(device) for part in zip(*parts, strict=True))  # (B, K), …
        channels, height, width = self.data.shape
        rows = shifts[..., 0, None] + torch.arange(height, device=device)  # (B, K, H)
        columns = torch.arange(width, device=device).expand(*index.shape, width)
        columns = shifts[..., 1, None] + torch.where(flips[..., None], width - 1 - columns, columns)
        c = torch.arange(channels, device=device)[:, None, None]
        picked = index[..., None, None, None]
        x = self.padded[picked, c, rows[:, :, None, :, None], columns[:, :, None, None, :]]
        return self.data.normalise(x), self.data.train.y[index]

    def _examples(self, run: Run) -> tuple[Tensor, Tensor, Tensor]:
        """Indices (B,), shifts (B, 2) and flips (B,) of the run's next batch.

        The whole order of an epoch follows from the run's stream and the epoch, so resuming needs no random state.
        """
        epoch, step = divmod(run.step, self.epoch_steps)
        if run._order is None or run._order[0] != epoch:
            run._order = (epoch, *epoch_order(run.stream, epoch, len(self.data.train), self.data.shift, self.data.flip))
        rows = slice(step * self.recipe.batch_size, (step + 1) * self.recipe.batch_size)
        return tuple(part[rows] for part in run._order[1:])

    def _check(self, losses: Tensor) -> None:
        if bool(losses.isfinite().all()):
            return
        for k, run in enumerate(self.seats):
            if run is not None and not bool(losses[k].isfinite()):
                rate = self._lr(run)
                raise LmcError(
                    f"lr={self.recipe.lr:g}: the loss of {run.name} is no longer finite at step {run.step} "
                    f"(learning rate {rate:g}); earlier checkpoints stay; try a lower lr"
                )


def generator(*stream: int) -> torch.Generator:
    """A generator for one source of randomness, named by whole numbers."""
    seed = np.random.SeedSequence(stream).generate_state(1, np.uint64)[0]
    return torch.Generator().manual_seed(int(seed))


def epoch_order(stream: tuple[int, ...], epoch: int, n: int, shift: int, flip: bool) -> tuple[Tensor, Tensor, Tensor]:
    """The order (n,), the shifts (n, 2) and the flips (n,) of one epoch, each from a generator of its own."""
    order = torch.randperm(n, generator=generator(*stream, epoch, 0))
    shifts = torch.randint(0, 2 * shift + 1, (n, 2), generator=generator(*stream, epoch, 1))
    flips = torch.rand(n, generator=generator(*stream, epoch, 2)) < (0.5 if flip else 0)
    return order, shifts, flips
