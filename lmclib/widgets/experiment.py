"""An experiment on its way: trained where the store lacks it, then measured fork by fork."""

import copy
import time
from collections.abc import Callable
from contextlib import suppress
from functools import cached_property

import pandas as pd
import torch
from torch.nn import functional as F

from lmclib.device import default_device
from lmclib.measures.barriers import barrier_curve
from lmclib.measures.parents import parent_values
from lmclib.runs.family import Family
from lmclib.runs.fork import fork_all
from lmclib.runs.measuring import Measurement, labelled, measurements
from lmclib.runs.pairs import sibling_pairs
from lmclib.runs.plan import Plan
from lmclib.runs.watching import Moment
from lmclib.training.loop import Diverged
from lmclib.widgets.choice import Choice

TREATMENTS = ("interpolate", "recompute")
SEEN = 256  # training images, evenly spaced, on which the loss is followed while networks train

Progress = Callable[[str, int, int], None]  # what is going on, how much of it is done, and of how much
LOSSES, ENDS, REST = "losses", "ends", "rest"  # what there is to see: of training, of where children end, of all before


class Experiment:
    """One choice on its way to its figure, and what there is of it so far.

    To be made where no other computation draws random numbers: a network's initialisation is drawn here.

    Args:
        choice: what is asked for.
        check: called again and again; what it raises stops the experiment, which another one of the same choice goes on with.
        progress: called with what is going on.
        changed: called when there is more to see, with what: `LOSSES`, `ENDS` or `REST`.
        before: an experiment of the same choice that was stopped, whose curves go on.

    Attributes:
        families: one a seed.
        losses: of networks in training, on `SEEN` images: seed, fork epoch (None for the parent), epoch, loss.
        dead: what was said of networks whose loss did not stay finite.
        parents: the parents' loss and error at their forks; None until they are trained.

    Raises:
        LmcError: a choice that cannot be run.
    """

    def __init__(
        self,
        choice: Choice,
        check: Callable[[], None],
        progress: Progress,
        changed: Callable[[str], None],
        before: "Experiment | None" = None,
    ):
        self.choice, self._check, self._progress, self._changed = choice, check, progress, changed
        # each alone, so that the first is trained, measured and seen before the others
        self.families = [fork_all([spec], choice.store, self._trained, watch=self._watch)[0] for spec in choice.specs]
        _ = [family.model for family in self.families]  # drawn now, in the caller's thread
        goes_on = before is not None and before.choice == choice
        self.losses: list[tuple[int, float | None, float, float]] = list(before.losses) if goes_on else []
        self.dead: list[str] = []
        self.parents: pd.DataFrame | None = None
        self._parts: list[tuple[pd.DataFrame, dict[str, object]]] = []  # tables, and what tells one from others
        self._looking_up, self._n_ends, self._of = True, 0, ""
        self._seen = {tuple(key) for *key, _ in self.losses}
        self.measured: dict[float, int] = dict.fromkeys(self.families[0].fork_epochs, 0)  # by fork, how often

    def run(self) -> None:
        """Look up what is remembered; train and measure what is not, seed by seed, the ends of training first."""
        missing = [job for job in self._jobs if not self._is_found(job)]
        self._looking_up = False
        for family in self.families:
            self._complete(family, [job for job in missing if job.pair.families[0] is family])

    def _complete(self, family: Family, missing: list[Measurement]) -> None:
        """Train and measure what is missing of one seed."""
        self._of = f" seed {family.spec.seed}" if len(self.families) > 1 else ""
        if missing:
            if not family.store.states(family.parent_address):  # its curve begins at once
                self._watch(Moment(family, None, None, 0.0, family.model.state_dict()))
            family.train_missing()
            self.dead += family.diverged()
        self._look_at_parents(family)
        for i, job in enumerate(missing):
            self._check()
            self._progress(f"measuring{self._of}", i, len(missing))
            with suppress(Diverged):  # said in `dead`
                self._keep(job, job.table())
        self._progress(f"measuring{self._of}", len(missing), len(missing))

    def _look_at_parents(self, family: Family) -> None:
        self._check()
        how = {"norm_stats": "recompute", "examples": self.choice.measured_examples}
        self.parents = pd.concat([self.parents, parent_values([family], (self.choice.split,), **how)])

    @cached_property
    def _ends(self) -> set[int]:
        """Those of all measurements that are of children at their ends, by identity."""
        return {id(job) for job in self._jobs if job.pair.epoch == self.families[0].epochs(job.pair.fork_epoch)[-1]}

    @cached_property
    def _jobs(self) -> list[Measurement]:
        """All that is measured: first where children end, fork by fork, then the rest, fork by fork."""
        choice, forks = self.choice, self.families[0].fork_epochs
        last = {fork: self.families[0].epochs(fork)[-1] for fork in forks}
        pairs = [pair for fork in forks for pair in sibling_pairs(self.families, [fork], children=[choice.pair])]
        how = choice.measured_examples, [{"alphas": choice.alphas}], self._check
        # all pairs at once, as the code's fingerprint is taken for each call
        both = [measurements(pairs, barrier_curve, choice.split, treatment, *how) for treatment in TREATMENTS]
        jobs = [job for of_pair in zip(*both, strict=True) for job in of_pair]
        return sorted(jobs, key=lambda job: job.pair.epoch != last[job.pair.fork_epoch])

    @property
    def is_worth_a_look(self) -> bool:
        """Whether there is more to see than while things are looked up one by one, which is quick: then all ends at once."""
        return not self._looking_up or (self._n_ends == len(self._ends) == len(self._parts))

    @property
    def is_complete(self) -> bool:
        """Whether everything is measured that can be."""
        return len(self._parts) == len(self._jobs) or bool(self.dead)

    @property
    def forks_done(self) -> int:
        """How many forks are wholly measured."""
        wanted = {fork: 0 for fork in self.measured}
        for job in self._jobs:
            wanted[job.pair.fork_epoch] += 1
        return sum(self.measured[fork] == count for fork, count in wanted.items())

    @property
    def said(self) -> str:
        """How much of it is measured."""
        return f"{self.forks_done} of {len(self.measured)} forks are wholly measured"

    @property
    def kept(self) -> str:
        """What is kept of it where it was stopped."""
        plans = [Plan(family) for family in self.families]
        children = sum(len(family.fork_steps) * family.spec.siblings for family in self.families)
        if not any(plan.is_open for plan in plans):
            return f"All networks are trained; {self.said}, and every single measurement is kept."
        return (
            f"{children - sum(len(plan.missing) for plan in plans)} of {children} children are trained to their ends. The others are kept at the step where they were; "
            "one that had not ended an epoch since it was begun starts that one again."
        )

    @property
    def table(self) -> pd.DataFrame | None:
        """The barrier curves so far, as `barrier_evolution` gives them; None while there is none."""
        if not self._parts:
            return None
        return labelled(self._parts).sort_values(
            ["norm_stats", "seed", "fork_epoch", "epoch", "alpha"], ignore_index=True
        )

    @property
    def curves(self) -> pd.DataFrame | None:
        """Training losses so far: those seen during training, else those of one child at the measured epochs."""
        if self.losses:
            return pd.DataFrame(self.losses, columns=["seed", "fork_epoch", "epoch", "loss"])
        if (table := self.table) is None or self.choice.split != "train":
            return None
        at_model_1 = table[(table.alpha == 0) & (table.norm_stats == "interpolate")]
        return at_model_1[["seed", "fork_epoch", "epoch", "loss"]] if len(at_model_1) else None

    @property
    def curves_said(self) -> str:
        """What the losses were taken on."""
        if self.losses:
            return f"loss on {SEEN} training images, while they trained"
        return f"loss of sibling {self.choice.pair[0] + 1}, as measured"

    def _is_found(self, job: Measurement) -> bool:
        self._check()
        found = self.families[0].store.find(job.question)
        if found is None:
            return False
        self._keep(job, found.table)
        return True

    def _keep(self, job: Measurement, table: pd.DataFrame) -> None:
        labels = {name: value for name, value in job.pair.labels.items() if name != "relation"}
        self._parts.append((table, {**labels, "split": job.split, "norm_stats": job.norm_stats}))
        self.measured[job.pair.fork_epoch] += 1
        what = ENDS if id(job) in self._ends else REST
        self._n_ends += what == ENDS
        self._changed(what)

    def _trained(self, done: int, total: int) -> None:
        self._check()
        self._progress(f"training{self._of}", done, total)

    def _watch(self, moment: Moment) -> None:
        """Follow the loss of the parents, and of one child of each fork: the first of the pair that is shown."""
        key = moment.family.spec.seed, moment.fork_epoch, moment.epoch
        if moment.sibling not in (None, self.choice.pair[0]) or key in self._seen:
            return
        self._seen.add(key)
        with suppress(RuntimeError):  # as where memory is full: training itself says so, if it matters
            self.losses.append((*key, self._loss(moment)))
            self._changed(LOSSES)

    @torch.no_grad()
    def _loss(self, moment: Moment) -> float:
        model, (x, y) = self._seeing
        model.load_state_dict(dict(moment.state))
        return float(F.cross_entropy(model(x), y))

    @cached_property
    def _seeing(self) -> tuple[torch.nn.Module, tuple[torch.Tensor, torch.Tensor]]:
        device = default_device()
        return (
            copy.deepcopy(self.families[0].model).to(device).eval(),
            self.families[0].data.to(device).pair("train", examples=SEEN),
        )


class Pace:
    """How long what is going on will still take, from how long it took so far."""

    def __init__(self):
        self._what, self._start, self._first = "", 0.0, 0

    def said(self, what: str, done: int, total: int) -> str:
        """What is going on, how much of it is done, and the time left, once it can be told."""
        now = time.monotonic()
        if what != self._what:
            self._what, self._start, self._first = what, now, done
        share = f"{what}: {done / max(total, 1):.0%}"
        new, spent = done - self._first, now - self._start
        if new <= 0 or spent < 1 or done >= total:
            return share
        return f"{share}, about {_duration(spent / new * (total - done))} left"


def _duration(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 100 else f"{seconds / 60:.0f} min"
