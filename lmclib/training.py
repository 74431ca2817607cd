"""Stochastic gradient descent for many runs at once, each with random streams of its own."""

import copy
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
from torch.optim.sgd import sgd

from lmclib.capture import Recorded, side_by_side
from lmclib.data import Dataset
from lmclib.device import Precision, autocast, full_precision
from lmclib.errors import LmcError
from lmclib.stack import SEATS, SMALL, Stack

LANES = 8  # networks side by side on a GPU, each a branch of one recorded step

NUMERICS = 3  # part of every run's address: raise it when a change alters the bits that training produces


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


@dataclass(frozen=True)
class Layout:
    """How many networks train together: `lanes` side by side, each of them `seats` in lock-step as one wide network."""

    lanes: int
    seats: int

    @classmethod
    def on(cls, device: torch.device, shape: tuple[int, int, int]) -> "Layout":
        """The layout for a device: lock-step where images are small, else lanes where there are streams."""
        small = shape[1] * shape[2] <= SMALL
        return cls(1 if small or device.type == "cpu" else LANES, SEATS if small else 1)


OnCheckpoint = Callable[[Run, dict[str, Tensor], dict[str, Tensor]], Iterable[Run]]
OnEpoch = Callable[[Run, Callable[[], tuple[dict[str, Tensor], dict[str, Tensor]]]], None]


def steps_per_epoch(n: int, recipe: Recipe) -> int:
    """⌊N / batch_size⌋.

    Raises:
        LmcError: the training set of n examples is smaller than one batch.
    """
    if n < recipe.batch_size:
        raise LmcError(f"batch_size={recipe.batch_size}: must be at most the {n} training examples")
    return n // recipe.batch_size


def train(
    model: nn.Module,
    data: Dataset,
    recipe: Recipe,
    runs: Iterable[Run],
    on_checkpoint: OnCheckpoint,
    on_step: Callable[[int], None] = lambda steps: None,
    device: str | torch.device = "cpu",
    on_epoch: OnEpoch = lambda run, read: None,
    precision: Precision = "float32",
    layout: Layout | None = None,
) -> None:
    r"""Train runs with SGD, $v \leftarrow \mu v + \nabla L + \lambda\theta$, $\theta \leftarrow \theta - \eta v$.

    Runs take the seats of stacks and leave them when they are done; the next in the queue takes their place. A run's
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
        precision: `float32`, or `bf16` for forward and backward passes with float32 weights.
        layout: how many networks train together; the device's own by default.

    Raises:
        LmcError: the loss of a run is no longer finite; what was checkpointed before stays.
    """
    device = torch.device(device)
    layout = Layout.on(device, data.shape) if layout is None else layout
    with full_precision():
        training = SeatedTraining(model, data.to(device), recipe, layout, precision)
        training.train(deque(runs), on_checkpoint, on_step, on_epoch)


