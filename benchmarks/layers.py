"""Layer sweep and staircase of ResNet-18: the cube against tight in-memory loops that load every interpolated state dict.

All ways evaluate the same points on the same 32×32 images and must agree; ratios are against the tight loop, in this one run on this
machine. The images are random numbers: what they show does not change how long a pass takes.
"""

import platform
import resource
import time
from functools import partial

import torch
from torch.nn import functional as F

import lmclib as lmc
from lmclib.models import build_model

IMAGES = 64


def points(n_layers: int) -> dict[str, torch.Tensor]:
    """The points of a layer sweep (both ends, the middle, every layer into either model) and of a staircase."""
    half = torch.eye(n_layers, dtype=torch.float64) / 2
    ends = torch.tensor([0.0, 0.5, 1.0], dtype=torch.float64)[:, None].repeat(1, n_layers)
    steps = torch.tril(torch.full((n_layers, n_layers), 0.5, dtype=torch.float64))
    return {"layer sweep": torch.cat([ends, half, 1 - half]), "staircase": torch.cat([ends[:1], steps])}


def tight_loop(model, *, t1: dict, t2: dict, layers: tuple, at: torch.Tensor, x, y, wide: bool) -> torch.Tensor:
    """Copy each interpolated state dict into one resident model, and evaluate."""
    model = model.eval()
    if wide:
        model, x = model.to(memory_format=torch.channels_last), x.contiguous(memory_format=torch.channels_last)
    own = model.state_dict()
    owner = {key: layers.index(key.rpartition(".")[0]) for key in t1}
    losses = []
    with torch.no_grad():
        for point in at.tolist():
            for key, value in own.items():
                if value.is_floating_point():
                    torch.lerp(t1[key], t2[key], point[owner[key]], out=value)
            losses.append(
                sum(
                    F.cross_entropy(model(xs), ys, reduction="sum").item()
                    for xs, ys in zip(x.split(250), y.split(250), strict=True)
                )
            )
    return torch.tensor(losses, dtype=torch.float64) / len(y)


def memory() -> float:
    """The most memory that this process ever had, GB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6


def main() -> None:
    """Print the table."""
    torch.set_num_threads(min(2, torch.get_num_threads()))
    g = torch.Generator().manual_seed(0)
    x, y = torch.randn(IMAGES, 3, 32, 32, generator=g), torch.randint(10, (IMAGES,), generator=g)
    print(
        f"\ntorch {torch.__version__}, {platform.machine()}, {torch.get_num_threads()} threads, {IMAGES} images, float32"
    )
    print(
        f"{'model':<14} {'points':<12} {'n':>3} {'way':<28} {'seconds':>8} {'ratio':>7} {'most memory':>12} {'loss differs by':>16}"
    )
    for name in ("resnet18-none", "resnet18"):
        models = [build_model(name, (3, 32, 32), 10, seed) for seed in (0, 1)]
        t1, t2 = ({key: value.clone() for key, value in model.state_dict().items()} for model in models)
        cube = lmc.LayerCube(build_model(name, (3, 32, 32), 10), t1, t2, (x, y))
        cube(0.5)  # a warm-up
        for what, at in points(len(cube.layers)).items():
            loop = partial(tight_loop, t1=t1, t2=t2, layers=cube.layers, at=at, x=x, y=y)
            ways = {
                "tight loop": partial(loop, models[0], wide=False),
                "tight loop, channels-last": partial(loop, models[1], wide=True),
                "the cube, sharing passes": partial(cube, at),
            }
            first = reference = None
            for way, run in ways.items():
                start = time.perf_counter()
                losses = run()
                seconds = time.perf_counter() - start
                losses = getattr(losses, "loss", losses)
                first, reference = first or seconds, losses if reference is None else reference
                differs = float(((losses - reference) / reference).abs().max())
                print(
                    f"{name:<14} {what:<12} {len(at):>3} {way:<28} {seconds:>8.1f} {first / seconds:>6.2f}× "
                    f"{memory():>9.2f} GB {differs:>16.0e}"
                )


if __name__ == "__main__":
    main()
