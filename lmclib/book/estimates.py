"""Estimates of a chapter: everything it would train and measure at some scale, counted on stand-ins, with an estimate of its cost."""

import json
import warnings
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from math import prod
from typing import Generic, TypeVar

import pandas as pd
import torch
from torch import nn
from tqdm.auto import tqdm

from lmclib.book.cost import H100, Forward, Rates, forward_cost
from lmclib.book.measuring import measured_so_far
from lmclib.cube.statistics import tracked_norms
from lmclib.data.dataset import Dataset, Split
from lmclib.networks.layers import find_layers
from lmclib.networks.mlp import MLP
from lmclib.runs.checkpoints import joined_state
from lmclib.runs.family import Family
from lmclib.runs.measuring import Measurement
from lmclib.runs.plan import Plan
from lmclib.runs.spec import ForkSpec
from lmclib.store.address import address
from lmclib.store.dry_run import DryRun, dry_run
from lmclib.store.tables import Answer, Question

Done = TypeVar("Done")
# how far from the least possible a run is taken to be: training as 0.35 s for an epoch of ResNet-20 that could take 0.06 s;
# forward passes of large batches come closer
SLACK = {"training": 6, "measuring": 2}
# what tells tables apart that on stand-ins are one: of which networks, on which images and by which statistics
APART = ("children", "parent", "step", "epoch", "epochs", "split", "examples", "norm_stats")


@dataclass
class Estimate:
    """What a chapter would train and measure.

    Attributes:
        networks: how many networks it would train.
        epochs: of every architecture and data set, epochs of training that are missing, over all networks.
        passes: of every architecture and data set, examples that measuring would evaluate, at one point each.
        longest: the most of them in one measurement, which is remembered whole or not at all.
        forward: what one example costs.
        sizes: the training examples in an epoch.
        wanted: the experiments of which a table is missing, in order.
    """

    networks: int = 0
    epochs: Counter = field(default_factory=Counter)
    passes: Counter = field(default_factory=Counter)
    longest: Counter = field(default_factory=Counter)
    forward: dict[tuple[str, str], Forward] = field(default_factory=dict)
    sizes: dict[tuple[str, str], int] = field(default_factory=dict)
    wanted: dict[ForkSpec, None] = field(default_factory=dict)

    def minutes(self, rates: Rates = H100) -> tuple[float, float]:
        """Estimated minutes of training and of measuring on a GPU: `SLACK` times the least that its rates allow."""
        train = sum(self.forward[key].step_seconds(rates) * n * self.sizes[key] for key, n in self.epochs.items())
        return SLACK["training"] * train / 60, sum(self._minutes(rates, self.passes))

    def longest_minutes(self, rates: Rates = H100) -> float:
        """Estimated minutes of the longest single measurement on a GPU: a slice must have more."""
        return max(self._minutes(rates, self.longest), default=0.0)

    def _minutes(self, rates: Rates, passes: Counter) -> list[float]:
        return [SLACK["measuring"] * self.forward[key].pass_seconds(rates) * n / 60 for key, n in passes.items()]

    def __str__(self) -> str:
        training, measuring = self.minutes()
        work = "; ".join(f"{n:,.0f} epochs of {model} on {data}" for (model, data), n in self.epochs.items() if n)
        slack = f"{SLACK['training']} and {SLACK['measuring']} times the least that its data sheet allows"
        return (
            f"{self.networks} networks to train ({work or 'all trained'}), {sum(self.passes.values()) / 1e6:,.0f} million examples to evaluate: "
            f"estimated {training:.0f} + {measuring:.0f} minutes of one {H100.name} ({slack}), "
            f"{self.longest_minutes():.1f} of them for the longest measurement"
        )


def estimate(chapter: str, given: Mapping[str, object], progress: bool = False) -> Estimate:
    """Run a chapter's measuring cells on stand-ins: networks of as many layers of one neuron each, four images, nothing trained or stored.

    Args:
        chapter: its name.
        given: its parameters, above all `profile`.
        progress: whether to show how many tables are counted, where it takes more than a second.

    Raises:
        LmcError: as `measure`.
        NotRun: the chapter measures something other than families of networks alone, and it is missing; beside families it is left out.
    """
    planned = on_stand_ins(lambda: measured_so_far(chapter, given), f"plan {chapter}", progress)
    _, missing = planned.done
    if missing and not planned.families:
        raise missing
    return planned.estimate


@dataclass(frozen=True)
class Planned(Generic[Done]):
    """What work on stand-ins would be.

    Attributes:
        estimate: what it would cost.
        families: the experiments that it would want.
        measurements: what it would measure of pairs of networks, whether it is remembered or not.
        done: what it returned.
    """

    estimate: Estimate
    families: Sequence[Family]
    measurements: Sequence[Measurement]
    done: Done


