"""Descent on a layer cube: its value and slope at once, and the lowest point within the box that is found from a start."""

import numpy as np
import torch
from scipy.optimize import minimize
from torch import Tensor

from lmclib.cube.batching import HalvedBatches, largest_value
from lmclib.cube.points import LayerCube
from lmclib.device import full_precision
from lmclib.errors import LmcError
from lmclib.merging.ends import Cube
from lmclib.merging.streamed import StreamedCube
from lmclib.networks.differentiable import Functional, differentiating

NUMBERS = 2**22  # in the largest value of a pass, all examples of a batch together


class Slope:
    r"""$\varphi(a)$ and $\partial\varphi/\partial a$ at one point, by one forward and one backward pass over the data.

    As `LayerCube.gradient`, but for first derivatives alone: entry $\ell$ is $\langle\nabla\mathcal L(\theta(a)), P_\ell\Delta\rangle$ with the gradient taken at
    $\theta(a)$, which is mixed once, and not through the mixing, so that large batches share it, and the value is no further pass.

    Args:
        cube: the layer cube; statistics are interpolated.

    Example:
        >>> net, x = torch.nn.Linear(1, 1, bias=False), torch.ones(1, 1)
        >>> ends = ({"weight": torch.tensor([[w]])} for w in (-1.0, 3.0))
        >>> slope = Slope(LayerCube(net, *ends, (x, torch.zeros(1, 1)), loss="squared"))
        >>> slope(torch.tensor([0.0]))  # (-1)² and 2 (-1) 4
        (1.0, tensor([-8.], dtype=torch.float64))
    """

    def __init__(self, cube: LayerCube):
        self.cube, self.function = cube, Functional(cube.model)
        x = next(cube.batching.of(cube.data))[0][:2]
        self.batches = HalvedBatches("slopes of the cube", max(1, NUMBERS // largest_value(self.function.net, x)))

    def __call__(self, a: Tensor) -> tuple[float, Tensor]:
        """Value and slope (L,), float64.

        Raises:
            LmcError: PyTorch lacks a derivative.
        """
        cube, mixed = self.cube, self.cube.state(a)
        state = {key: mixed[key].detach().requires_grad_() for layer in cube.ends.layers for key in layer.tensors}
        leaves = list(state.values())

        def work(x: Tensor, y: Tensor) -> tuple[float, Tensor, int]:
            loss = cube.loss(self.function(state, x), y)
            if not loss.requires_grad:
                name = getattr(cube.loss, "__name__", cube.loss)
                raise LmcError(f"loss={name!r}: has no derivative in the outputs")
            gradient = torch.autograd.grad(loss, leaves, materialize_grads=True)
            return float(loss.detach()) * len(y), self._along(dict(zip(state, gradient, strict=True))) * len(y), len(y)

        value, slope, count = 0.0, torch.zeros(len(cube.layers), dtype=torch.float64), 0
        with full_precision(), differentiating():
            for one, along, n in self.batches.over(cube.batching.of(cube.data, self.batches.size), work):
                value, slope, count = value + one, slope + along, count + n
        return value / count, slope / count

    def _along(self, gradient: dict[str, Tensor]) -> Tensor:
        """The product of a gradient with every layer's Δ."""
        ends = self.cube.ends
        parts = [
            sum((gradient[key] * (ends.t2[key] - ends.t1[key])).sum(dtype=torch.float64) for key in layer.tensors)
            for layer in ends.layers
        ]
        return torch.stack(parts).cpu()


def descended(cube: Cube, start: Tensor, evaluations: int) -> tuple[Tensor, float]:
    """Where L-BFGS-B comes to within the box from a start (L,), and the loss there."""
    slope = cube.value_and_gradient if isinstance(cube, StreamedCube) else Slope(cube)

    def value(a: np.ndarray) -> tuple[float, np.ndarray]:
        loss, gradient = slope(torch.from_numpy(a.copy()))
        return loss, gradient.numpy()

    options = {"maxfun": evaluations, "maxiter": evaluations, "ftol": 1e-10, "gtol": 1e-8}
    bounds = [(0.0, 1.0)] * len(start)
    found = minimize(value, start.numpy(), jac=True, method="L-BFGS-B", bounds=bounds, options=options)
    return torch.from_numpy(found.x).clamp(0, 1), float(found.fun)
