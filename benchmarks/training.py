"""Training throughput in model-epochs per second: lock-step seats, one at a time, and a plain PyTorch loop.

Each way trains the same number of ResNets of width 8 on digits for the same number of steps; ratios are against the plain loop, in this
one run on this machine.
"""

import platform
import time

import torch
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset

from lmclib import training
from lmclib.data import load_data
from lmclib.models import build_model

MODELS, STEPS = 8, 22
RECIPE = training.Recipe(epochs=1)


def ours(name: str, seats: int) -> float:
    """Seconds for all models through `train` with so many seats."""
    data = load_data("digits")
    training.SEATS = seats
    net = build_model(name, data.shape, 10)
    runs = [training.Run(f"{k}", (0, k), net.state_dict(), 0, STEPS, frozenset()) for k in range(MODELS)]
    start = time.perf_counter()
    training.train(net, data, RECIPE, runs, lambda *_: [])
    return time.perf_counter() - start


def plain(name: str) -> float:
    """Seconds for all models, one after another, with DataLoader and torch.optim.SGD, without augmentation."""
    data = load_data("digits")
    loader = DataLoader(TensorDataset(*data.pair("train")), batch_size=RECIPE.batch_size, shuffle=True)
    start = time.perf_counter()
    for seed in range(MODELS):
        net = build_model(name, data.shape, 10, seed).train()
        optimiser = torch.optim.SGD(
            net.parameters(), lr=RECIPE.lr, momentum=RECIPE.momentum, weight_decay=RECIPE.weight_decay
        )
        for (x, y), _ in zip(loader, range(STEPS), strict=False):
            optimiser.zero_grad()
            F.cross_entropy(net(x), y).backward()
            optimiser.step()
    return time.perf_counter() - start


def main() -> None:
    """Print the table."""
    torch.set_num_threads(min(2, torch.get_num_threads()))
    plain("resnet8-w8")  # a warm-up: the first use of anything is slow
    epoch = STEPS / training.steps_per_epoch(load_data("digits"), RECIPE)
    print(
        f"torch {torch.__version__}, {platform.machine()}, {torch.get_num_threads()} threads, {MODELS} models, {STEPS} steps each"
    )
    print(f"{'model':<12} {'way':<16} {'model-epochs/s':>14} {'against plain':>14}")
    for name in ("resnet8-w8", "resnet20-w8"):
        ways = {"plain loop": plain(name), "one at a time": ours(name, 1), "lock-step": ours(name, MODELS)}
        for way, seconds in ways.items():
            print(f"{name:<12} {way:<16} {MODELS * epoch / seconds:>14.2f} {ways['plain loop'] / seconds:>13.2f}×")


if __name__ == "__main__":
    main()
