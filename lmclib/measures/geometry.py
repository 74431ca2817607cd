"""Where siblings lie: distances, angles and planes of weights and biases; running statistics do not count."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

import pandas as pd
import torch
from torch import Tensor

from lmclib.cube.points import LayerCube
from lmclib.errors import LmcError
from lmclib.runs.family import Family
from lmclib.runs.measuring import labelled
from lmclib.store.roots import Code
from lmclib.store.tables import Question

STATISTICS = ("running_mean", "running_var", "num_batches_tracked")
State = Mapping[str, Tensor]


def vectors(*states: State) -> list[Tensor]:
    """All parameters of some state dicts as one float64 vector (p,) each, in the first one's order; normalisation statistics are left out.

    Raises:
        LmcError: one has other parameters than the first, or none.

    Example:
        >>> one, two = {"w": torch.ones(1), "b": torch.zeros(1)}, {"b": torch.zeros(1), "w": torch.ones(1)}
        >>> [vector.tolist() for vector in vectors(one, two)]
        [[1.0, 0.0], [1.0, 0.0]]
    """
    shapes = [{key: tuple(state[key].shape) for key in _parameters(state)} for state in states]
    if not shapes[0]:
        raise LmcError("state: holds no parameters; must be a state dict")
    for other in shapes[1:]:
        for key in [*shapes[0], *other]:
            if (one := shapes[0].get(key, "absent")) != (two := other.get(key, "absent")):
                raise LmcError(f"state: {key!r} is {one} in one and {two} in the other; must be of one architecture")
    return [torch.cat([state[key].detach().double().flatten() for key in shapes[0]]) for state in states]


def _parameters(state: State) -> list[str]:
    return [
        key for key, value in state.items() if key.rpartition(".")[2] not in STATISTICS and value.is_floating_point()
    ]


def distance(t1: State, t2: State) -> float:
    r"""The Euclidean distance $\lVert\theta_2 - \theta_1\rVert$.

    Example:
        >>> distance({"w": torch.tensor([0.0, 3.0])}, {"w": torch.tensor([4.0, 0.0])})
        5.0
    """
    one, two = vectors(t1, t2)
    return float((two - one).norm())


def layer_distances(cube: LayerCube) -> pd.DataFrame:
    r"""Every layer's part of the distance, $\lVert P_\ell(\theta_2 - \theta_1)\rVert$, and how many parameters it has.

    Returns:
        A row a layer: `layer`, `distance`, `parameters`.

    Source:
        Landscaping Linear Mode Connectivity, figures 15 to 20.

    Example:
        >>> ends = ({"weight": torch.tensor([[w]]), "bias": torch.tensor([w])} for w in (0.0, 1.0))
        >>> cube = LayerCube(torch.nn.Linear(1, 1), *ends, (torch.ones(1, 1), torch.zeros(1, 1)), loss="squared")
        >>> round(layer_distances(cube).distance.item() ** 2, 6)
        2.0
    """
    rows = []
    for layer in cube.ends.layers:
        one, two = ({key: state[key] for key in layer.parameters} for state in (cube.ends.t1, cube.ends.t2))
        rows.append({"layer": layer.name, "distance": distance(one, two), "parameters": len(*vectors(one))})
    return pd.DataFrame(rows)


def sibling_angle(t1: State, t2: State, base: State | None = None) -> float:
    r"""The angle at `base` between siblings, $\arccos\frac{\langle\theta_1 - b, \theta_2 - b\rangle}
    {\lVert\theta_1 - b\rVert \lVert\theta_2 - b\rVert}$, in degrees.

    Args:
        t1: a state dict.
        t2: another one.
        base: the state dict of the base point, the fork for instance; None is the origin.

    Returns:
        The angle; NaN where one of the two is the base point itself.

    Raises:
        LmcError: state dicts of different architectures.

    Source:
        Landscaping Linear Mode Connectivity, figure 2a.

    Example:
        >>> round(sibling_angle({"w": torch.tensor([1.0, 0.0])}, {"w": torch.tensor([1.0, 1.0])}), 6)
        45.0
    """
    u, v, *at = vectors(t1, t2, *([] if base is None else [base]))
    if at:
        u, v = u - at[0], v - at[0]
    if not (u.any() and v.any()):
        return float("nan")
    return float(torch.rad2deg(torch.arccos(_cosine(u, v))))


def solution_plane_cosine(trajectory1: Sequence[State], trajectory2: Sequence[State]) -> list[float]:
    r"""The cosine of $\theta_1^t - \theta_2^t$ with the final $\theta_1^T - \theta_2^T$, for each stored $t$.

    One from when on the siblings keep the plane in which they end.

    Source:
        Landscaping Linear Mode Connectivity, figure 2b.

    Example:
        >>> still, moving = {"w": torch.zeros(2)}, [{"w": torch.tensor([1.0, 0.0])}, {"w": torch.tensor([0.0, 2.0])}]
        >>> solution_plane_cosine([still, still], moving)
        [0.0, 1.0]
    """
    pairs = (vectors(trajectory1[0], t1, t2)[1:] for t1, t2 in zip(trajectory1, trajectory2, strict=True))
    differences = [one - two for one, two in pairs]
    return [float(_cosine(difference, differences[-1])) for difference in differences]


def sibling_geometry(families: Iterable[Family], pair: tuple[int, int] = (0, 1)) -> pd.DataFrame:
    """Where two siblings lie, at every fork and stored epoch.

    Returns:
        One row a fork, seed and epoch: `seed`, `fork_epoch`, `epoch`, `child_epoch`, `distance`, `origin_angle` and
        `fork_angle` (degrees), `plane_cosine`.

    Source:
        Landscaping Linear Mode Connectivity, figures 2, 4b, 13 and 14b.
    """
    done = []
    for family in families:
        code = Code((sibling_trajectory,), (family.code,))
        for fork_epoch in family.fork_epochs:
            step = family.fork_step(fork_epoch)
            about = {"children": [family.child_name(step, k) for k in pair], "epochs": family.epochs(fork_epoch)}
            question = replace(Question.of(sibling_trajectory, {}, about, networks=[family.summary]), code=code)
            table = family.store.table(question, lambda f=family, at=fork_epoch: _measured(f, at, pair))
            done.append((table, {"seed": family.spec.seed, "fork_epoch": fork_epoch}))
    return labelled(done)


def _measured(family: Family, fork_epoch: float, pair: tuple[int, int]) -> pd.DataFrame:
    epochs = family.epochs(fork_epoch)
    trajectories = [[family.child(fork_epoch, k, epoch) for epoch in epochs] for k in pair]
    table = sibling_trajectory(*trajectories, base=family.parent(fork_epoch))
    return table.assign(epoch=epochs, child_epoch=[epoch - fork_epoch for epoch in epochs])


def sibling_trajectory(trajectory1: Sequence[State], trajectory2: Sequence[State], base: State) -> pd.DataFrame:
    """Where two siblings lie at each stored moment: `distance`, `origin_angle`, `fork_angle` (degrees), `plane_cosine`.

    Args:
        trajectory1: the state dicts of one sibling.
        trajectory2: those of the other, at the same moments.
        base: the state dict of the fork.

    Example:
        >>> right, up = ({"w": torch.tensor([float(i), float(j)])} for i, j in ((1, 0), (0, 1)))
        >>> sibling_trajectory([right], [up], {"w": torch.zeros(2)}).round(3).values.tolist()
        [[1.414, 90.0, 90.0, 1.0]]
    """
    cosines = solution_plane_cosine(trajectory1, trajectory2)
    return pd.DataFrame(
        {
            "distance": distance(t1, t2),
            "origin_angle": sibling_angle(t1, t2),
            "fork_angle": sibling_angle(t1, t2, base),
            "plane_cosine": cosine,
        }
        for t1, t2, cosine in zip(trajectory1, trajectory2, cosines, strict=True)
    )


def _cosine(u: Tensor, v: Tensor) -> Tensor:
    return (u @ v / (u.norm() * v.norm()).clamp_min(1e-300)).clamp(-1, 1)