def on_stand_ins(work: Callable[[], Done], what: str, progress: bool = False) -> Planned[Done]:
    """Do work on stand-ins, as `estimate` does, to see what it would be.

    Args:
        work: what trains and measures.
        what: in words.
        progress: as in `estimate`.
    """
    bar = tqdm(desc=what, unit="table", disable=not progress, delay=1, leave=False)
    with bar, dry_run(_Estimating(bar.update)) as estimating, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what is judged are stand-ins
        done = work()
    return Planned(estimating.estimate, estimating.families, estimating.measurements, done)


class _Estimating(DryRun):
    """Answers every question with a stand-in, and counts what the answer would cost; each is told to `on_table`."""

    def __init__(self, on_table: Callable[[], object]):
        super().__init__()
        self.on_table = on_table
        self.estimate, self.owner, self.known, self.counted = Estimate(), {}, {}, set()
        self.depths: dict[tuple[str, str], int] = {}  # layers of every architecture

    def meet(self, family: Family) -> None:
        super().meet(family)
        key = family.spec.model, family.card.label
        shape = family.card.shape
        if key not in self.depths:  # a network is built once, not for every seed and rate
            self.estimate.forward[key] = forward_cost(family.model, shape)
            self.estimate.sizes[key] = family.card.n_train
            self.depths[key] = len(find_layers(family.model, torch.zeros(2, *shape)))
        self._count_training(family, key)
        for step in family.fork_steps:
            for sibling in range(family.spec.siblings):
                self.owner[family.child_name(step, sibling)] = family
        self.owner[family.parent_name] = family
        family.model = _stand_in_network(family, self.depths[key])
        family.data = _stand_in(family)
        family.load = lambda at, name: self._state(family, at, name)

    def table(self, found: Answer | None, question: Question, compute: Callable[[], pd.DataFrame]) -> pd.DataFrame:
        self.on_table()
        description = question.description
        names = description.get("children") or [description.get("parent")]
        family = self.owner.get(names[0])
        alike = {k: v for k, v in description.items() if k not in APART}
        if family is None:  # no measurement of networks, so nothing can stand in for it
            return super().table(found, question, compute)
        key = json.dumps([alike, family.spec.model, description.get("epochs")])
        if key not in self.known:
            self.known[key] = compute()
        table = self.known[key]
        if found is None:
            self.estimate.wanted |= {self.owner[name].spec: None for name in names}
        at = address(description)
        if found is None and at not in self.counted and "split" in description:
            self.counted.add(at)
            self._count_measuring(family, table.attrs.get("passes", 0), description)
        return table.copy()

    def _state(self, family: Family, at: str, name: str) -> dict[str, torch.Tensor]:
        state = _random_state(family.model, at + name)
        return joined_state(state, {}) if at == family.parent_address else state

    def _count_training(self, family: Family, key: tuple[str, str]) -> None:
        names = {family.parent_address, *(family.child_name(*part) for part in _children(family))}
        if names <= self.owner.keys():
            return  # another cell plans the same networks
        plan = Plan(family)
        steps = sum(plan.steps_of(*part) for part in plan.missing)
        parent = {int(name) for name in family.store.states(family.parent_address) if name.isdigit()}
        steps += max([step for step in family.fork_steps if step not in parent], default=0)
        self.estimate.networks += len(plan.missing) + (not set(family.fork_steps) <= parent)
        self.estimate.epochs[key] += steps / family.epoch_steps
        self.owner[family.parent_address] = family

    def _count_measuring(self, family: Family, passes: float, description: Mapping) -> None:
        card = family.card
        examples = card.n_train if description["split"] == "train" else card.n_test
        examples = min(description["examples"] or examples, examples)
        if description["norm_stats"] == "recompute":
            examples += card.n_train
        key = family.spec.model, card.label
        self.estimate.passes[key] += passes * examples
        self.estimate.longest[key] = max(self.estimate.longest[key], passes * examples)


def _children(family: Family) -> list[tuple[int, int]]:
    return [(step, sibling) for step in family.fork_steps for sibling in range(family.spec.siblings)]


def _stand_in_network(family: Family, depth: int) -> MLP:
    """As many layers as the family's own network, of one neuron each; it keeps running statistics if that does."""
    network = MLP((1, 1, 1), len(family.card.classes), (1,) * (depth - 1), "tanh")
    if tracked_norms(family.model):
        network.body.append(nn.BatchNorm1d(1, affine=False))  # no layer of its own, as it has no parameter
    return network


def _stand_in(family: Family) -> Dataset:
    g, classes = torch.Generator().manual_seed(0), family.card.classes
    parts = [
        Split(torch.randint(0, 256, (4, 1, 1, 1), generator=g, dtype=torch.uint8), torch.arange(4) % len(classes))
        for _ in range(2)
    ]
    return Dataset(family.card.label, classes, *parts)


def _random_state(model: nn.Module, name: str) -> dict[str, torch.Tensor]:
    """Weights by the name, and the statistics that a new network has."""
    g = torch.Generator().manual_seed(int(name[:15], 16))
    drawn = {
        key: torch.randn(prod(value.shape), generator=g).view(value.shape) for key, value in model.named_parameters()
    }
    return {**model.state_dict(), **drawn}
