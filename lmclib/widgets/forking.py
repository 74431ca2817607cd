"""The live twin of the forking figures."""

import html
import time
from pathlib import Path

import ipywidgets as widgets
import pandas as pd

from lmclib.book.settings import Settings
from lmclib.errors import LmcError
from lmclib.widgets.background import Background, Stopped, on_idle_interrupt
from lmclib.widgets.choice import Choice
from lmclib.widgets.controls import Controls, error_html
from lmclib.widgets.experiment import ENDS, LOSSES, REST, Experiment, Pace
from lmclib.widgets.live import LiveBox, charts_offline
from lmclib.widgets.shown import Shown

STEPS = 1000  # of the bar
PAUSE = 0.8  # seconds at least between two drawings, which take time from what is trained
SPARE = 4  # times as long as a drawing takes the experiment goes on before the next


class ForkingExplorer(LiveBox):
    """Choose a network, fork epochs, length and seed; press Run; watch the figures fill in, fork by fork.

    A run takes a snapshot of the controls and goes on in a thread of its own, so that other cells can be run meanwhile; Stop ends it
    and keeps what is done. The figures say what they were made from, and are greyed where that is not what is chosen.

    Args:
        settings: the chapter's settings, from which the controls start; runs go to its store.
    """

    PICTURE = (
        "live-forks.png",
        "Fields for network, data, fork epochs and recipe, Run and Stop; training curves, the barrier against the fork epoch, and below them the figure of forks with its maps",
    )

    def __init__(self, settings: Settings):
        self.settings = settings
        self.controls, self.shown = Controls(settings), Shown()
        self.shown.add_fork = self.controls.add_fork
        self.run = widgets.Button(description="Run", button_style="primary", tooltip="train and measure what is chosen")
        self.stop = widgets.Button(description="Stop", disabled=True, tooltip="keeps what is done")
        self.bar = widgets.IntProgress(0, 0, STEPS, layout=widgets.Layout(width="200px"))
        self.said = widgets.HTML()
        self.said.add_class("lmc-said")
        self.history = widgets.Dropdown(
            options=[("no finished run yet", None)], description="history", disabled=True, layout={"width": "60%"}
        )
        self.pin = widgets.ToggleButton(
            description="Pin", disabled=True, tooltip="lay the run that is shown over later ones"
        )
        self.save = widgets.Button(
            description="Save table",
            disabled=True,
            tooltip="as CSV, beside this notebook or where the kernel was started",
        )
        self.papermill, self.python = (widgets.Textarea(rows=n, layout={"width": "98%"}) for n in (3, 12))
        again = widgets.Accordion((self.papermill, self.python), titles=("Copy as papermill line", "Copy as Python"))
        self._work: Background | None = None
        self._running = False
        self._new: set[str] = set()  # what there is to see and was not drawn
        self._experiment: Experiment | None = None
        self._finished: dict[Choice, Experiment] = {}
        self.run.on_click(lambda _: self._begin())
        self.stop.on_click(lambda _: self._ask_to_stop())
        self.save.on_click(lambda _: self._save())
        self.pin.observe(lambda change: self.shown.pin(change["new"]), "value")
        self.history.observe(lambda change: self._look_back(change["new"]), "value")
        self.controls.on_change(self._compare)
        buttons = widgets.Box((self.run, self.stop, self.bar, self.said), layout=_WRAPPED)
        after = widgets.Box((self.history, self.pin, self.save), layout=_WRAPPED)
        super().__init__((self.controls, buttons, self.shown, after, again))
        self._compare()

    def _repr_mimebundle_(self, **kwargs: object) -> dict[str, str]:
        if charts_offline():  # now, and not when Run is pressed
            self.shown.prepare(self._chosen.file_name if self._chosen else "forking")
        return super()._repr_mimebundle_(**kwargs)

    @property
    def table(self) -> pd.DataFrame | None:
        """The barrier curves that are shown; None where there are none."""
        return self.shown.table

    def wait(self, seconds: float | None = None) -> bool:
        """Wait for the end of a run, at most some seconds; whether there is none any more."""
        return self._work is None or self._work.wait(seconds)

    def _begin(self) -> None:
        """Start what is chosen now, or show it where this session has it."""
        if self._running:
            return
        self._compare()
        if (choice := self._chosen) is None:
            return
        if choice in self._finished:
            self._show(self._finished[choice])
            self.said.value = "as measured before in this session"
            return
        self.said.value = "looking up what is remembered"
        work = Background(lambda _: self._experiment.run(), self._end)
        try:
            self._experiment = Experiment(choice, work.check, self._tell, self._draw_sometimes, self._experiment)
        except Exception as error:  # a network of the reader's own may fail in any way
            self.said.value = error_html(error)
            self._compare(keep=True)
            return
        self._pace, self._next_told, self._next_drawn, self._start = Pace(), 0.0, 0.0, time.monotonic()
        self._new = set()
        on_idle_interrupt(self._ask_to_stop)
        self._work = work
        self._set_running(True)
        work.start()

    def _ask_to_stop(self) -> None:
        if self._running:
            self._work.stop()
            self.stop.disabled = True
            self.said.value = (
                "stopping, as soon as the step that is being computed, or another process that is waited for, allows it"
            )

    def _set_running(self, running: bool) -> None:
        self._running = running
        self.run.disabled, self.stop.disabled = running, not running
        self.history.disabled = running or not self._finished
        self.bar.bar_style, self.bar.value = "", 0
        self._compare(running=self._experiment.choice if running else None, keep=True)

    def _compare(self, running: Choice | None = None, keep: bool = False) -> None:
        """Compare what is chosen with what is shown.

        Args:
            running: what a run is going on for.
            keep: whether the line beside the buttons stays.
        """
        if running is None and self._running:
            running = self._experiment.choice
        try:
            self._chosen, said = self.controls.choice(), ""
        except LmcError as error:
            self._chosen, said = None, error_html(error)
        if not keep and not self._running:  # what is said is of another choice
            self.said.value, self.bar.value = said, 0
        self.papermill.value = self._chosen.papermill if self._chosen else ""
        self.python.value = self._chosen.python if self._chosen else ""
        self.shown.say(self._chosen, running)

    def _tell(self, what: str, done: int, total: int) -> None:
        """Say what is going on, some times a second; called in the run's thread."""
        now = time.monotonic()
        if now < self._next_told and done < total:
            return
        self._next_told = now + 0.2
        if not self._work.is_stopping:
            self.said.value = self._pace.said(what, done, total)
        self.bar.value = round(STEPS * done / max(total, 1))

    def _draw_sometimes(self, what: str) -> None:
        """Draw what is new, but not so often that it would slow the experiment down; called in the run's thread."""
        self._new.add(what)
        start = time.monotonic()
        if start < self._next_drawn or not self._experiment.is_worth_a_look:
            return
        self._draw(self._experiment, self._new)
        now = time.monotonic()
        self._next_drawn = now + max(PAUSE, SPARE * (now - start))

    def _draw(self, experiment: Experiment, new: set[str]) -> None:
        """Draw what is new of an experiment, and compare it with what is chosen."""
        new, self._new = set(new), set()
        self.shown.draw(experiment, new)
        self._compare(running=experiment.choice if self._running else None, keep=True)

    def _end(self, error: BaseException | None) -> None:
        """Say how it ended, and show what there is; called in the run's thread."""
        experiment = self._experiment
        try:
            self._draw(experiment, self._new | {LOSSES, REST})
        except Exception as failed:  # what cannot be drawn must not leave the buttons as they are
            error = error or failed
        if error is None and experiment.table is None:  # not one pair could be measured
            error = LmcError("; ".join(experiment.dead))
        if error is None:
            self._finished[experiment.choice] = experiment
            said = f"done in {time.monotonic() - self._start:.1f} s"
            said = html.escape("; ".join([said, *experiment.dead]))
            self._list()
        elif isinstance(error, Stopped):
            said = f"<b>Stopped.</b> {html.escape(experiment.kept)} Run goes on from there."
        else:
            said = error_html(error)
        self._set_running(False)
        if error is None:
            self.bar.bar_style, self.bar.value = "success", STEPS
        self.pin.disabled = self.save.disabled = self.shown.table is None
        self.said.value = said

    def _list(self) -> None:
        """Put the finished runs in the list, the newest first and chosen."""
        newest = [(experiment.choice.short, experiment.choice) for experiment in reversed(self._finished.values())]
        self.history.index = None  # else the front end, told of no other place, would show none
        self.history.options = newest
        self.history.index = 0

    def _look_back(self, choice: Choice | None) -> None:
        """Show a finished run, and choose again what it was made from."""
        if choice in self._finished and not self._running and self.shown.choice != choice:
            self.controls.show(choice)
            self._show(self._finished[choice])

    def _show(self, experiment: Experiment) -> None:
        self._draw(experiment, {LOSSES, ENDS, REST})
        if self.history.value != experiment.choice:
            self.history.value = experiment.choice

    def _save(self) -> None:
        """Write what is shown as CSV, under a name that says what it is."""
        path = Path(f"{self.shown.choice.file_name}.csv")
        try:
            self.shown.table.to_csv(path, index=False)
        except OSError as error:
            self.said.value = error_html(LmcError(f"{path.resolve()}: cannot be written to ({error.strerror})"))
            return
        self.said.value = f"saved as {html.escape(str(path.resolve()))}"


_WRAPPED = widgets.Layout(flex_flow="row wrap", align_items="center")
