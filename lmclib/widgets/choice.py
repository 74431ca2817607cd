"""What a reader chose: a snapshot of the controls, and the ways to say it again."""

import re
import shlex
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from functools import cached_property

from lmclib.book.profiles import ALPHAS, FORKING, fork_specs
from lmclib.book.settings import Settings, parameters
from lmclib.errors import LmcError
from lmclib.root import RUNS
from lmclib.runs.spec import ForkSpec

SHOWN = {"split": "train", "pair": (0, 1)}  # what decides what is measured, and not what is trained
SEPARATORS = re.compile(r"[\s,;\[\]()]+")


@dataclass(frozen=True)
class Choice:
    """Everything that decides a run of the explorer and its figure, taken at one moment and checked."""

    profile: str
    store: str
    model: str
    data: str
    fork_epochs: tuple[float, ...]
    epochs: int
    siblings: int
    seed: int
    seeds: int
    lr: float
    weight_decay: float
    precision: str
    examples: int
    split: str
    pair: tuple[int, int]  # of siblings, whose barrier is shown

    @classmethod
    def of(cls, settings: Settings, chosen: Mapping[str, object]) -> "Choice":
        """What is chosen, and the chapter's settings for all else.

        Raises:
            LmcError: a value out of range, in one line.
        """
        names = [field.name for field in fields(cls) if field.name not in ("profile", "store", *SHOWN)]
        own = {name: getattr(settings, name) for name in names}
        given = {name: value for name, value in chosen.items() if name not in SHOWN}
        here = {"profile": settings.profile, "store": settings.store, **given}
        checked = parameters(here, {settings.profile: own})
        values = {name: getattr(checked, name) for name in names}
        values["fork_epochs"] = tuple(sorted(values["fork_epochs"]))
        shown = {name: chosen.get(name, default) for name, default in SHOWN.items()}
        if max(shown["pair"]) >= values["siblings"]:
            raise LmcError(f"pair: there are {values['siblings']} siblings a fork; choose two of them")
        return cls(settings.profile, checked.store, **values, **shown)

    @property
    def alphas(self) -> int:
        """Points on the segment: as many as in the chapter, so that its tables are found."""
        return ALPHAS[self.profile]

    @property
    def measured_examples(self) -> int | None:
        """How many examples barriers are measured on: the test split is taken whole, as in the chapter."""
        return self.examples if self.split == "train" else None

    @cached_property
    def specs(self) -> list[ForkSpec]:
        """The forking experiment, once for each seed."""
        return fork_specs(self)

    @property
    def seeds_said(self) -> str:
        """Which seeds, in words."""
        return f"seed {self.seed}" if self.seeds == 1 else f"seeds {self.seed} to {self.seed + self.seeds - 1}"

    @property
    def pair_said(self) -> str:
        """Which siblings, in words: counted from 1."""
        return "siblings {} and {}".format(*(child + 1 for child in self.pair))

    @property
    def said(self) -> str:
        """All of it in a line, for a caption."""
        return (
            f"{self.model} on {self.data}, forks {_listed(self.fork_epochs)}; {self.epochs} epochs, lr {self.lr:g}, "
            f"weight decay {self.weight_decay:g}, {self.seeds_said}; {self.split} split, {self.pair_said}"
        )

    @property
    def short(self) -> str:
        """What tells it from others in a list."""
        return f"{self.model}, {self.data}, {self.seeds_said}, {self.epochs} epochs, lr {self.lr:g}, wd {self.weight_decay:g}, {self.split}, {self.pair_said}, forks {_listed(self.fork_epochs)}"

    @property
    def file_name(self) -> str:
        """A name for files that says what they hold, without an ending."""
        data = re.sub(r"[^\w.-]+", "-", self.data.rpartition("/")[2] or self.data).strip("-")
        model = re.sub(r"[^\w.-]+", "-", self.model)
        forks = "-".join(f"{epoch:g}" for epoch in self.fork_epochs)
        return (
            f"forking_{model}_{data}_forks-{forks}_epochs-{self.epochs}_lr-{self.lr:g}_wd-{self.weight_decay:g}"
            f"_{self.seeds_said.replace(' ', '-')}_{self.split}_{self.pair_said.replace(' ', '-')}"
        )

    @property
    def papermill(self) -> str:
        """The line that runs the whole chapter with these settings, from the repository's root."""
        scale = FORKING.get(self.profile, {})
        given = {"profile": self.profile} | ({"store": self.store} if self.store != RUNS else {})
        for name in scale:
            value = getattr(self, name)
            if name == "seeds" or value != scale[name]:
                given[name] = list(value) if isinstance(value, tuple) else value
        pairs = [part for name, value in given.items() for part in ("-p", name, str(value))]
        return shlex.join(["papermill", "book/resnet_forking.ipynb", "out.ipynb", *pairs])

    @property
    def python(self) -> str:
        """Python that makes the same table."""
        spec = self.specs[0]
        recipe = {name: value for name, value in spec.recipe.model_dump(exclude_unset=True).items()}
        given = ", ".join(f"{name}={value!r}" for name, value in recipe.items())
        return f"""import pandas as pd

import lmclib as lmc

specs = [
    lmc.ForkSpec(
        model={spec.model!r}, data={spec.data!r}, fork_epochs={spec.fork_epochs!r}, siblings={spec.siblings}, seed=seed,
        recipe=lmc.Recipe({given}),
        checkpoint_epochs={spec.checkpoint_epochs!r}, precision={spec.precision!r},
    )
    for seed in {tuple(spec.seed for spec in self.specs)}
]
families = lmc.fork_all(specs, store={self.store!r})
table = pd.concat(
    lmc.barrier_evolution(
        families, alphas={self.alphas}, pairs=[{self.pair!r}], split={self.split!r}, norm_stats=statistics, examples={self.measured_examples!r}
    )
    for statistics in ("interpolate", "recompute")
)
"""


def numbers(typed: Iterable[str]) -> list[float]:
    """The numbers that were typed, in whatever way lists are written: `0 0.5 2`, `0, 0.5, 2`, `[0, 0.5, 2]`; each once.

    Raises:
        LmcError: something else is among them.

    Example:
        >>> numbers(["[0, 0.5]", "2 0.5"])
        [0.0, 0.5, 2.0]
    """
    parts = [part for text in typed for part in SEPARATORS.split(text) if part]
    try:
        return list(dict.fromkeys(float(part) for part in parts))
    except ValueError:
        wrong = next(part for part in parts if not _is_number(part))
        raise LmcError(f"fork epochs: {wrong!r} is no number; type numbers such as 0 0.5 2") from None


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _listed(epochs: Iterable[float]) -> str:
    return ", ".join(f"{epoch:g}" for epoch in epochs)
