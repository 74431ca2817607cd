"""Layer sweeps and staircases: the cube against a tight loop, and against the procedure of the released research code.

The tight loop copies every interpolated state dict into one resident network and evaluates it on tensors in memory. The released procedure, written
anew from its description, takes one point at a time: copy both state dicts, average the chosen layers, load the result into a new copy of the network,
and run a DataLoader. All ways evaluate the same points on the same images and must agree; ratios are from this one run on this machine. Images of 32×32
pixels are random numbers: what they show does not change how long a pass takes.
"""

import copy
from functools import partial

import torch
from harness import Benchmark
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset

import lmclib as lmc
from lmclib.data.load import load_data
from lmclib.device import full_precision
from lmclib.networks.build import build_model

IMAGES = {"cpu": 64, "cuda": 50_000}
BATCH = 250


def points(n_layers: int) -> dict[str, Tensor]:
    """The points of a layer sweep (both ends, the middle, every layer into either model) and of a staircase."""
    half = torch.eye(n_layers, dtype=torch.float64) / 2
    ends = torch.tensor([0.0, 0.5, 1.0], dtype=torch.float64)[:, None].repeat(1, n_layers)
    steps = torch.tril(torch.full((n_layers, n_layers), 0.5, dtype=torch.float64))
    return {"layer sweep": torch.cat([ends, half, 1 - half]), "staircase": torch.cat([ends[:1], steps])}


class Sweep:
    """Two networks, images, and the ways to evaluate points between them."""

    def __init__(self, bench: Benchmark, name: str, x: Tensor, y: Tensor):
        self.device, shape = bench.device, tuple(x.shape[1:])
        self.models = [build_model(name, shape, 10, seed).to(bench.device).eval() for seed in (0, 1)]
        self.t1, self.t2 = ({k: v.clone() for k, v in model.state_dict().items()} for model in self.models)
        self.x, self.y = x.to(bench.device), y.to(bench.device)
        self.loader = DataLoader(TensorDataset(x, y), batch_size=128)
        self.cube = lmc.LayerCube(build_model(name, shape, 10), self.t1, self.t2, (self.x, self.y))
        self.owner = {key: self.cube.layers.index(key.rpartition(".")[0]) for key in self.t1}

    def tight_loop(self, at: Tensor, wide: bool = False) -> Tensor:
        """Copy each interpolated state dict into one resident network, and evaluate."""
        model, x = self.models[wide], self.x
        if wide:
            model, x = model.to(memory_format=torch.channels_last), x.contiguous(memory_format=torch.channels_last)
        own, losses = model.state_dict(), []
        for point in at.tolist():
            for key, value in own.items():
                if value.is_floating_point():
                    torch.lerp(self.t1[key], self.t2[key], point[self.owner[key]], out=value)
            parts = zip(x.split(BATCH), self.y.split(BATCH), strict=True)
            losses.append(sum(F.cross_entropy(model(xs), ys, reduction="sum").item() for xs, ys in parts))
        return torch.tensor(losses, dtype=torch.float64) / len(self.y)

    def released(self, at: Tensor) -> Tensor:
        """One point at a time with copies of everything and a DataLoader, loss and accuracy read after each batch."""
        criterion, losses = nn.CrossEntropyLoss(), []
        for point in at.tolist():
            one, two = copy.deepcopy(self.t1), copy.deepcopy(self.t2)
            for key, value in one.items():
                if value.is_floating_point():
                    alpha = point[self.owner[key]]
                    one[key] = (1 - alpha) * value + alpha * two[key]
            model = copy.deepcopy(self.models[0])
            model.load_state_dict(one)
            loss, correct, count = 0.0, 0, 0
            for xs, ys in self.loader:
                xs, ys = xs.to(self.device), ys.to(self.device)
                out = model(xs)
                loss += criterion(out, ys).item() * len(ys)
                correct += (out.argmax(1) == ys).sum().item()
                count += len(ys)
            losses.append(loss / count)
        return torch.tensor(losses, dtype=torch.float64)


def cases(bench: Benchmark):
    """Networks and images."""
    g, n = torch.Generator().manual_seed(0), 8 if bench.quick else IMAGES[bench.device.type]
    x, y = torch.randn(n, 3, 32, 32, generator=g), torch.randint(10, (n,), generator=g)
    for name in ("resnet18-none", "resnet18"):
        yield name, f"{n:,} random", x, y
    if bench.device.type == "cpu":  # what profile `cifar` measures
        n = 8 if bench.quick else 500
        x, y = torch.randn(n, 3, 32, 32, generator=g), torch.randint(10, (n,), generator=g)
        for name in ("resnet20-w8-fixup", "resnet20-w8"):
            yield name, f"{n:,} random", x, y
    digits = load_data("digits").pair("train")
    yield ("resnet20-w8", "1,437 digits", *(part[:8] if bench.quick else part for part in digits))


@torch.no_grad()
def main() -> None:
    """Print the table."""
    columns = {"model": 18, "images": 14, "points": 12, "n": 4, "way": 28, "seconds": 8}
    columns |= {"against tight loop": 19, "against released": 17, "memory GB": 10, "loss off by": 11}
    bench = Benchmark("layers", "points of the layer cube, float32", columns)
    for name, images, x, y in cases(bench):
        sweep = Sweep(bench, name, x, y)
        for what, at in points(len(sweep.cube.layers)).items():
            ways = {
                "released procedure": partial(sweep.released, at),
                "tight loop": partial(sweep.tight_loop, at),
                "tight loop, channels-last": partial(sweep.tight_loop, at, wide=True),
                "the cube": lambda sweep=sweep, at=at: sweep.cube(at).loss,
            }
            with full_precision():
                found = bench.race({way: partial(bench.once, run) for way, run in ways.items()})
            tight, released = found["tight loop"], found["released procedure"]
            for way, (seconds, memory, losses) in found.items():
                off = ((losses - tight.result) / tight.result).abs().max()
                bench.row(
                    **{
                        "model": name,
                        "images": images,
                        "points": what,
                        "n": len(at),
                        "way": way,
                        "seconds": seconds,
                        "against tight loop": tight.seconds / seconds,
                        "against released": released.seconds / seconds,
                        "memory GB": memory,
                        "loss off by": float(off),
                    }
                )
    bench.write()


if __name__ == "__main__":
    main()
