r"""What the loss does along a direction: towards the other model, at random, within what training has seen, and beyond it.

A step is $\theta_1 + \sigma d$. Its direction $d$ is masked to a layer first and rescaled afterwards: to $\lVert P_\ell\Delta\rVert$ in layer $\ell$,
and to $\lVert\Delta\rVert$ in the whole network. So $\sigma$ counts in the length of the way to the other model, and $\sigma = \frac12$ towards it is
the average of both. Directions are vectors (p,) of all parameters in the order of the layers, float64; statistics of normalisation layers stay
what they are at the centre.
"""

import difflib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import pandas as pd
import torch
from torch import Tensor
from torch.nn.utils import parameters_to_vector

from lmclib.cube.points import LayerCube
from lmclib.errors import LmcError
from lmclib.measures.layerwise import NETWORK
from lmclib.training.order import generator

AVERAGING, RANDOM, SPREAD = "averaging direction", "random", "random, all layers"
SUBSPACE, COMPLEMENT = "training subspace", "null space"
DIRECTIONS = (AVERAGING, RANDOM, SPREAD, SUBSPACE, COMPLEMENT)
PROTOCOLS = ("line", "fresh")
COLUMNS = ["layer", "into", "direction", "draw", "sigma", "length", "loss", "error", "loss_rise", "error_rise"]


@dataclass(frozen=True)
class Subspace:
    r"""The span of some vectors, $S = \mathrm{span}\{\theta^{(1)}, \dots, \theta^{(k)}\}$, by an orthonormal basis.

    Attributes:
        basis: (r, p) float64, orthonormal rows; r is the rank.
    """

    basis: Tensor

    @classmethod
    def of(cls, snapshots: Tensor) -> "Subspace":
        """The span of snapshots (k, p), from a thin singular value decomposition.

        Raises:
            LmcError: fewer than two snapshots.

        Example:
            >>> Subspace.of(torch.tensor([[1.0, 0, 0], [2.0, 0, 0], [1.0, 1.0, 0]])).rank
            2
        """
        if snapshots.dim() != 2 or len(snapshots) < 2:
            raise LmcError(f"snapshots: {len(snapshots)}; must be at least 2, for a span of more than one network")
        snapshots = snapshots.double()
        _, values, rows = torch.linalg.svd(snapshots, full_matrices=False)
        resolved = values > values[0] * max(snapshots.shape) * torch.finfo(torch.float64).eps
        return cls(rows[resolved])

    @property
    def rank(self) -> int:
        """The dimension of the span."""
        return len(self.basis)

    @property
    def is_everything(self) -> bool:
        """Whether nothing is left for the complement."""
        return self.rank >= self.basis.shape[1]

    def inside(self, direction: Tensor) -> Tensor:
        """The part of a direction (..., p) in the span; of a Gaussian one, a Gaussian one of the span."""
        return direction @ self.basis.T @ self.basis

    def outside(self, direction: Tensor) -> Tensor:
        """The part of a direction (..., p) in the orthogonal complement.

        Raises:
            LmcError: the span is the whole space.

        Example:
            >>> Subspace.of(torch.eye(3)[:2]).outside(torch.tensor([1.0, 2.0, 3.0]).double()).tolist()
            [0.0, 0.0, 3.0]
        """
        if self.is_everything:
            raise LmcError(
                f"snapshots: span all {self.rank} dimensions, so that their complement is empty; must be fewer"
            )
        left = direction - self.inside(direction)
        return left - self.inside(left)  # once more: what rounding had left of the span


