"""What second order knows of a cube: the slopes at its two ends, and the matrices of cross-layer energies."""

from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from lmclib.cube.points import LayerCube


@dataclass(frozen=True)
class Energies:
    r"""What second order knows of a cube: at each end the slopes $g_k \cdot P_\ell\Delta$ and the matrix $E^{(k)}$ of cross-layer energies.

    Attributes:
        layers: the L names.
        gradients: (2, L).
        hessians: (2, L, L).
    """

    layers: tuple[str, ...]
    gradients: np.ndarray
    hessians: np.ndarray

    @classmethod
    def of(cls, cube: LayerCube) -> "Energies":
        """From two gradients and two Hessians of the cube, one of each at every end."""
        ends = [cube.derivatives.up_to(2, end) for end in (0.0, 1.0)]
        gradients, hessians = (torch.stack(part).numpy() for part in zip(*ends, strict=True))
        return cls(cube.layers, gradients, hessians)

    def barrier(self, corner: Tensor, alphas: np.ndarray, method: str = "published") -> np.ndarray:
        """The predicted barrier of the layers that are 1 in `corner` (L,), at alphas (n,)."""
        e = corner.numpy()
        one, two = (e @ hessian @ e for hessian in self.hessians)
        slope = (self.gradients[0] - self.gradients[1]) @ e if method == "gradient" else 0
        return alphas * (1 - alphas) * (slope + (alphas * one + (1 - alphas) * two) / 2)

    def table(self) -> pd.DataFrame:
        """A row an end and layer: `end` (1, 2), `layer`, `gradient`, and `energies`, the layer's row of the matrix."""
        return pd.DataFrame(
            {"end": k + 1, "layer": layer, "gradient": self.gradients[k, i], "energies": self.hessians[k, i]}
            for k in range(2)
            for i, layer in enumerate(self.layers)
        )

    @classmethod
    def from_table(cls, table: pd.DataFrame) -> "Energies":
        """The inverse of `table`."""
        ends = [rows for _, rows in table.groupby("end", sort=True)]
        return cls(
            tuple(ends[0].layer),
            np.stack([rows.gradient.to_numpy() for rows in ends]),
            np.stack([np.stack(rows.energies.tolist()) for rows in ends]),
        )


def energy_table(cube: LayerCube) -> pd.DataFrame:
    """The `Energies` of a cube as a table that the store can keep."""
    return Energies.of(cube).table()


def end_slopes(cube: LayerCube) -> pd.DataFrame:
    r"""How stationary the two ends are: the norm of the loss's gradient there, and its slope along the path.

    Returns:
        A row an end: `end` (1, 2), `gradient_norm` $\lVert\nabla\mathcal L(\theta_k)\rVert$ over all parameters, `slope`
        $\nabla\mathcal L(\theta_k) \cdot \Delta$ (statistics count as parameters here), in nats per unit of α.

    Example:
        >>> net, x = torch.nn.Linear(1, 1, bias=False), torch.ones(1, 1)
        >>> ends = ({"weight": torch.tensor([[w]])} for w in (-1.0, 3.0))
        >>> cube = LayerCube(net, *ends, (x, torch.zeros(1, 1)), loss="squared")  # w², so 2 w and 2 w · 4
        >>> end_slopes(cube)[["gradient_norm", "slope"]].values.tolist()
        [[2.0, -8.0], [6.0, 24.0]]
    """
    rows = []
    for end, alpha in ((1, 0.0), (2, 1.0)):
        norm = cube.derivatives.parameter_gradient(alpha).norm()
        rows.append({"end": end, "gradient_norm": float(norm), "slope": float(cube.gradient(alpha).sum())})
    return pd.DataFrame(rows)
