"""Figures that say what they show: the settings they were made from stay beside them, and a stale one is greyed."""

import html
from collections.abc import Callable

import altair as alt
import ipywidgets as widgets
import pandas as pd

from lmclib.charts import live
from lmclib.charts.fork_figure import ADDED, fork_figure
from lmclib.charts.notebook import empty_chart, live_chart
from lmclib.widgets.choice import Choice
from lmclib.widgets.experiment import ENDS, LOSSES, REST, Experiment
from lmclib.widgets.live import FITTED, SLOT, charts_offline

STALE = "lmc-stale"
STYLE = f"""<style>
.{STALE} {{ opacity: 0.35; filter: grayscale(1); }}
.lmc-caption, .lmc-said .widget-html-content {{ line-height: 1.4; }}
</style>{FITTED}"""
STATISTICS = "batch-norm statistics interpolated and recomputed"


class Slot(widgets.VBox):
    """A place for a chart that can be replaced, and knows what it was made from; what a reader has moved in it stays moved.

    Attributes:
        choice: what the chart was made from; None where there is none.
    """

    def __init__(self):
        self.choice: Choice | None = None
        self._given: dict[str, object] = {}  # where sliders and switches started
        self._moved: dict[str, object] = {}  # where a reader has moved them
        super().__init__()
        self.add_class(SLOT)

    def prepare(self, file_name: str) -> None:
        """Have the page load what a chart needs, before there is one."""
        if not self.children:
            self.children = (empty_chart(file_name),)

    def show(self, chart: alt.TopLevelMixin, choice: Choice) -> None:
        """Show a chart in place of the one before."""
        self.choice = choice
        if self.children:
            (shown,) = self.children
            self._keep_params(chart, shown.params.trait_values())
            live_chart(chart, choice.file_name, shown)
        else:
            charts_offline()
            self._keep_params(chart, {})
            self.children = (live_chart(chart, choice.file_name),)

    def _keep_params(self, chart: alt.TopLevelMixin, now: dict[str, object]) -> None:
        """Start a chart's sliders and switches where a reader has moved those of the chart before it."""
        self._moved |= {name: value for name, value in now.items() if value != self._given.get(name, value)}
        params = [] if getattr(chart, "params", alt.Undefined) is alt.Undefined else chart.params
        for param in params:
            name, bind = str(getattr(param.name, "name", param.name)), getattr(param, "bind", alt.Undefined)
            if name in self._moved and bind is not alt.Undefined and _allows(bind.to_dict(), self._moved[name]):
                param.value = self._moved[name]
            self._given[name] = getattr(param, "value", None)

    def watch(self, selection: str, call: Callable[[dict[str, object]], None]) -> None:
        """Have a function called with what a reader selects in the chart that is shown now."""
        (shown,) = self.children
        shown.selections.observe(lambda change: [call(point) for point in change["new"].value], selection)

    def grey(self, stale: bool) -> None:
        """Grey it, or show it plainly."""
        if stale != self.is_stale:
            (self.add_class if stale else self.remove_class)(STALE)

    @property
    def is_stale(self) -> bool:
        """Whether it is greyed."""
        return STALE in self._dom_classes

    @property
    def chart(self) -> alt.TopLevelMixin | None:
        """What is shown."""
        return self.children[0].chart if self.children else None


