"""What a reader's own two checkpoints cost: the commands `layers` and `merge --plan` from start to end, beside a plain loop.

The pair is made here: torchvision's ResNet-18 and two siblings of it that were trained for a few steps on digits, enlarged to 32×32 in three colours. The plain loop loads both
files, mixes each state dict, loads it into the network and evaluates it, one point after the other; for `merge` it also takes as many losses with their gradients.
Start-up is part of the commands, and of the loop the imports are not. CPU seconds count all threads.
"""

import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch
from harness import Benchmark
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.func import functional_call
from torch.nn import functional as F
from torchvision.models import resnet18

from lmclib.data.load import load_data

EXAMPLES, STEPS, BATCH = 1000, 30, 250
EVALUATIONS, STARTS, OTHERS = 5, 4, 30  # of `merge`: losses with gradients, and points beside its sweep over layers
Ends = tuple[dict[str, Tensor], dict[str, Tensor]]


def images(n: int) -> tuple[Tensor, Tensor]:
    """Digits as images of 32×32 in three colours."""
    x, y = (part[:n] for part in load_data("digits").pair("train"))
    return F.interpolate(x, size=32, mode="bilinear").repeat(1, 3, 1, 1), y


def make_pair(folder: Path, steps: int) -> None:
    """Two siblings on disk, with the images that they are measured on."""
    x, y = images(EXAMPLES)
    torch.manual_seed(0)
    parent = resnet18(num_classes=10)
    _train(parent, x, y, steps, seed=0)
    for seed, name in enumerate("ab", 1):
        child = resnet18(num_classes=10)
        child.load_state_dict(parent.state_dict())
        _train(child, x, y, steps, seed)
        save_file(child.state_dict(), folder / f"{name}.safetensors")


def _train(net: torch.nn.Module, x: Tensor, y: Tensor, steps: int, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    optimizer = torch.optim.SGD(net.parameters(), lr=0.02, momentum=0.9)
    for _ in range(steps):
        batch = torch.randint(len(y), (32,), generator=generator)
        optimizer.zero_grad()
        F.cross_entropy(net.train()(x[batch]), y[batch]).backward()
        optimizer.step()


class PlainLoop:
    """What the commands measure, point by point."""

    def __init__(self, folder: Path, n: int):
        self.folder, self.data, self.net = folder, images(n), resnet18(num_classes=10).eval()
        names = (key.rpartition(".")[0] for key in self.net.state_dict())
        self.layers = list(dict.fromkeys(names))

    def sweep(self) -> list[float]:
        """Both ends, and every layer averaged into either model."""
        ends = self._ends()
        points = [{}, dict.fromkeys(self.layers, 1.0)]
        for layer in self.layers:
            points += [{layer: 0.5}, {**dict.fromkeys(self.layers, 1.0), layer: 0.5}]
        return [self._loss(ends, point, *self.data) for point in points]

    def merge(self) -> list[float]:
        """As many points on half of the data as `merge` asks for, and as many losses with gradients."""
        ends, half = self._ends(), [part[::2] for part in self.data]
        points = [{layer: 0.5} for layer in self.layers]
        points += [dict.fromkeys(self.layers, i / OTHERS) for i in range(OTHERS)]
        found = [self._loss(ends, point, *half) for point in points]
        return found + [self._gradient(ends, i / STARTS / EVALUATIONS, *half) for i in range(STARTS * EVALUATIONS)]

    def _ends(self) -> Ends:
        return tuple(load_file(self.folder / f"{name}.safetensors") for name in "ab")

    def _mixed(self, ends: Ends, point: dict[str, float]) -> dict[str, Tensor]:
        shares = {key: point.get(key.rpartition(".")[0], 0.0) for key in ends[0]}
        one, two = ends
        return {k: torch.lerp(v, two[k], shares[k]) if v.is_floating_point() else v for k, v in one.items()}

    @torch.no_grad()
    def _loss(self, ends: Ends, point: dict[str, float], x: Tensor, y: Tensor) -> float:
        self.net.load_state_dict(self._mixed(ends, point))
        parts = zip(x.split(BATCH), y.split(BATCH), strict=True)
        return sum(F.cross_entropy(self.net(xs), ys, reduction="sum").item() for xs, ys in parts) / len(y)

    def _gradient(self, ends: Ends, alpha: float, x: Tensor, y: Tensor) -> float:
        """By the parameters alone: PyTorch has no gradient in running statistics."""
        share, moving = torch.full((len(self.layers),), alpha, requires_grad=True), dict(self.net.named_parameters())
        fixed = self._mixed(ends, dict.fromkeys(self.layers, alpha))
        for xs, ys in zip(x.split(BATCH), y.split(BATCH), strict=True):
            state = {k: v + share[self._at(k)] * (ends[1][k] - v) for k, v in ends[0].items() if k in moving}
            F.cross_entropy(functional_call(self.net, fixed | state, (xs,)), ys, reduction="sum").backward()
        return share.grad.sum().item()

    def _at(self, key: str) -> int:
        return self.layers.index(key.rpartition(".")[0])


def command(folder: Path, n: int, *args: str) -> dict:
    """What one of the commands says, as a process of its own."""
    files = [str(folder / f"{name}.safetensors") for name in "ab"]
    data = f"checkpoints:images(n={n})"
    run = [sys.executable, "-m", "lmclib", *args, *files, "--model", "resnet18", "--data", data, "--json"]
    path = os.pathsep.join([str(Path(__file__).parent), *sys.path])
    done = subprocess.run(
        run, env={**os.environ, "PYTHONPATH": path}, capture_output=True, text=True, check=True, cwd=folder
    )
    return json.loads(done.stdout)


def timed(work: Callable[[], object]) -> tuple[float, float, object]:
    """Seconds, CPU seconds of this process and those it started, and what came out."""
    before, start = _cpu(), time.perf_counter()
    result = work()
    return time.perf_counter() - start, _cpu() - before, result


def _cpu() -> float:
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(one.ru_utime + one.ru_stime for one in used)


def main() -> None:
    """Print the table."""
    columns = {"command": 14, "examples": 9, "way": 12, "seconds": 8, "CPU seconds": 12, "against plain loop": 18}
    bench = Benchmark("checkpoints", "two ResNet-18s at 32×32, from files to tables", columns)
    if bench.device.type != "cpu":
        print("these commands compute on the CPU; leave DEVICE out")
        return
    n = 8 if bench.quick else EXAMPLES
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        make_pair(folder, 1 if bench.quick else STEPS)
        loop = PlainLoop(folder, n)
        few = ("--evaluations", str(EVALUATIONS))
        for said, plain, ours in (
            ("layers", loop.sweep, lambda: command(folder, n, "layers")),
            ("merge --plan", loop.merge, lambda: command(folder, n, "merge", "--plan", *few)),
        ):
            one, two = timed(plain), timed(ours)
            for way, (seconds, cpu, _) in (("plain loop", one), ("the command", two)):
                bench.row(
                    **{
                        "command": said,
                        "examples": n,
                        "way": way,
                        "seconds": seconds,
                        "CPU seconds": cpu,
                        "against plain loop": one[0] / seconds,
                    }
                )
            if said == "layers":
                _check(one[2], two[2])
    bench.write()


def _check(losses: list[float], found: dict) -> None:
    """The command's losses are those of the loop."""
    theirs = [row["loss"] for row in found["layers"] if row["into"] != "both"]
    off = max(abs(a - b) for a, b in zip(losses[2:], theirs, strict=True))
    if off > 1e-4:
        raise SystemExit(f"the losses of the command are off by {off:.2g}")


if __name__ == "__main__":
    main()
