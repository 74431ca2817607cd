"""Controls: the same measurement on sets that have nothing to do with layers or with their order."""

from collections.abc import Mapping

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from lmclib.cube.points import LayerCube
from lmclib.errors import LmcError
from lmclib.measures.layerwise import group_barriers


def random_set_barriers(cube: LayerCube, size: int, sets: int = 20, draws: int = 5, seed: int = 0) -> pd.DataFrame:
    """The barriers (`into="both"`, α = ½) of random sets of layers: `draw`, `loss_barrier`, `error_barrier`, a row a set.

    Args:
        cube: the layer cube between two models.
        size: of each set.
        sets: how many a draw.
        draws: how many times as many.
        seed: draws them.

    Raises:
        LmcError: a size that no set of layers has.
    """
    if not 1 <= size <= len(cube.layers):
        raise LmcError(f"size={size}: must be from 1 to the number of layers, {len(cube.layers)}")
    rng = np.random.default_rng(seed)
    groups = {str(i): rng.choice(cube.layers, size, replace=False).tolist() for i in range(sets * draws)}
    table = group_barriers(cube, groups).query("into == 'both'")
    table = table.assign(draw=table.group.astype(int) // sets)
    return table[["draw", "loss_barrier", "error_barrier"]].reset_index(drop=True)


def parameter_set_barriers(cube: LayerCube, seed: int = 0) -> pd.DataFrame:
    r"""The barriers of random sets of parameters, each of as many as a layer has: is there anything about layers?

    Coordinates are drawn from the whole network; those of a set are averaged, all others stay as they are in the model that they are
    averaged into. Against both models' mean loss, as `layer_barriers` with the baseline `models`.

    Args:
        cube: the layer cube between two models without normalisation statistics.
        seed: draws the sets.

    Returns:
        A row a layer and direction: `layer` (whose size the set has), `into` (1 or 2), `loss_barrier`, `error_barrier`.
    """
    generator = torch.Generator().manual_seed(seed)
    ends = cube.ends.t1, cube.ends.t2
    names = [key for layer in cube.ends.layers for key in layer.parameters]
    total = sum(ends[0][key].numel() for key in names)
    base = torch.stack([torch.stack(cube(end)) for end in (0.0, 1.0)]).mean(0)
    rows = []
    for layer in cube.ends.layers:
        size = sum(ends[0][key].numel() for key in layer.parameters)
        chosen = torch.zeros(total)
        chosen[torch.randperm(total, generator=generator)[:size]] = 0.5
        mixed = [_moved(own, other, names, chosen) for own, other in (ends, ends[::-1])]
        between = cube.between(*mixed)
        corners = torch.tensor([[0.0], [1.0]]).expand(2, len(cube.layers))
        for into, value in zip(("1", "2"), torch.stack(between(corners), 1), strict=True):
            loss, error = (value - base).tolist()
            rows.append({"layer": layer.name, "into": into, "loss_barrier": loss, "error_barrier": error})
    return pd.DataFrame(rows)


def _moved(own: Mapping[str, Tensor], other: Mapping[str, Tensor], names: list[str], by: Tensor) -> dict[str, Tensor]:
    """One model, of which each coordinate is moved by its part of the way towards the other."""
    pieces = by.to(own[names[0]].device).split([own[key].numel() for key in names])
    moved = dict(own)
    for key, piece in zip(names, pieces, strict=True):
        moved[key] = own[key] + piece.view_as(own[key]).to(own[key].dtype) * (other[key] - own[key])
    return moved