class Shown(widgets.VBox):
    """The figures of one choice: training loss, barrier against fork, ridge; and above them what they were made from.

    Attributes:
        choice: what the barriers were made from; None where there are none.
        table: the barrier curves.
        add_fork: called with the epoch at which a reader double-clicks the parent's axis.
    """

    def __init__(self):
        self.add_fork: Callable[[float], None] = lambda epoch: None
        self.choice: Choice | None = None
        self.table: pd.DataFrame | None = None
        self.pinned: tuple[Choice, pd.DataFrame] | None = None
        self._note = ""
        self.training, self.barrier, self.ridge = Slot(), Slot(), Slot()
        self.measure = widgets.ToggleButtons(
            options=("error", "loss"), description="barrier in", style={"button_width": "60px"}
        )
        self.measure.layout.display = "none"
        self.measure.observe(lambda _: self._draw_barrier(), "value")
        self.caption = widgets.HTML()
        barrier = widgets.VBox((self.barrier, self.measure))
        barrier.add_class(SLOT)
        figures = widgets.Box((self.training, barrier, self.ridge), layout=widgets.Layout(flex_flow="row wrap"))
        super().__init__((widgets.HTML(STYLE), self.caption, figures))

    def prepare(self, file_name: str) -> None:
        """Have the page load what charts need, before there are any."""
        for slot in (self.training, self.barrier, self.ridge):
            slot.prepare(file_name)

    def draw(self, experiment: Experiment, new: set[str]) -> None:
        """Draw what is new of an experiment.

        Args:
            experiment: what to show, as far as it is.
            new: `LOSSES`, `ENDS`, `REST`, or several of them.
        """
        choice, table = experiment.choice, experiment.table
        if LOSSES in new and (losses := experiment.curves) is not None:
            chart = live.training(losses, choice.epochs, choice.fork_epochs, experiment.curves_said)
            self.training.show(chart, choice)
        if table is None:
            return
        self.choice, self.table = choice, table
        missing = "" if experiment.is_complete else f"So far {experiment.said}."
        self._note = " ".join([missing, *(f"Left out: {said}." for said in experiment.dead)]).strip()
        if ENDS in new:
            self._draw_barrier()
            self.measure.layout.display = None
        if REST in new and experiment.parents is not None:
            self.ridge.show(fork_figure(table, experiment.parents, adding=True), choice)
            self.ridge.watch(ADDED, lambda point: self.add_fork(point["at"]))

    def pin(self, keep: bool) -> None:
        """Lay what is shown over all that is shown later, or no longer lay anything."""
        self.pinned = (self.choice, self.table) if keep and self.table is not None else None
        self._draw_barrier()

    def say(self, chosen: Choice | None, running: Choice | None) -> None:
        """Say what the figures show, and grey those that do not show what is chosen.

        Args:
            chosen: what the controls say; None where that is not allowed.
            running: what a run is going on for; None where there is none.
        """
        for slot in (self.training, self.barrier, self.ridge):
            slot.grey(slot.choice not in (None, chosen) or (running is not None and slot.choice != running))
        if self.choice is None:
            self.caption.value = ""
            return
        what = "<b>Shows an earlier choice:</b>" if self.barrier.is_stale else "Shows"
        note = f" <b>{html.escape(self._note)}</b>" if self._note else ""
        self.caption.value = (
            f"<div class='lmc-caption'>{what} {html.escape(self.choice.said)}; {STATISTICS}.{note}</div>"
        )

    @property
    def is_stale(self) -> bool:
        """Whether the barriers are greyed."""
        return self.barrier.is_stale

    def _draw_barrier(self) -> None:
        if self.table is None:
            return
        other = self.pinned if self.pinned and self.pinned[0] != self.choice else None
        tables = [self.table] + ([other[1]] if other else [])
        names = beside(self.choice, other[0] if other else None)
        runs = dict(zip(names, map(at_the_end, tables), strict=True))
        self.barrier.show(live.against_fork(runs, self.measure.value, self.choice.fork_epochs), self.choice)


def at_the_end(table: pd.DataFrame) -> pd.DataFrame:
    """The rows of each fork's last epoch, of every seed that is there."""
    return table[table.epoch == table.groupby("fork_epoch").epoch.transform("max")]


def beside(choice: Choice, other: Choice | None) -> list[str]:
    """Names for one choice, or for two: what they differ in, other than their forks."""
    if other is None:
        return ["this run"]
    names = ("model", "data", "epochs", "lr", "weight_decay", "seed", "seeds", "split")
    different = [name for name in names if getattr(choice, name) != getattr(other, name)]
    if not different:
        return ["this run", "pinned"]
    return [
        f"{what}: " + ", ".join(f"{name.replace('_', ' ')} {getattr(one, name)}" for name in different)
        for what, one in (("this run", choice), ("pinned", other))
    ]


def _allows(bind: dict, value: object) -> bool:
    if "options" in bind:
        return value in bind["options"]
    return isinstance(value, int | float) and bind.get("min", value) <= value <= bind.get("max", value)
