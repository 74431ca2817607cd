"""Live controls for a notebook; on a page without Python each says where it works."""

import ipywidgets as widgets

from lmclib.barriers import barrier_evolution
from lmclib.charts import forking as figures
from lmclib.cube import LayerCube
from lmclib.errors import LmcError
from lmclib.forking import fork_all
from lmclib.layerwise import group_barriers
from lmclib.prediction import Energies, predict_group_barriers
from lmclib.profiles import fork_specs
from lmclib.settings import Settings, parameters


class LiveBox(widgets.VBox):
    """A box of controls that is a line of text where no kernel can answer."""

    NOTE = "This control needs Python: open the chapter with <code>make lab</code>. The sliders on this page work without it."

    def _repr_mimebundle_(self, **kwargs: object) -> dict[str, str]:
        return {**super()._repr_mimebundle_(**kwargs), "text/html": f"<p><em>{self.NOTE}</em></p>"}


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
            self.said.value = f"<b>{error}</b>"
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
        names = ("model", "data", "fork_epochs", "epochs", "siblings", "seed", "lr", "weight_decay")
        own = {name: getattr(self.settings, name) for name in names}
        settings = parameters(chosen, {self.settings.profile: own})
        families = fork_all(fork_specs(settings)[:1], self.settings.store, progress=self._progress)
        return barrier_evolution(families, 11, pairs=[(0, 1)], progress=False)

    def _progress(self, done: int, total: int) -> None:
        self.bar.max, self.bar.value = total, done
        self.bar.description = f"{done / total:.0%}"


class SetExplorer(LiveBox):
    """Tick layers, see their predicted barrier at once, and evaluate the set on the spot.

    Args:
        cube: the layer cube.
        energies: its energies, computed here if they are not given.
    """

    NOTE = (
        "This control evaluates any set of layers: open the chapter with <code>make lab</code>. The boxes of the figure "
        "above work without it."
    )

    def __init__(self, cube: LayerCube, energies: Energies | None = None):
        self.cube, self.energies = cube, energies or Energies.of(cube)
        self.layers = widgets.SelectMultiple(
            options=cube.layers, value=cube.layers, rows=min(12, len(cube.layers)), description="layers"
        )
        self.evaluate = widgets.Button(description="Evaluate this set now", button_style="primary")
        self.said = widgets.HTML()
        self.layers.observe(lambda _: self._predict(), "value")
        self.evaluate.on_click(lambda _: self._measure())
        super().__init__((self.layers, self.evaluate, self.said))
        self._predict()

    def _predict(self) -> None:
        self.evaluate.disabled = not self.layers.value
        if not self.layers.value:
            self.said.value = "Choose one layer or more (with Ctrl or Shift)."
            return
        both = (
            predict_group_barriers(self.energies, {"set": self.layers.value}, method=method).loss_barrier.item()
            for method in ("published", "gradient")
        )
        self.predicted = dict(zip(("as published", "with gradients"), both, strict=True))
        self.said.value = "predicted: " + ", ".join(
            f"{name} {value:.3f} nats" for name, value in self.predicted.items()
        )

    def _measure(self) -> None:
        table = group_barriers(self.cube, {"set": self.layers.value}).set_index("into")
        self.actual = float(table.loss_barrier["both"])
        self._predict()
        self.said.value += (
            f"<br><b>actual: {self.actual:.3f} nats</b>, error {table.error_barrier['both']:.1%} "
            f"(into model 1 {table.loss_barrier['1']:.3f} nats, into model 2 {table.loss_barrier['2']:.3f})"
        )
