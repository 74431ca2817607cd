"""The energy matrix of ResNet-20 on digits: the cube's Hessian against L Hessian-vector products, by curvlinops and by hand.

All ways take the same L products over the same data and must agree; ratios are against curvlinops, in this one run on this machine.
"""

import platform
import time
import warnings
from functools import partial

import torch
from torch import nn

import lmclib as lmc
from lmclib.data import load_data
from lmclib.models import build_model

warnings.filterwarnings("ignore", category=FutureWarning)  # curvlinops calls what PyTorch will drop


class Problem:
    """Two networks with the same running statistics, as curvlinops differentiates in parameters only, and the data."""

    def __init__(self, name: str):
        data = load_data("digits")
        self.x, self.y = data.pair("train")
        self.model = build_model(name, data.shape, 10, 0).eval()
        t1, t2 = (build_model(name, data.shape, 10, seed).state_dict() for seed in (0, 1))
        self.cube = lmc.LayerCube(build_model(name, data.shape, 10), t1, t2, (self.x, self.y))
        self.model.load_state_dict(t1)
        self.params = dict(self.model.named_parameters())
        self.change = {key: t2[key] - t1[key] for key in self.params}
        self.owner = [self.cube.layers.index(key.rpartition(".")[0]) for key in self.params]

    def direction(self, layer: int) -> list[torch.Tensor]:
        """The projection of the difference on one layer."""
        return [d if o == layer else torch.zeros_like(d) for d, o in zip(self.change.values(), self.owner, strict=True)]

    def row(self, product: list[torch.Tensor]) -> torch.Tensor:
        """One row of energies from a Hessian-vector product."""
        row = torch.zeros(len(self.cube.layers), dtype=torch.float64)
        for value, change, owner in zip(product, self.change.values(), self.owner, strict=True):
            row[owner] += (value.double() * change.double()).sum().detach()
        return row


def curvlinops(problem: Problem) -> torch.Tensor:
    """L products with curvlinops' Hessian operator."""
    from curvlinops import HessianLinearOperator

    batches = list(zip(problem.x.split(250), problem.y.split(250), strict=True))
    operator = HessianLinearOperator(
        problem.model, nn.CrossEntropyLoss(), list(problem.params.values()), batches, check_deterministic=False
    )
    layers = range(len(problem.cube.layers))
    return torch.stack([problem.row(operator @ problem.direction(layer)) for layer in layers])


def double_backward(problem: Problem) -> torch.Tensor:
    """L products by double backward, with the first backward shared by all of them, batch by batch."""
    params, rows = list(problem.params.values()), 0
    for x, y in zip(problem.x.split(250), problem.y.split(250), strict=True):
        slopes = torch.autograd.grad(nn.functional.cross_entropy(problem.model(x), y), params, create_graph=True)
        products = (
            torch.autograd.grad(slopes, params, problem.direction(layer), retain_graph=True)
            for layer in range(len(problem.cube.layers))
        )
        rows = rows + torch.stack([problem.row(product) for product in products]) * len(y)
    return rows / len(problem.y)


def main() -> None:
    """Print the table."""
    torch.set_num_threads(min(2, torch.get_num_threads()))
    print(
        f"\ntorch {torch.__version__}, {platform.machine()}, {torch.get_num_threads()} threads, 1,437 digits, float32"
    )
    print(f"{'model':<12} {'layers':>6} {'way':<40} {'seconds':>8} {'ratio':>7} {'differs by':>11}")
    for name in ("resnet20-w8", "resnet20"):
        problem = Problem(name)
        problem.cube.gradient(0)  # a warm-up
        ways = {
            "curvlinops": partial(curvlinops, problem),
            "double backward, first one shared": partial(double_backward, problem),
            "the cube's Hessian": partial(problem.cube.hessian, 0),
        }
        first = reference = None
        for way, run in ways.items():
            start = time.perf_counter()
            matrix = run()
            seconds = time.perf_counter() - start
            first, reference = first or seconds, matrix if reference is None else reference
            differs = float((matrix - reference).abs().max() / reference.abs().max())
            print(
                f"{name:<12} {len(problem.cube.layers):>6} {way:<40} {seconds:>8.1f} {first / seconds:>6.2f}× {differs:>11.0e}"
            )


if __name__ == "__main__":
    main()
