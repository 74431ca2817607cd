"""The live twin of the energy matrix."""

import ipywidgets as widgets

from lmclib.cube.energies import Energies
from lmclib.cube.points import LayerCube
from lmclib.measures.layerwise import group_barriers
from lmclib.measures.predictions import predict_group_barriers
from lmclib.widgets.live import LiveBox


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
