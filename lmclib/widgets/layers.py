"""The live twin of the energy matrix."""

import html

import ipywidgets as widgets
import pandas as pd

from lmclib.charts.forking import fork_label
from lmclib.cube.energies import Energies
from lmclib.cube.points import LayerCube
from lmclib.measures.layerwise import group_barriers
from lmclib.measures.predictions import predict_group_barriers
from lmclib.runs.pairs import Pair
from lmclib.widgets.live import LiveBox, wide

METHODS = {"published": "as published", "gradient": "with gradients"}


class SetExplorer(LiveBox):
    """Tick layers, see their predicted barrier at once, and evaluate the set on the spot; what was tried stays in a log.

    Args:
        cube: the layer cube.
        energies: its energies, computed here if they are not given.
        about: what the cube is between and measured on, in words.

    Attributes:
        tried: a row a set that was evaluated: `n_layers`, `layers`, `published`, `gradient`, `actual`, `error`, in nats and as a fraction.
    """

    NOTE = (
        "This control evaluates any set of layers: open the chapter with <code>make lab</code>. The boxes of the figure "
        "above work without it."
    )
    PICTURE = (
        "live-sets.png",
        "A list of layers to choose from, a button that evaluates them, their predicted and actual barrier, and a log of the sets that were tried",
    )

    def __init__(self, cube: LayerCube, energies: Energies | None = None, about: str = ""):
        self.cube, self.energies, self.about = cube, energies or Energies.of(cube), about
        self.tried = pd.DataFrame(columns=["n_layers", "layers", *METHODS, "actual", "error"])
        self.what = widgets.HTML(f"Barriers at α = ½, weighted over both directions. {html.escape(about)}")
        self.layers = widgets.SelectMultiple(
            options=cube.layers, value=cube.layers, rows=min(12, len(cube.layers)), description="layers"
        )
        self.evaluate = widgets.Button(
            description="Evaluate this set now", button_style="primary", layout=widgets.Layout(width="200px")
        )
        self.said, self.journal = widgets.HTML(), widgets.HTML()
        self.layers.observe(lambda _: self._predict(), "value")
        self.evaluate.on_click(lambda _: self._measure())
        super().__init__((self.what, self.layers, self.evaluate, self.said, self.journal))
        self._predict()

    @classmethod
    def of_pair(
        cls, pair: Pair, energies: Energies | None = None, split: str = "train", examples: int | None = None
    ) -> "SetExplorer":
        """The explorer of the cube between two networks, which it names.

        Args:
            pair: the two networks.
            energies: of this very cube, where they are known.
            split: `train` or `test`.
            examples: how many of the split's examples, evenly spaced; all by default.
        """
        cube, family, labels = pair.cube(split, examples=examples), pair.families[0], pair.labels
        about = (
            f"{family.spec.model} on {family.card.label}, seed {labels['seed']}, forked at epoch {fork_label(pair.fork_epoch)}, "
            f"siblings {labels['pair']} at epoch {pair.epoch}; {split} split, {len(cube.data[1])} images."
        )
        return cls(cube, energies, about)

    @property
    def best(self) -> pd.DataFrame:
        """The best set found of each number of layers: the one with the lowest barrier."""
        order = self.tried.sort_values("actual", kind="stable")
        return order.drop_duplicates("n_layers").sort_values("n_layers", ignore_index=True)

    def _predict(self) -> None:
        self.evaluate.disabled = not self.layers.value
        if not self.layers.value:
            self.said.value = "Choose one layer or more (with Ctrl or Shift)."
            return
        self.predicted = {
            method: predict_group_barriers(self.energies, {"set": self.layers.value}, method=method).loss_barrier.item()
            for method in METHODS
        }
        self.said.value = "predicted: " + ", ".join(
            f"{name} {self.predicted[method]:.3f} nats" for method, name in METHODS.items()
        )

    def _measure(self) -> None:
        table = group_barriers(self.cube, {"set": self.layers.value}).set_index("into")
        self.actual = float(table.loss_barrier["both"])
        self._predict()
        self.said.value += (
            f"<br><b>actual: {self.actual:.3f} nats</b>, error {table.error_barrier['both']:.1%} "
            f"(into model 1 {table.loss_barrier['1']:.3f} nats, into model 2 {table.loss_barrier['2']:.3f})"
        )
        self._write_down(float(table.error_barrier["both"]))

    def _write_down(self, error: float) -> None:
        """Put the set in the log, in place of an earlier row of the same set, and show the log with the latest first."""
        names = " ".join(self.layers.value)
        row = {
            "n_layers": len(self.layers.value),
            "layers": names,
            **self.predicted,
            "actual": self.actual,
            "error": error,
        }
        others = self.tried[self.tried.layers != names]
        self.tried = pd.DataFrame([*others.to_dict("records"), row])
        best = self.best
        top = best[best.n_layers == row["n_layers"]].iloc[0]
        layers = f"{row['n_layers']} layer" + "s" * (row["n_layers"] > 1)
        self.journal.value = (
            f"Best set found of {layers}: <b>{html.escape(top.layers)}</b>, {top.actual:.3f} nats. "
            f"Sets tried, ★ the best of its size:{self._table(set(best.layers))}"
        )

    def _table(self, best: set[str]) -> str:
        heads = ("", "how many", "layers", *(f"predicted {name}" for name in METHODS.values()), "actual, nats", "error")
        rows = "".join(
            f"<tr><td>{'★' if row.layers in best else ''}</td><td>{row.n_layers}</td><td>{html.escape(row.layers)}</td>"
            f"<td>{row.published:.3f}</td><td>{row.gradient:.3f}</td><td>{row.actual:.3f}</td><td>{row.error:.1%}</td></tr>"
            for row in self.tried[::-1].itertuples()
        )
        head = "".join(f"<th>{head}</th>" for head in heads)
        return wide(f"<table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>")
