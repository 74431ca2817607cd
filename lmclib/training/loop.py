"""Gradient descent for many runs at once, each with random streams of its own."""

import copy
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn

from lmclib.data.dataset import Dataset
from lmclib.device import Precision, full_precision
from lmclib.errors import LmcError
from lmclib.networks.stacked import MEMBERS, SMALL
from lmclib.training.graph import Recorded, side_by_side
from lmclib.training.order import epoch_order
from lmclib.training.recipe import Recipe, steps_per_epoch
from lmclib.training.run import Run
from lmclib.training.stack import TrainingStack

STREAMS = 8  # stacks of networks side by side on a GPU, each a branch of one recorded step
PAYS = 100  # steps that some run has left where the layout may change: to try and to build another takes as long as tens of steps


@dataclass(frozen=True)
class Layout:
    """How many networks train together: `streams` side by side, in each of them `members` in lock-step as one wide network."""

    streams: int
    members: int

    @classmethod
    def on(cls, device: torch.device, shape: tuple[int, ...]) -> "Layout":
        """The layout for a device: lock-step where images are small, else streams where there are any."""
        small = len(shape) == 3 and shape[1] * shape[2] <= SMALL
        return cls(1 if small or device.type == "cpu" else STREAMS, MEMBERS if small else 1)


OnCheckpoint = Callable[[Run, dict[str, Tensor], dict[str, Tensor]], Iterable[Run]]
OnEpoch = Callable[[Run, Callable[[], tuple[dict[str, Tensor], dict[str, Tensor]]]], None]


class Diverged(LmcError):
    """The loss of one run is no longer finite; others are not concerned."""


def _raise(run: Run, error: Diverged) -> None:
    raise error


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
    fitted: Callable[[int], Layout] | None = None,
    on_diverged: Callable[[Run, Diverged], None] = _raise,
) -> None:
    r"""Train runs with SGD, $v \leftarrow \mu v + \nabla L + \lambda\theta$, $\theta \leftarrow \theta - \eta v$, or as the recipe says otherwise.

    Runs are members of stacks until they are done; then the next in the queue takes their place. A run's
    result depends on its own random streams only, not on the company. `on_checkpoint` may return further runs (a parent's
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
        fitted: the layout for so many runs that are not done, if it is not one for all numbers: asked as runs end and others come. All
            that it gives must train a run to the same bits.
        on_diverged: called with a run whose loss is no longer finite, at its next checkpoint or end of an epoch; the others go
            on. By default it is raised.

    Raises:
        Diverged: the loss of a run is no longer finite; what was checkpointed before stays.
    """
    device = torch.device(device)
    layout, queue = Layout.on(device, data.shape) if layout is None else layout, deque(runs)
    fitted = fitted or (lambda runs: layout)
    with full_precision():
        training = JointTraining(model, data.to(device), recipe, fitted(len(queue)), precision)
        training.train(queue, on_checkpoint, on_step, on_epoch, on_diverged, fitted)


