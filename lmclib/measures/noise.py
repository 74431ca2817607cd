"""Noise in the training subspace, in its null space and along the averaging direction: as published, and with its defects corrected."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache

import pandas as pd
import torch
from torch import Tensor

from lmclib.cube.points import LayerCube
from lmclib.data.clusters import CLASSES, FEATURES, clusters
from lmclib.errors import LmcError
from lmclib.measures.layerwise import NETWORK
from lmclib.measures.perturbation import (
    AVERAGING,
    COMPLEMENT,
    RANDOM,
    SUBSPACE,
    Centre,
    perturbation_table,
    snapshot_ranks,
)
from lmclib.networks.build import initialise
from lmclib.networks.mlp import MLP
from lmclib.theory.perceptrons import train_perceptrons
from lmclib.training.order import generator

EXAMPLES, TESTED = 600, 0.33  # and which part of them is for the test
WIDTHS, LR, BATCH_SIZE = (16, 16, 16), 0.1, 4
DRAWN = (RANDOM, SUBSPACE, COMPLEMENT)
State = dict[str, Tensor]


@dataclass(frozen=True)
class Version:
    """Which of the three defects of the released notebook a run has.

    Attributes:
        aliased: snapshots are views of the live weights, so that all of a run's are its last one, and both runs span two dimensions.
        away: the averaging direction is that from the other model.
        masked_last: the averaging direction of a layer is normalised first and masked then, so that it is shorter than the others.
    """

    aliased: bool = True
    away: bool = True
    masked_last: bool = True


PUBLISHED, CORRECTED = "as published", "corrected"
VERSIONS = {
    PUBLISHED: Version(),
    "snapshots copied": replace(Version(), aliased=False),
    "towards the other model": replace(Version(), away=False),
    "normalised after masking": replace(Version(), masked_last=False),
    CORRECTED: Version(False, False, False),
}


@dataclass(frozen=True)
class PerceptronPair:
    """Two perceptrons of one start, trained on the two halves of a training set.

    Attributes:
        snapshots: of each, its state dicts at the start and after every epoch.
        train: the features and labels of each one's half.
        test: those that neither has seen.
    """

    snapshots: tuple[list[State], list[State]]
    train: tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]
    test: tuple[Tensor, Tensor]

    def cube(self) -> LayerCube:
        """The layer cube between both at the end of training, on test data."""
        return LayerCube(_perceptron(0), self.snapshots[0][-1], self.snapshots[1][-1], self.test)

    def train_errors(self) -> list[float]:
        """The error of each on its own half."""
        states = (own[-1] for own in self.snapshots)
        return [
            LayerCube(_perceptron(0), state, state, half)(0.0).error.item()
            for state, half in zip(states, self.train, strict=True)
        ]


def noise_table(
    seed: int = 0, seeds: int = 5, epochs: int = 50, sigma: Sequence[float] = (0, 0.5, 1), draws: int = 5
) -> pd.DataFrame:
    r"""What test loss makes of steps from either of two perceptrons, by direction, in every layer and in the whole network, five times over.

    Perceptrons 16-16-16-16-3 with a common start, SGD with learning rate 0.1 and batches of 4. Of 600 examples a third is for the test, and
    each network trains on one half of the rest. A step of a network is $\sigma\lVert\Delta\rVert$ long, one of a layer
    $\sigma\lVert P_\ell\Delta\rVert$; where the averaging direction is masked last, it is shorter there by $\lVert P_\ell\Delta\rVert / \lVert\Delta\rVert$.

    Args:
        seed: the first; a seed draws data, start and orders.
        seeds: how many.
        epochs: of training; a snapshot is kept of each.
        sigma: lengths of steps, in units of the norm.
        draws: of each random direction.

    Returns:
        A row a version, seed and step: `version` (as published, with one of its three defects corrected, corrected), `seed`,
        `train_error` (the larger of both networks), `rank` (of the training subspace there), and the columns of `perturbation_table`.

    Raises:
        LmcError: as `perturbation_table`.

    Source:
        Layer-wise Linear Mode Connectivity, figure 5, and its released notebook.
    """
    pairs = train_pairs(seed, seeds, epochs)
    tables = [_of_pair(pair, tuple(sigma), draws).assign(seed=seed + k) for k, pair in enumerate(pairs)]
    return pd.concat(tables, ignore_index=True)


def train_pairs(seed: int, seeds: int, epochs: int) -> list[PerceptronPair]:
    """The two perceptrons of each seed, all trained side by side."""
    if epochs < 1:
        raise LmcError(f"epochs={epochs}: must be at least 1")
    chosen = range(seed, seed + seeds)
    data = [_halves(*clusters(EXAMPLES, one)) for one in chosen]
    models = [_perceptron(one) for one in chosen for _ in range(2)]
    names = [(f"{name}.weight", f"{name}.bias") for name in _layer_names(models[0])]
    start = [tuple(torch.stack([model.state_dict()[key] for model in models]) for key in pair) for pair in names]
    x, y = (torch.stack([half[i] for halves, _ in data for half in halves]) for i in (0, 1))
    orders = [generator(one, k) for one in chosen for k in range(2)]
    moments = train_perceptrons(start, x, y, epochs, LR, BATCH_SIZE, orders)
    states = [
        [
            {
                key: part[k]
                for pair, parts in zip(names, moment, strict=True)
                for key, part in zip(pair, parts, strict=True)
            }
            for moment in moments
        ]
        for k in range(len(models))
    ]
    return [PerceptronPair((states[2 * k], states[2 * k + 1]), *data[k]) for k in range(seeds)]


def _of_pair(pair: PerceptronPair, sigma: tuple[float, ...], draws: int) -> pd.DataFrame:
    """All versions of one pair; steps that versions have in common are taken once."""
    cube = pair.cube()
    centres = {into: Centre(cube, into) for into in ("1", "2")}
    moments = {True: [own[-1] for own in pair.snapshots], False: [*pair.snapshots[0], *pair.snapshots[1][1:]]}
    drawn = {
        aliased: perturbation_table(cube, sigma, draws, DRAWN, into=("1", "2"), snapshots=snapshots)
        for aliased, snapshots in moments.items()
    }
    ranks = {aliased: snapshot_ranks(centres["1"], snapshots) for aliased, snapshots in moments.items()}
    averaging = cache(lambda away, masked_last: _averaging(centres, sigma, away, masked_last))
    train_error = max(pair.train_errors())
    tables = []
    for name, version in VERSIONS.items():
        table = pd.concat([drawn[version.aliased], averaging(version.away, version.masked_last)], ignore_index=True)
        tables.append(table.assign(version=name, rank=table.layer.map(ranks[version.aliased]), train_error=train_error))
    return pd.concat(tables, ignore_index=True)


def _averaging(centres: dict[str, Centre], sigma: tuple[float, ...], away: bool, masked_last: bool) -> pd.DataFrame:
    """Steps along the averaging direction from both networks."""
    tables = []
    for into, centre in centres.items():
        share = {layer: norm / centre.norms[NETWORK] if masked_last else 1.0 for layer, norm in centre.norms.items()}
        shortened = torch.cat([share[layer] * centre.difference[place] for layer, place in centre.places.items()])
        sign = -1 if away else 1
        rows = [
            *centre.layer_steps(sign * shortened, list(centre.places), sigma),
            *centre.network_steps(sign * centre.difference, [(NETWORK, s) for s in sigma], sigma),
        ]
        table = pd.DataFrame(rows, columns=["layer", "sigma", "length", "loss", "error"])
        start = centre.cube(0.0 if into == "1" else 1.0)
        rises = {"loss_rise": table.loss - start.loss.item(), "error_rise": table.error - start.error.item()}
        tables.append(table.assign(into=into, direction=AVERAGING, draw=0, **rises))
    return pd.concat(tables, ignore_index=True)


def _halves(x: Tensor, y: Tensor) -> tuple[tuple, tuple[Tensor, Tensor]]:
    """The two halves of the training part, and the test part."""
    trained = round(len(y) * (1 - TESTED)) // 2 * 2
    halves = zip(x[:trained].chunk(2), y[:trained].chunk(2), strict=True)
    return tuple(halves), (x[trained:], y[trained:])


def _perceptron(seed: int) -> MLP:
    return initialise(_factory, (1, 1, FEATURES), CLASSES, seed)


def _factory(shape: tuple[int, int, int], n_classes: int) -> MLP:
    return MLP(shape, n_classes, WIDTHS, "relu")


def _layer_names(model: MLP) -> list[str]:
    return list(dict.fromkeys(key.rpartition(".")[0] for key in model.state_dict()))