class Centre:
    r"""A network $\theta$ from which steps are taken, and its difference $\Delta$ to another one, layer by layer.

    Args:
        cube: between the two networks.
        into: `1` to start from model 1 with $\Delta = \theta_2 - \theta_1$; `2` to start from model 2, with its opposite.

    Attributes:
        state: the state dict at the centre.
        places: where each layer's parameters are in a vector (p,) of all.
        difference: (p,), to the other network.
        passes: over the data, at one point each, that steps have taken.

    Raises:
        LmcError: another `into`.
    """

    def __init__(self, cube: LayerCube, into: str = "1"):
        if into not in ("1", "2"):
            raise LmcError(f"into={into!r}: must be '1' or '2', the model from which steps are taken")
        self.cube, self.passes = cube, 0
        self.state, other = (cube.ends.t1, cube.ends.t2) if into == "1" else (cube.ends.t2, cube.ends.t1)
        self.places, start = {}, 0
        for layer in cube.ends.layers:
            size = sum(self.state[key].numel() for key in layer.parameters)
            self.places[layer.name], start = slice(start, start + size), start + size
        self.difference = self.vector(other) - self.vector(self.state)

    def vector(self, state: Mapping[str, Tensor]) -> Tensor:
        """A state dict's parameters as one vector (p,) float64 on the CPU, in the order of the layers."""
        keys = [key for layer in self.cube.ends.layers for key in layer.parameters]
        return parameters_to_vector([state[key].detach().double().cpu() for key in keys])

    @cached_property
    def norms(self) -> dict[str, float]:
        r"""$\lVert P_\ell\Delta\rVert$ of every layer, and $\lVert\Delta\rVert$ as `network`."""
        parts = {layer: float(self.difference[place].norm()) for layer, place in self.places.items()}
        return {**parts, NETWORK: float(self.difference.norm())}

    def rescaled(self, direction: Tensor) -> Tensor:
        r"""A direction (p,) made as long as the difference, $\lVert\Delta\rVert$.

        Raises:
            LmcError: a direction of zero or infinite length.
        """
        return _as_long(direction, self.norms[NETWORK], NETWORK)

    def rescaled_by_layer(self, direction: Tensor) -> Tensor:
        r"""A direction (p,) of which each layer's part is made as long as the difference there, $\lVert P_\ell\Delta\rVert$: masked, then rescaled."""
        parts = {layer: _as_long(direction[place], self.norms[layer], layer) for layer, place in self.places.items()}
        return torch.cat(list(parts.values()))

    def rescaled_by_tensor(self, direction: Tensor) -> Tensor:
        """A direction (p,) of which each tensor's part is made as long as the difference there, as the released code does."""
        parts, start = [], 0
        for layer in self.cube.ends.layers:
            for key in layer.parameters:
                place = slice(start, start + self.state[key].numel())
                parts.append(_as_long(direction[place], float(self.difference[place].norm()), key))
                start = place.stop
        return torch.cat(parts)

    def along(self, direction: Tensor) -> LayerCube:
        r"""The layer cube between $\theta$ and $\theta + d$: a point $a$ of it is the step $\sum_\ell a_\ell P_\ell d$."""
        moved = dict(self.state)
        for layer in self.cube.ends.layers:
            pieces = direction[self.places[layer.name]].split([self.state[key].numel() for key in layer.parameters])
            for key, piece in zip(layer.parameters, pieces, strict=True):
                own = self.state[key]
                moved[key] = own + piece.view_as(own).to(own)
            for alias in layer.aliases:  # a shared tensor under another name
                twins = (key for key in layer.parameters if torch.equal(self.state[key], self.state[alias]))
                moved[alias] = next((moved[key] for key in twins), self.state[alias])
        return self.cube.between(self.state, moved)

    def layer_steps(self, direction: Tensor, layers: Sequence[str], sigma: Sequence[float]) -> Iterator[tuple]:
        """Steps in one layer at a time: (layer, σ, length, loss, error) of each."""
        corners = dict(zip(self.places, torch.eye(len(self.places), dtype=torch.float64), strict=True))
        rows = [(layer, s) for layer in layers for s in sigma]
        points = [s * corners[layer] for layer, s in rows]
        lengths = [s * float(direction[self.places[layer]].norm()) for layer, s in rows]
        yield from self._values(direction, rows, lengths, points)

    def network_steps(
        self, direction: Tensor, rows: Sequence[tuple[str, float]], parts: Sequence[float]
    ) -> Iterator[tuple]:
        """Steps of all layers together along one direction, of which each goes a part: (name, σ, length, loss, error) of each."""
        points = [torch.full((len(self.places),), part, dtype=torch.float64) for part in parts]
        lengths = [part * float(direction.norm()) for part in parts]
        yield from self._values(direction, rows, lengths, points)

    def _values(
        self, direction: Tensor, rows: Sequence, lengths: Sequence[float], points: Sequence[Tensor]
    ) -> Iterator[tuple]:
        if not rows:
            return
        points, which = torch.stack(list(points)).unique(
            dim=0, return_inverse=True
        )  # a step of no length is the same in every layer
        self.passes += len(points)
        values = (part[which].tolist() for part in self.along(direction)(points))
        for (name, s), length, loss, error in zip(rows, lengths, *values, strict=True):
            yield name, s, length, loss, error