class Lane:
    """A stack of networks and its momentum; every network of the same architecture fits into any of its seats."""

    def __init__(self, model: nn.Module, seats: int, probe: Tensor):
        self.stack = Stack(model, seats, probe)
        self.stack.train()
        if probe.device.type == "cuda":
            # not on a CPU, where the gradient of strided 1×1 convolutions of few channels is wrong in this layout (torch 2.15)
            self.stack.to(memory_format=torch.channels_last)
        self.names = [name for name, _ in self.stack.net.named_parameters()]
        self.parameters = [parameter for _, parameter in self.stack.net.named_parameters()]
        self.momentum = [torch.zeros_like(parameter) for parameter in self.parameters]

    def step(self, x: Tensor, y: Tensor, rates: Tensor, recipe: Recipe, precision: Precision) -> Tensor:
        """One SGD step in every seat, for inputs (B, K, ...), targets (B, K) and learning rates (K,); the losses (K,)."""
        with autocast(precision, x.device):
            out = self.stack(x).float()  # (B, K, n_classes)
            losses = F.cross_entropy(out.flatten(0, 1), y.flatten(), reduction="none").view_as(y).mean(0)
        # networks in a stack share no parameter, so the gradient of the sum is each network's own
        grads = list(torch.autograd.grad(losses.sum(), self.parameters))
        with torch.no_grad():
            self._update(grads, rates, recipe)
        return losses.detach()

    def _update(self, grads: list[Tensor], rates: Tensor, recipe: Recipe) -> None:
        if self.stack.width == 1:  # one kernel, which wants gradients in memory as the parameters are
            alike = zip(grads, self.parameters, strict=True)
            grads = [g if g.stride() == p.stride() else torch.empty_like(p).copy_(g) for g, p in alike]
            sgd(
                self.parameters,
                grads,
                self.momentum,
                fused=True,
                lr=rates[0],
                weight_decay=recipe.weight_decay,
                momentum=recipe.momentum,
                dampening=0,
                nesterov=False,
                maximize=False,
            )
            return
        torch._foreach_add_(grads, self.parameters, alpha=recipe.weight_decay)
        torch._foreach_mul_(self.momentum, recipe.momentum)
        torch._foreach_add_(self.momentum, grads)
        for parameter, velocity in zip(self.parameters, self.momentum, strict=True):  # a rate for every seat
            parameter.view(len(rates), -1).sub_(rates[:, None] * velocity.view(len(rates), -1))

    def tensors(self) -> list[Tensor]:
        """All that a step changes in place."""
        return [*self.stack.net.state_dict().values(), *self.momentum]

    def sit(self, k: int, run: Run) -> None:
        """Put a run into seat `k`."""
        self.stack.load(k, run.state)
        for name, view in self.stack.seat(dict(zip(self.names, self.momentum, strict=True)), k).items():
            view.zero_() if run.momentum is None else view.copy_(run.momentum[name])

    def read(self, k: int) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """Copies of a seat's state dict and momentum."""
        momentum = self.stack.seat(dict(zip(self.names, self.momentum, strict=True)), k)
        return self.stack.read(k), {key: value.clone() for key, value in momentum.items()}