class JointTraining:
    """The loop behind `train`: stacks of networks, the recorded step of all of them, and which run is which member."""

    def __init__(self, model: nn.Module, data: Dataset, recipe: Recipe, layout: Layout, precision: Precision):
        self.data, self.recipe, self.precision = data, recipe, precision
        self.epoch_steps = steps_per_epoch(len(data.train), recipe)
        self.device = data.train.x.device
        self.model = copy.deepcopy(model).to(self.device)
        self.built: dict[Layout, list[TrainingStack]] = {}
        self._lay_out(layout)

    def _lay_out(self, layout: Layout) -> None:
        """Make places for runs, all of them empty."""
        if layout not in self.built:
            probe = self.data.normalise(self.data.train.x[: self.recipe.batch_size])
            how = self.model, layout.members, probe, self.recipe, self.precision
            self.built[layout] = [TrainingStack(*how) for _ in range(layout.streams)]
        self.layout, self.stacks = layout, self.built[layout]
        self.width = self.stacks[0].stack.width
        self.members: list[Run | None] = [None] * self.width * len(self.stacks)
        # where a loss first was not finite, kept on the device: asking after each step would make it wait for Python
        self.diverged_at = torch.full((len(self.members),), -1, device=self.device)
        self.step = None

    def fit(self, waiting: deque[Run], fitted: Callable[[int], Layout]) -> None:
        """Take the layout for the runs that are not done, where it pays; those that are members go on from where they are, or wait."""
        here = {run: k for k, run in enumerate(self.members) if run is not None}
        if max(run.stop - run.step for run in (*here, *waiting)) < PAYS:
            return
        layout = fitted(len(here) + len(waiting))
        if layout == self.layout:
            return
        diverged_at = self.diverged_at.tolist()
        for run in here:
            run.state, run.momentum = self._read(run)
        self._lay_out(layout)
        runs, places = [*here], len(self.members)
        waiting.extendleft(reversed(runs[places:]))
        for k, run in enumerate(runs[:places]):
            self.enter(k, run)
            self.diverged_at[k] = diverged_at[here[run]]

    def train(
        self,
        queue: deque[Run],
        on_checkpoint: OnCheckpoint,
        on_step: Callable,
        on_epoch: OnEpoch,
        on_diverged: Callable[[Run, Diverged], None],
        fitted: Callable[[int], Layout],
    ) -> None:
        runs = 0
        while queue or any(self.members):
            if (now := len(queue) + sum(run is not None for run in self.members)) != runs:
                self.fit(queue, fitted)
                runs = now
            for k, run in enumerate(self.members):
                if run is None and queue:
                    self.enter(k, queue.popleft())
            self.advance()
            on_step(sum(run is not None for run in self.members))
            for k, run in enumerate(self.members):
                if run is None:
                    continue
                due = run.step in run.checkpoints or run.step == run.stop
                checked = due or run.step % self.epoch_steps == 0
                if checked and (error := self._divergence(k, run)) is not None:
                    self.members[k] = None
                    on_diverged(run, error)
                    continue
                if due:
                    queue.extend(on_checkpoint(run, *self._read(run)))
                if run.step == run.stop:
                    self.members[k] = None
                elif run.step % self.epoch_steps == 0:
                    on_epoch(run, partial(self._read, run))

    def advance(self) -> None:
        """One step of every run that is a member."""
        inputs = self._inputs()
        if self.step is None:
            changed = [tensor for stack in self.stacks for tensor in stack.tensors()]
            self.step = Recorded(self._step, inputs, [*changed, self.diverged_at])
        self.step(*inputs)
        for run in self.members:
            if run is not None:
                run.step += 1

    def enter(self, k: int, run: Run) -> None:
        """Make a run member `k`."""
        self.members[k] = run
        self.diverged_at[k] = -1
        stack, member = divmod(k, self.width)
        self.stacks[stack].load(member, run)

    def _read(self, run: Run) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """A run's state dict and momentum, wherever its place now is, or as it left the place that another has now."""
        if run not in self.members:
            return run.state, run.momentum
        stack, member = divmod(self.members.index(run), self.width)
        return self.stacks[stack].read(member)

    def _step(self, *inputs: Tensor) -> Tensor:
        """One step of every member (K of them), for examples (B, K, ...) as the data drew them, rates (K,) and steps (K,); the losses (K,)."""
        *drawn, rates, steps = inputs
        x, y = self.data.drawn(*drawn)
        parts = (part.split(self.width, dim) for part, dim in ((x, 1), (y, 1), (rates, 0)))
        works = [partial(stack.step, *part) for stack, *part in zip(self.stacks, *parts, strict=True)]
        losses = torch.cat(side_by_side(works, self.device))
        now = ~losses.isfinite() & (self.diverged_at < 0)
        self.diverged_at.copy_(torch.where(now, steps, self.diverged_at))
        return losses

    def _inputs(self) -> list[Tensor]:
        """What the next step reads: every member's examples, learning rate and step."""
        taken = next(run for run in self.members if run is not None)
        parts = [self._examples(run or taken) for run in self.members]
        examples = [torch.stack(part, 1) for part in zip(*parts, strict=True)]
        rates = torch.tensor([self._lr(run) for run in self.members])
        steps = torch.tensor([0 if run is None else run.step for run in self.members])
        return [*examples, *(part.to(self.device, non_blocking=True) for part in (rates, steps))]

    def _lr(self, run: Run | None) -> float:
        # a place without a run repeats a batch with learning rate 0
        return 0.0 if run is None else self.recipe.lr_at((run.step - run.clock) / self.epoch_steps)

    def _examples(self, run: Run) -> tuple[Tensor, ...]:
        """The run's next batch as the data drew it, one entry an example, on the device.

        The whole order of an epoch follows from the run's random stream and the epoch, so resuming needs no random state.
        """
        epoch, step = divmod(run.step, self.epoch_steps)
        if run._order is None or run._order[0] != epoch:
            order = epoch_order(run.random_stream, epoch, self.data)
            run._order = (epoch, *(part.to(self.device) for part in order))
        rows = slice(step * self.recipe.batch_size, (step + 1) * self.recipe.batch_size)
        return tuple(part[rows] for part in run._order[1:])

    def _divergence(self, k: int, run: Run) -> Diverged | None:
        if (step := int(self.diverged_at[k])) < 0:
            return None
        rate = self.recipe.lr_at((step - run.clock) / self.epoch_steps)
        return Diverged(
            f"lr={self.recipe.lr:g}: the loss of {run.name} is no longer finite at step {step} "
            f"(learning rate {rate:g}); earlier checkpoints stay; try a lower lr"
        )
