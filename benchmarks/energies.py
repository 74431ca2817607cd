"""The energy matrix of ResNet-20: the cube's Hessian against L Hessian-vector products, by curvlinops and by hand.

All ways take the same L products over the same data and must agree; ratios are from this one run on this machine. The products by hand are PyHessian's
way, double backward over each batch for each direction, and the same with the first backward pass shared by all directions. On a CPU the data are the
digits; on a GPU random images of CIFAR-10's size and number.
"""

from collections.abc import Iterator
from functools import partial

import torch
from harness import Benchmark
from torch import nn

import lmclib as lmc
from lmclib.data.load import load_data
from lmclib.device import full_precision
from lmclib.networks.build import build_model


class Problem:
    """Two networks with the same running statistics, as curvlinops differentiates in parameters only, and the data."""

    def __init__(self, name: str, bench: Benchmark):
        if bench.device.type == "cuda":
            g, n = torch.Generator().manual_seed(0), 50_000
            data = torch.randn(n, 3, 32, 32, generator=g), torch.randint(10, (n,), generator=g)
        else:
            data = load_data("digits").pair("train")
        few = slice(100) if bench.quick else slice(None)
        self.x, self.y = (part[few].to(bench.device) for part in data)
        shape = tuple(self.x.shape[1:])
        self.model = build_model(name, shape, 10, 0).to(bench.device).eval()
        t1, t2 = (build_model(name, shape, 10, seed).to(bench.device).state_dict() for seed in (0, 1))
        self.cube = lmc.LayerCube(build_model(name, shape, 10), t1, t2, (self.x, self.y))
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

    def batches(self) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        return zip(self.x.split(250), self.y.split(250), strict=True)


def curvlinops(problem: Problem) -> torch.Tensor:
    """L products with curvlinops' Hessian operator."""
    from curvlinops import HessianLinearOperator

    operator = HessianLinearOperator(
        problem.model,
        nn.CrossEntropyLoss(),
        list(problem.params.values()),
        list(problem.batches()),
        check_deterministic=False,
    )
    layers = range(len(problem.cube.layers))
    return torch.stack([problem.row(operator @ problem.direction(layer)) for layer in layers])


def double_backward(problem: Problem, shared: bool) -> torch.Tensor:
    """L products by double backward, with a first backward pass for each of them or one for all, batch by batch."""
    params, rows, layers = list(problem.params.values()), 0, range(len(problem.cube.layers))

    def slopes(x: torch.Tensor, y: torch.Tensor) -> tuple[torch.Tensor, ...]:
        return torch.autograd.grad(nn.functional.cross_entropy(problem.model(x), y), params, create_graph=True)

    for x, y in problem.batches():
        first = slopes(x, y) if shared else None
        products = (
            torch.autograd.grad(first or slopes(x, y), params, problem.direction(layer), retain_graph=shared)
            for layer in layers
        )
        rows = rows + torch.stack([problem.row(product) for product in products]) * len(y)
    return rows / len(problem.y)


def main() -> None:
    """Print the table."""
    columns = {"model": 12, "layers": 7, "way": 38, "seconds": 8, "against curvlinops": 19, "against PyHessian's": 20}
    bench = Benchmark("energies", "energy matrices, float32", columns | {"memory GB": 10, "differs by": 11})
    for name in ("resnet20",) if bench.device.type == "cuda" else ("resnet20-w8", "resnet20"):
        problem = Problem(name, bench)
        problem.cube.gradient(0)  # a warm-up
        ways = {
            "curvlinops": partial(curvlinops, problem),
            "double backward (PyHessian's way)": partial(double_backward, problem, shared=False),
            "double backward, first one shared": partial(double_backward, problem, shared=True),
            "the cube's Hessian": partial(problem.cube.hessian, 0),
        }
        with full_precision():
            found = bench.race({way: partial(bench.once, run) for way, run in ways.items()})
        curv, pyhessian = found["curvlinops"], found["double backward (PyHessian's way)"]
        reference = curv.result.cpu()
        for way, (seconds, memory, matrix) in found.items():
            bench.row(
                **{
                    "model": name,
                    "layers": len(problem.cube.layers),
                    "way": way,
                    "seconds": seconds,
                    "against curvlinops": curv.seconds / seconds,
                    "against PyHessian's": pyhessian.seconds / seconds,
                    "memory GB": memory,
                    "differs by": float((matrix.cpu() - reference).abs().max() / reference.abs().max()),
                }
            )
    bench.write()


if __name__ == "__main__":
    main()