def perturbation_table(
    cube: LayerCube,
    sigma: Sequence[float] = (0, 0.5, 1),
    draws: int = 5,
    directions: Sequence[str] = (AVERAGING, RANDOM, SPREAD),
    protocol: str = "line",
    into: Sequence[str] = ("1",),
    layers: Sequence[str] | None = None,
    seed: int = 0,
    snapshots: Sequence[Mapping[str, Tensor]] | None = None,
) -> pd.DataFrame:
    r"""Loss and error after steps $\theta_1 + \sigma d$ in each layer and in the whole network, along several kinds of directions.

    - `averaging direction`: towards the other model, $d = P_\ell\Delta$, the interpolation of that layer; $\sigma = \frac12$ is its average.
    - `random`: Gaussian within the layer, of norm $\lVert P_\ell\Delta\rVert$.
    - `random, all layers`: Gaussian over all layers, of the same norm $\lVert P_\ell\Delta\rVert$ altogether: the control for "within the layer".
    - `training subspace`, `null space`: Gaussian in the span of the layer's snapshots, or in its orthogonal complement within the layer.

    All are rescaled after they are masked. The whole network is the layer `network`, with the norm $\lVert\Delta\rVert$.

    Args:
        cube: between the two networks.
        sigma: lengths of steps, in units of the norm.
        draws: of each random direction.
        directions: which.
        protocol: `line` for one draw a direction, along which σ moves; `fresh` for a new draw at every σ and for every tensor, each
            rescaled to the norm of that tensor's difference, as in the released code. Of random directions only.
        into: the models from which steps are taken, `1`, `2` or both.
        layers: some layers; all and the whole network by default.
        seed: of the draws.
        snapshots: state dicts whose span is the training subspace.

    Returns:
        A row a layer, model, direction, draw and step: `layer`, `into`, `direction`, `draw` (0 for the one that is not drawn), `sigma`,
        `length` (of the step), `loss` (nats for cross-entropy), `error`, and by how much both rise above the centre, `loss_rise`,
        `error_rise`. A layer whose snapshots span all of it has no null space and no row of it; neither has one in which the
        networks do not differ any row.

    Raises:
        LmcError: a negative σ, an unknown direction, protocol or layer, fewer than two snapshots, networks that are the same.

    Source:
        Layer-wise Linear Mode Connectivity, figures 4 and 5, and the appendix on the robustness of layers.

    Example:
        >>> net, x = torch.nn.Linear(2, 1, bias=False), torch.eye(2)  # loss |w|²/2
        >>> ends = ({"weight": torch.tensor([[w, 0.0]])} for w in (0.0, 2.0))
        >>> cube = LayerCube(net, *ends, (x, torch.zeros(2, 1)), loss="squared")
        >>> perturbation_table(cube, sigma=(1,), draws=2, layers=["(root)"]).loss.round(4).tolist()  # length 2 in every direction
        [2.0, 2.0, 2.0, 2.0, 2.0]
    """
    _check(cube, sigma, draws, directions, protocol, snapshots)
    chosen, found, passes = _known(layers, cube.layers), [], 0
    for model in into:
        centre = Centre(cube, model)
        if not centre.norms[NETWORK]:
            raise LmcError("cube: both networks are the same, so that no step has a length")
        names = [layer for layer in chosen if centre.norms[layer]]
        spans = _spans(centre, snapshots) if snapshots is not None else {}
        start = cube(0.0 if model == "1" else 1.0)
        loss, error = start.loss.item(), start.error.item()
        for direction in directions:
            take = _fresh if protocol == "fresh" and direction in (RANDOM, SPREAD) else _line
            for draw in range(1 if direction == AVERAGING else draws):
                steps = take(centre, direction, names, sigma, spans, (seed, DIRECTIONS.index(direction), draw))
                found += [
                    (layer, model, direction, draw, s, length, there, wrong, there - loss, wrong - error)
                    for layer, s, length, there, wrong in steps
                ]
        passes += centre.passes + 1
    table = pd.DataFrame(found, columns=COLUMNS)  # one of all rows, as one for each draw takes longer than its steps
    table.attrs["passes"] = passes
    return table


def snapshot_ranks(centre: Centre, snapshots: Sequence[Mapping[str, Tensor]]) -> dict[str, int]:
    """The rank of the training subspace in each layer and in the whole network."""
    return {layer: span.rank for layer, span in _spans(centre, snapshots).items()}


def _line(
    centre: Centre,
    direction: str,
    names: Sequence[str],
    sigma: Sequence[float],
    spans: Mapping[str, Subspace],
    stream: tuple[int, ...],
) -> list[tuple]:
    """One draw of a direction, in each layer and in the network, and all steps along it."""
    drawn = torch.randn(len(centre.difference), generator=generator(*stream), dtype=torch.float64)
    if direction == SPREAD:
        return _spread(centre, centre.rescaled(drawn), names, sigma)
    if direction == AVERAGING:
        return _taken(centre, centre.difference, centre.difference, names, sigma)
    if direction == RANDOM:
        return _taken(centre, centre.rescaled_by_layer(drawn), centre.rescaled(drawn), names, sigma)
    if direction == COMPLEMENT:
        names = [name for name in names if name == NETWORK or not spans[name].is_everything]
    by_layer = torch.zeros_like(drawn)
    for layer in (name for name in names if name != NETWORK):
        place = centre.places[layer]
        by_layer[place] = _as_long(_part(spans[layer], direction, drawn[place]), centre.norms[layer], layer)
    network = centre.rescaled(_part(spans[NETWORK], direction, drawn)) if NETWORK in names else drawn
    return _taken(centre, by_layer, network, names, sigma)