class SeatedTraining:
    """The loop behind `train`: lanes, the recorded step of all of them, and who sits where."""

    def __init__(self, model: nn.Module, data: Dataset, recipe: Recipe, layout: Layout, precision: Precision):
        self.data, self.recipe, self.precision = data, recipe, precision
        self.epoch_steps = steps_per_epoch(len(data.train), recipe)
        self.padded = F.pad(data.train.x, (data.shift,) * 4)
        self.device = self.padded.device
        probe = data.normalise(data.train.x[:4])
        here = copy.deepcopy(model).to(self.device)
        self.lanes = [Lane(here, layout.seats, probe) for _ in range(layout.lanes)]
        self.width = self.lanes[0].stack.width
        self.seats: list[Run | None] = [None] * self.width * len(self.lanes)
        # where a loss first was not finite, kept on the device: asking after each step would make it wait for Python
        self.diverged_at = torch.full((len(self.seats),), -1, device=self.device)
        self.step = None

    def train(self, queue: deque[Run], on_checkpoint: OnCheckpoint, on_step: Callable, on_epoch: OnEpoch) -> None:
        while queue or any(self.seats):
            for k, run in enumerate(self.seats):
                if run is None and queue:
                    self.sit(k, queue.popleft())
            self.advance()
            on_step(sum(run is not None for run in self.seats))
            for k, run in enumerate(self.seats):
                if run is None:
                    continue
                due = run.step in run.checkpoints or run.step == run.stop
                if due or run.step % self.epoch_steps == 0:
                    self._check(k, run)
                if due:
                    queue.extend(on_checkpoint(run, *self._read(k)))
                if run.step == run.stop:
                    self.seats[k] = None
                elif run.step % self.epoch_steps == 0:
                    on_epoch(run, partial(self._read, k))

    def advance(self) -> None:
        """One step of every run that has a seat."""
        inputs = self._inputs()
        if self.step is None:
            changed = [tensor for lane in self.lanes for tensor in lane.tensors()]
            self.step = Recorded(self._step, inputs, [*changed, self.diverged_at])
        self.step(*inputs)
        for run in self.seats:
            if run is not None:
                run.step += 1

    def sit(self, k: int, run: Run) -> None:
        """Give a run seat `k`."""
        self.seats[k] = run
        self.diverged_at[k] = -1
        lane, seat = divmod(k, self.width)
        self.lanes[lane].sit(seat, run)

    def _read(self, k: int) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        lane, seat = divmod(k, self.width)
        return self.lanes[lane].read(seat)

    def _step(self, index: Tensor, shifts: Tensor, flips: Tensor, rates: Tensor, steps: Tensor) -> Tensor:
        """One SGD step in every seat (K of them), the examples (B, K) given by index, shift and flip; the losses (K,)."""
        x, y = self._batch(index, shifts, flips)
        parts = (part.split(self.width, dim) for part, dim in ((x, 1), (y, 1), (rates, 0)))
        works = [
            partial(lane.step, *part, self.recipe, self.precision)
            for lane, *part in zip(self.lanes, *parts, strict=True)
        ]
        losses = torch.cat(side_by_side(works, self.device))
        now = ~losses.isfinite() & (self.diverged_at < 0)
        self.diverged_at.copy_(torch.where(now, steps, self.diverged_at))
        return losses

    def _inputs(self) -> list[Tensor]:
        """What the next step reads: every seat's examples, learning rate and step."""
        taken = next(run for run in self.seats if run is not None)
        parts = [self._examples(run or taken) for run in self.seats]
        examples = [torch.stack(part, 1) for part in zip(*parts, strict=True)]
        rates = torch.tensor([self._lr(run) for run in self.seats])
        steps = torch.tensor([0 if run is None else run.step for run in self.seats])
        return [*examples, *(part.to(self.device, non_blocking=True) for part in (rates, steps))]

    def _lr(self, run: Run | None) -> float:
        # a seat without a run repeats a batch with learning rate 0
        return 0.0 if run is None else self.recipe.lr_at((run.step - run.clock) / self.epoch_steps)

    def _batch(self, index: Tensor, shifts: Tensor, flips: Tensor) -> tuple[Tensor, Tensor]:
        """The examples of every seat, augmented and normalised: (B, K, C, H, W) and (B, K)."""
        channels, height, width = self.data.shape
        rows = shifts[..., 0, None] + torch.arange(height, device=self.device)  # (B, K, H)
        columns = torch.arange(width, device=self.device).expand(*index.shape, width)
        columns = shifts[..., 1, None] + torch.where(flips[..., None], width - 1 - columns, columns)
        c = torch.arange(channels, device=self.device)[:, None, None]
        picked = index[..., None, None, None]
        x = self.padded[picked, c, rows[:, :, None, :, None], columns[:, :, None, None, :]]
        return self.data.normalise(x), self.data.train.y[index]

    def _examples(self, run: Run) -> tuple[Tensor, Tensor, Tensor]:
        """Indices (B,), shifts (B, 2) and flips (B,) of the run's next batch, on the device.

        The whole order of an epoch follows from the run's stream and the epoch, so resuming needs no random state.
        """
        epoch, step = divmod(run.step, self.epoch_steps)
        if run._order is None or run._order[0] != epoch:
            order = epoch_order(run.stream, epoch, len(self.data.train), self.data.shift, self.data.flip)
            run._order = (epoch, *(part.to(self.device) for part in order))
        rows = slice(step * self.recipe.batch_size, (step + 1) * self.recipe.batch_size)
        return tuple(part[rows] for part in run._order[1:])

    def _check(self, k: int, run: Run) -> None:
        if (step := int(self.diverged_at[k])) < 0:
            return
        rate = self.recipe.lr_at((step - run.clock) / self.epoch_steps)
        raise LmcError(
            f"lr={self.recipe.lr:g}: the loss of {run.name} is no longer finite at step {step} "
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
