"""Two models and every mixture of their layers."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from lmclib.errors import LmcError
from lmclib.networks.layers import Layer


class Interpolation:
    r"""The state dicts $\theta_1 + \sum_\ell a_\ell P_\ell \Delta$ between two models of one architecture.

    Integer buffers are never interpolated: they are model 1's.

    Args:
        t1: the state dict of model 1.
        t2: the state dict of model 2.
        layers: the L layers.
    """

    def __init__(self, t1: Mapping[str, Tensor], t2: Mapping[str, Tensor], layers: Sequence[Layer]):
        self.t1, self.t2, self.layers = dict(t1), dict(t2), tuple(layers)

    def points(self, a: float | Tensor) -> Tensor:
        """Any accepted form of points, a number (all layers), (L,) or (n, L), as (n, L) float64.

        Raises:
            LmcError: another shape, or no finite numbers.
        """
        try:
            points = torch.as_tensor(a, dtype=torch.float64)
        except (TypeError, ValueError, RuntimeError):
            raise LmcError(f"a={a!r}: must be numbers, one for all layers or one entry a layer") from None
        n_layers = len(self.layers)
        if points.dim() == 0:
            points = points.expand(n_layers)
        points = points[None] if points.dim() == 1 else points
        if points.dim() != 2 or points.shape[1] != n_layers:
            shape = tuple(torch.as_tensor(a).shape)
            raise LmcError(
                f"a: has shape {shape}; must be a number, ({n_layers},) or (n, {n_layers}), one entry a layer"
            )
        if not len(points) or not bool(points.isfinite().all()):
            raise LmcError(
                "a: is empty, or holds NaN or infinite numbers; must be at least one point of finite numbers"
            )
        return points

    def state(self, point: Tensor) -> dict[str, Tensor]:
        """The state dict at one point (L,)."""
        state = dict(self.t1)
        for layer, alpha in enumerate(point.tolist()):
            state |= self.mixed(layer, alpha)
        return state

    def mixed(self, layer: int, alpha: float) -> dict[str, Tensor]:
        """One layer's tensors at a coefficient; both ends are exact."""
        keys = self.layers[layer].keys
        if alpha in (0, 1):
            return {key: (self.t2 if alpha else self.t1)[key] for key in keys}
        return {key: torch.lerp(self.t1[key], self.t2[key], alpha) for key in keys}

    def moved(self, alphas: Tensor | Sequence[Tensor]) -> dict[str, Tensor]:
        """The tensors at a point (L,), differentiable in its coefficients."""
        keys = [(key, i) for i, layer in enumerate(self.layers) for key in layer.tensors]
        return {key: self.t1[key] + alphas[i] * (self.t2[key] - self.t1[key]) for key, i in keys}


def check_states(model: nn.Module, t1: Mapping[str, Tensor], t2: Mapping[str, Tensor]) -> None:
    """Check that two state dicts are of a model's architecture and finite.

    Raises:
        LmcError: they are not.
    """
    shapes = [{key: tuple(value.shape) for key, value in state.items()} for state in (model.state_dict(), t1, t2)]
    for name, other in (("t1", shapes[1]), ("t2", shapes[2])):
        for key in sorted(set(shapes[0]) | set(other)):
            if shapes[0].get(key) != other.get(key):
                mine, theirs = shapes[0].get(key, "absent"), other.get(key, "absent")
                raise LmcError(f"{name}: is of another architecture at {key!r}: {theirs} where the model has {mine}")
    for key, value in t1.items():
        if value.dtype != t2[key].dtype:
            raise LmcError(f"t2: {key!r} is {t2[key].dtype} where t1's is {value.dtype}; must be of one type")
    for name, state in (("t1", t1), ("t2", t2)):
        for key, value in state.items():
            if value.is_floating_point() and not bool(value.isfinite().all()):
                raise LmcError(f"{name}: {key!r} holds NaN or infinite weights; every weight must be finite")
