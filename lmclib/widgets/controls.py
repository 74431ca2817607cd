"""The controls of a forking experiment, with what is allowed said before one errs."""

import html
from collections.abc import Callable
from contextlib import suppress
from itertools import combinations

import ipywidgets as widgets

from lmclib.book.settings import Settings
from lmclib.errors import LmcError
from lmclib.widgets.choice import Choice, numbers

MODELS = (
    "resnet8-w4",
    "resnet8-w8",
    "resnet14-w8",
    "resnet14-w8-gn",
    "resnet14-w8-none",
    "resnet14-w8-fixup",
    "resnet20-w8",
    "resnet20",
    "mlp-100-100",
)
DATA = ("digits", "cifar10")
SEEDS, SIBLINGS = 5, 5  # at most, of one run
HINT = (
    "<div style='line-height: 1.4; font-size: 85%'>Fork epochs: from 0 to below the number of epochs, fractions allowed; type one or several, × takes one away. "
    "Learning rate: above 0. Weight decay: 0 or more. Seed: a whole number from 0. Of several seeds the first is run first, and the others are drawn faint. Siblings: 2 to 5 children of each fork, of which one pair is measured. Networks: resnet8, resnet14, resnet20, with -wN for the width and "
    "-bn, -gn, -ln, -none or -fixup; mlp-N-N. Data: digits, cifar10, folder:PATH.</div>"
)


class Controls(widgets.VBox):
    """What can be chosen of a forking experiment.

    Args:
        settings: the chapter's settings, from which the controls start, and which hold all that has no control.
    """

    def __init__(self, settings: Settings):
        self.settings = settings
        wide = {"layout": widgets.Layout(width="290px"), "style": {"description_width": "95px"}}
        longest = max(30, settings.epochs)
        self.model = widgets.Combobox(
            value=settings.model, options=_first(settings.model, MODELS), description="network", **wide
        )
        self.data = widgets.Combobox(
            value=settings.data, options=_first(settings.data, DATA), description="data", **wide
        )
        self.epochs = widgets.IntSlider(
            settings.epochs, 1, longest, description="epochs", tooltip=f"1 to {longest}", **wide
        )
        self.lr = widgets.FloatText(settings.lr, description="learning rate", tooltip="above 0", **wide)
        self.weight_decay = widgets.FloatText(
            settings.weight_decay, description="weight decay", tooltip="0 or more", **wide
        )
        self.seed = widgets.IntText(settings.seed, description="seed", tooltip="a whole number from 0", **wide)
        self.seeds = widgets.IntSlider(1, 1, SEEDS, description="seeds", tooltip=f"1 to {SEEDS}", **wide)
        self.siblings = widgets.IntSlider(
            settings.siblings,
            2,
            max(SIBLINGS, settings.siblings),
            description="siblings",
            tooltip="children of each fork",
            **wide,
        )
        self.pair = widgets.Dropdown(
            options=_pairs(settings.siblings), description="pair", tooltip="the siblings whose barrier is shown", **wide
        )
        self.siblings.observe(self._offer_pairs, "value")
        self.split = widgets.Dropdown(
            options=("train", "test"), description="measured on", tooltip="the split that barriers are taken on", **wide
        )
        self.fork_epochs = widgets.TagsInput(value=_chips(settings.fork_epochs))
        self.fork_epochs.observe(self._tidy, "value")
        # a box beside the chips, as theirs does not answer to Enter in JupyterLab
        self.more = widgets.Text(
            placeholder="more: 0.5, or 0 0.5 2", continuous_update=False, layout=widgets.Layout(width="180px")
        )
        self.more.observe(self._add, "value")
        label = widgets.Label("fork epochs", layout=widgets.Layout(width="95px", justify_content="flex-end"))
        forks = widgets.Box((label, self.fork_epochs, self.more), layout=widgets.Layout(flex_flow="row wrap"))
        rest = (
            self.model,
            self.data,
            self.epochs,
            self.lr,
            self.weight_decay,
            self.seed,
            self.seeds,
            self.siblings,
            self.pair,
            self.split,
        )
        self.fields = {
            "model": self.model,
            "data": self.data,
            "fork_epochs": self.fork_epochs,
            "epochs": self.epochs,
            "lr": self.lr,
            "weight_decay": self.weight_decay,
            "seed": self.seed,
            "seeds": self.seeds,
            "siblings": self.siblings,
            "pair": self.pair,
            "split": self.split,
        }
        super().__init__((widgets.Box(rest, layout=widgets.Layout(flex_flow="row wrap")), forks, widgets.HTML(HINT)))

    def choice(self) -> Choice:
        """What is chosen now.

        Raises:
            LmcError: it is not allowed, in one line.
        """
        if not numbers([self.more.value]) and (typed := self.more.value.strip()):
            raise LmcError(f"fork epochs: {typed!r} holds no number; type numbers such as 0 0.5 2")
        forks = numbers([*self.fork_epochs.value, self.more.value])
        if not forks:
            raise LmcError("fork epochs: there is none; type at least one, such as 0 0.5 2")
        values = {name: field.value for name, field in self.fields.items()}
        return Choice.of(self.settings, {**values, "fork_epochs": forks})

    def show(self, choice: Choice) -> None:
        """Choose what was chosen before."""
        self.epochs.max = max(self.epochs.max, choice.epochs)
        self.seeds.max = max(self.seeds.max, choice.seeds)
        self.siblings.max = max(self.siblings.max, choice.siblings)
        for name, field in self.fields.items():
            value = getattr(choice, name)
            field.value = _chips(value) if name == "fork_epochs" else value

    def on_change(self, call: Callable[[], None]) -> None:
        """Have a function called when anything is chosen."""
        for field in (*self.fields.values(), self.more):
            field.observe(lambda _: call(), "value")

    def add_fork(self, epoch: float) -> None:
        """One more fork, at a place that was pointed at and not typed: two digits of it."""
        self.more.value = f"{epoch:.2g}"

    def _offer_pairs(self, change: dict) -> None:
        """All pairs of as many siblings; the one that was chosen stays, if it is still there."""
        chosen, offered = self.pair.value, _pairs(change["new"])
        with self.pair.hold_trait_notifications():
            self.pair.options = offered
            self.pair.value = chosen if chosen in dict(offered).values() else (0, 1)

    def _add(self, change: dict) -> None:
        """Make chips of what was typed; what is no number stays, so that it can be mended."""
        with suppress(LmcError):
            if added := numbers([change["new"]]):
                self.fork_epochs.value = _chips(numbers([*self.fork_epochs.value, *map(str, added)]))
                self.more.value = ""

    def _tidy(self, change: dict) -> None:
        """One chip a number, however several were typed; what is no number stays, so that it can be mended."""
        with suppress(LmcError):
            self.fork_epochs.value = _chips(numbers(change["new"]))


def error_html(error: BaseException) -> str:
    """What went wrong, as bold text and nothing that runs."""
    said = str(error) or type(error).__name__
    return f"<b>{html.escape(said, quote=False)}</b>"


def _chips(epochs: object) -> list[str]:
    return [f"{epoch:g}" for epoch in epochs]


def _pairs(siblings: int) -> list[tuple[str, tuple[int, int]]]:
    """All pairs of siblings, each with its name."""
    return [(f"{one + 1} and {other + 1}", (one, other)) for one, other in combinations(range(siblings), 2)]


def _first(own: str, others: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(dict.fromkeys((own, *others)))
