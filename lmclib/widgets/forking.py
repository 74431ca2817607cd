"""The live twin of the forking figures."""

import html

import ipywidgets as widgets

from lmclib.book.profiles import fork_specs
from lmclib.book.settings import Settings, parameters
from lmclib.charts import forking as figures
from lmclib.errors import LmcError
from lmclib.measures.barriers import barrier_evolution
from lmclib.runs.fork import fork_all
from lmclib.widgets.live import LiveBox


class ForkingExplorer(LiveBox):
    """Choose a network, fork epochs, length and seed; press Run; watch the figure fill in.

    Args:
        settings: the chapter's settings, from which the controls start; runs go to its store.
    """

    def __init__(self, settings: Settings):
        self.settings = settings
        self.model = widgets.Text(settings.model, description="model")
        self.fork_epochs = widgets.Text(str(list(settings.fork_epochs)), description="forks")
        self.epochs = widgets.IntSlider(settings.epochs, 1, max(30, settings.epochs), description="epochs")
        self.seed = widgets.IntText(settings.seed, description="seed")
        self.run = widgets.Button(description="Run", button_style="primary")
        self.bar = widgets.IntProgress(0, 0, 1, description="training")
        self.said = widgets.HTML()
        self.figure = widgets.Output()
        self.run.on_click(self._run)
        controls = (self.model, self.fork_epochs, self.epochs, self.seed, self.run, self.bar, self.said, self.figure)
        super().__init__(controls)

    def _run(self, _: widgets.Button) -> None:
        self.run.disabled, self.said.value = True, ""
        try:
            table = self.measure()
        except LmcError as error:
            self.said.value = f"<b>{html.escape(str(error), quote=False)}</b>"
        else:
            self.figure.outputs = ()
            self.figure.append_display_data(figures.evolution(table))
            self.said.value = "done; a second Run with the same choices answers at once"
        finally:
            self.run.disabled = False

    def measure(self):
        """The barrier evolution of what is chosen, trained where the store lacks it."""
        chosen = {
            "profile": self.settings.profile,
            "model": self.model.value,
            "fork_epochs": self.fork_epochs.value,
            "epochs": self.epochs.value,
            "seed": self.seed.value,
        }
        names = (
            "model",
            "data",
            "fork_epochs",
            "epochs",
            "siblings",
            "seed",
            "lr",
            "weight_decay",
            "precision",
            "examples",
        )
        own = {**{name: getattr(self.settings, name) for name in names}, "seeds": 1}
        settings = parameters(chosen, {self.settings.profile: own})
        families = fork_all(fork_specs(settings), self.settings.store, progress=self._progress)
        return barrier_evolution(families, 11, pairs=[(0, 1)], progress=False, examples=settings.examples)

    def _progress(self, done: int, total: int) -> None:
        self.bar.max, self.bar.value = total, done
        self.bar.description = f"{done / total:.0%}"