def _fresh(
    centre: Centre,
    direction: str,
    names: Sequence[str],
    sigma: Sequence[float],
    spans: Mapping[str, Subspace],
    stream: tuple[int, ...],
) -> list[tuple]:
    """A draw for every step, tensor by tensor."""
    rows = []
    for i, s in enumerate(sigma):
        drawn = torch.randn(len(centre.difference), generator=generator(*stream, i), dtype=torch.float64)
        if direction == SPREAD:
            rows += _spread(centre, centre.rescaled(drawn), names, (s,))
        else:
            by_tensor = centre.rescaled_by_tensor(drawn)
            rows += _taken(centre, by_tensor, by_tensor, names, (s,))
    return rows


def _taken(
    centre: Centre, by_layer: Tensor, network: Tensor, names: Sequence[str], sigma: Sequence[float]
) -> list[tuple]:
    """Steps in each of some layers along one direction, and in the network, if it is among the names, along another."""
    rows = list(centre.layer_steps(by_layer, [name for name in names if name != NETWORK], sigma))
    whole = [(NETWORK, s) for s in sigma if NETWORK in names]
    return rows + list(centre.network_steps(network, whole, sigma if whole else ()))


def _spread(centre: Centre, direction: Tensor, names: Sequence[str], sigma: Sequence[float]) -> list[tuple]:
    """Steps of all layers along one direction, each as long as one layer's step would be."""
    rows = [(layer, s) for layer in names if layer != NETWORK for s in sigma]
    parts = [s * centre.norms[layer] / centre.norms[NETWORK] for layer, s in rows]
    return list(centre.network_steps(direction, rows, parts))


def _part(span: Subspace, direction: str, drawn: Tensor) -> Tensor:
    return span.inside(drawn) if direction == SUBSPACE else span.outside(drawn)


def _spans(centre: Centre, snapshots: Sequence[Mapping[str, Tensor]]) -> dict[str, Subspace]:
    """The span of the snapshots of each layer and of the whole network."""
    vectors = torch.stack([centre.vector(state) for state in snapshots])
    spans = {layer: Subspace.of(vectors[:, place]) for layer, place in centre.places.items()}
    return {**spans, NETWORK: Subspace.of(vectors)}


def _as_long(direction: Tensor, norm: float, where: str) -> Tensor:
    """A direction rescaled to a norm; nothing where there is no way to go."""
    length = float(direction.norm())
    if not norm:
        return torch.zeros_like(direction)
    if not 0 < length < float("inf"):
        raise LmcError(f"direction: has length {length:g} in {where!r}; must be above 0 to be rescaled")
    return direction * (norm / length)


def _known(layers: Sequence[str] | None, names: Sequence[str]) -> list[str]:
    """The chosen layers, all and the network by default, checked."""
    every = [*names, NETWORK]
    if layers is None:
        return every
    if not layers or len(set(layers)) < len(layers):
        raise LmcError(f"layers={list(layers)}: must be one or more layers, none of them twice")
    for layer in layers:
        if layer not in every:
            nearest = difflib.get_close_matches(layer, every, 1, 0.0)[0]
            raise LmcError(f"layers: {layer!r} is no layer; the nearest name is {nearest!r}")
    return list(layers)


def _check(
    cube: LayerCube, sigma: Sequence[float], draws: int, directions: Sequence[str], protocol: str, snapshots: object
) -> None:
    if NETWORK in cube.layers:
        raise LmcError(
            f"cube: has a layer called {NETWORK!r}, which is what the table calls all layers; rename the module"
        )
    if not len(sigma) or not all(0 <= s < float("inf") for s in sigma):  # NaN is in no range
        raise LmcError(f"sigma={list(sigma)}: must be one or more finite numbers, none of them below 0")
    if not isinstance(draws, int) or draws < 1:
        raise LmcError(f"draws={draws}: must be at least 1, a whole number")
    if not len(directions):
        raise LmcError(f"directions: is empty; must hold some of {', '.join(map(repr, DIRECTIONS))}")
    if protocol not in PROTOCOLS:
        raise LmcError(f"protocol={protocol!r}: must be one of {', '.join(map(repr, PROTOCOLS))}")
    for direction in directions:
        if direction not in DIRECTIONS:
            raise LmcError(f"directions: {direction!r} must be one of {', '.join(map(repr, DIRECTIONS))}")
        if direction in (SUBSPACE, COMPLEMENT) and snapshots is None:
            raise LmcError(f"snapshots: none; must be at least 2 for the direction {direction!r}")
