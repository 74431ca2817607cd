"""A first look at predictions on real images: between the first seed's committed networks, so that nothing of it is judged."""

import json
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
from safetensors.torch import load_file
from tqdm.auto import tqdm

from lmclib.data.load import load_data
from lmclib.device import one_thread
from lmclib.errors import LmcError
from lmclib.files import read_json, write_text
from lmclib.measures.layerwise import NETWORK
from lmclib.measures.predictions import energy_predictions
from lmclib.networks.build import build_model
from lmclib.provenance import provenance
from lmclib.runs.pairs import cube_between
from lmclib.store.results import committed_results
from lmclib.training.recipe import Recipe, steps_per_epoch

FILE = "hessian_predictions.first_look.json"  # among the committed results
COLUMNS = ["layer", "what", "method", "predicted", "actual", "pair", "fork_epoch"]
EXAMPLES = 1_000  # of the training split, evenly spaced


@dataclass(frozen=True)
class CommittedPair:
    """Two committed siblings at their end: what they are, and their checkpoints."""

    about: Mapping[str, object]
    paths: tuple[Path, Path]

    def fork_epoch(self, n_train: int) -> float:
        """When they parted, of a training set of that size."""
        recipe = Recipe(**self.about["recipe"])
        return self.about["fork_step"] / steps_per_epoch(n_train, recipe)

    def label(self, n_train: int) -> str:
        """What tells it from the others, in words."""
        recipe = self.about["recipe"]
        again = ", full length after the fork" if recipe["schedule_after_fork"] == "reset" else ""
        precision = "" if self.about["precision"] == "float32" else f", {self.about['precision']}"
        return f"{self.about['model']}, fork {self.fork_epoch(n_train):g}, rate {recipe['lr']:g}{again}{precision}"


def committed_pairs() -> list[CommittedPair]:
    """Every two committed siblings of the first seed, in the order of what they are."""
    found: dict[str, dict[int, Path]] = {}
    for path in sorted(committed_results().glob("*/*.safetensors")):
        about = read_json(path.parent / "run.json")
        found.setdefault(json.dumps({**about, "sibling": None}, sort_keys=True), {})[about["sibling"]] = path
    pairs = [
        CommittedPair(json.loads(key), (paths[0], paths[1]))
        for key, paths in sorted(found.items())
        if {0, 1} <= {*paths}
    ]
    first = min((pair.about["seed"] for pair in pairs), default=0)
    return [pair for pair in pairs if pair.about["seed"] == first]


def measure_first_look(data: str = "cifar10", progress: bool = True) -> pd.DataFrame:
    """Predict the barrier of every layer and of the whole network from curvature at the ends of every committed pair, beside what is
    measured; written to the committed results.

    Args:
        data: the data set that they were trained on, by its name on this machine.
        progress: whether to show a progress bar.

    Raises:
        LmcError: no pair is committed, or the data are others than those.
    """
    pairs, start = committed_pairs(), time.monotonic()
    if not pairs:
        raise LmcError(f"{committed_results()}: has no two siblings; pack some with `lmclib results pack`")
    images = load_data(data)
    if others := [pair for pair in pairs if pair.about["data"] != images.card.content]:
        raise LmcError(
            f"data={data!r}: is not what {others[0].paths[0].parent.name} was trained on; must be the same images"
        )
    parts = []
    with one_thread():
        for pair in tqdm(pairs, desc="predict", unit="pair", disable=not progress):
            model = build_model(pair.about["model"], images.shape, len(images.classes))
            ends = (load_file(path) for path in pair.paths)
            cube = cube_between(model, *ends, images, "train", "interpolate", EXAMPLES)
            n = images.card.n_train
            parts.append(energy_predictions(cube).assign(pair=pair.label(n), fork_epoch=pair.fork_epoch(n)))
    table = pd.concat(parts, ignore_index=True)
    table["what"] = table.layer.map(lambda layer: "whole network" if layer == NETWORK else "single layers")
    about = {"data": images.card.label, "split": "train", "examples": EXAMPLES, "seed": pairs[0].about["seed"]}
    said = {**about, **provenance(time.monotonic() - start), "rows": table[COLUMNS].round(6).to_dict("records")}
    write_text(committed_results() / FILE, json.dumps(said, indent=1) + "\n")
    return table[COLUMNS]


def first_look() -> tuple[pd.DataFrame, str]:
    """What is committed of it, and the caption: data, seed, hardware, date and commit; an empty table where nothing is."""
    said = read_json(committed_results() / FILE)
    if not said:
        return pd.DataFrame(columns=COLUMNS), "none is committed"
    caption = (
        f"{said['examples']:,} training images of {said['data']}, seed {said['seed']}; {said['hardware']}, PyTorch "
        f"{said['packages']['torch']}, {said['date']}, commit {said['commit']}"
    )
    return pd.DataFrame(said["rows"]), caption
