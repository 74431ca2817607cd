"""Training throughput in model-epochs per second: lock-step, streams, torch.func stacks and processes against two plain loops.

Every way trains eight networks of one architecture; ratios are against a loop with DataLoader and torch.optim.SGD, and against one network at a
time through this library, both with all threads, in this one run on this machine. On a CPU the data are the digits, of which ResNets of width 8 and a small vision transformer
are trained, and then images of CIFAR-10's size, where all ways have one thread, as in a process a core; on a GPU images of CIFAR-10's size and number and ResNet-20, in float32 without
TF32 and in bf16.
"""

import time
from collections.abc import Callable

import torch
from harness import Benchmark, Timed
from torch import nn
from torch.func import functional_call, grad, stack_module_state, vmap
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset

from lmclib.data.dataset import Dataset, Split
from lmclib.data.load import load_data
from lmclib.device import full_precision
from lmclib.networks.build import build_model
from lmclib.training.loop import JointTraining, Layout
from lmclib.training.recipe import Recipe, steps_per_epoch
from lmclib.training.run import Run

MODELS = 8


def random_images() -> Dataset:
    """As large as CIFAR-10: what images show does not change how long a step takes."""
    g = torch.Generator().manual_seed(0)
    splits = [
        Split(
            torch.randint(0, 256, (n, 3, 32, 32), generator=g, dtype=torch.uint8), torch.randint(10, (n,), generator=g)
        )
        for n in (50_000, 1_000)
    ]
    return Dataset("random images", tuple("0123456789"), *splits, shift=4, flip=True)


class Race:
    """One architecture on one data set; every way is a method that returns the seconds of one step of all networks."""

    def __init__(self, bench: Benchmark, data: Dataset, name: str, recipe: Recipe, steps: int):
        self.bench, self.data, self.name, self.recipe = bench, data, name, recipe
        self.device, self.steps = bench.device, 2 if bench.quick else steps

    def net(self, seed: int = 0) -> nn.Module:
        return build_model(self.name, self.data.shape, len(self.data.classes), seed).to(self.device).train()

    def timed(self, step: Callable[[], object]) -> float:
        def work() -> None:
            for _ in range(self.steps):
                step()

        with full_precision():
            step()  # a warm-up
            return self.bench.once(work).seconds / self.steps

    def data_loader(self) -> float:
        """A plain PyTorch loop: DataLoader, torch.optim.SGD, float32, one network at a time."""
        x, y = self.data.pair("train")
        loader, (net, optimiser) = DataLoader(TensorDataset(x, y), self.recipe.batch_size, shuffle=True), self.plain()
        batches = iter(loader)

        def step() -> None:
            nonlocal batches
            try:
                x, y = next(batches)
            except StopIteration:
                batches = iter(loader)
                x, y = next(batches)
            optimiser.zero_grad()
            F.cross_entropy(net(x.to(self.device)), y.to(self.device)).backward()
            optimiser.step()

        return MODELS * self.timed(step)

    def in_memory(self) -> float:
        """The same with all images in memory, on the device."""
        x, y = self.data.to(self.device).pair("train")
        net, optimiser = self.plain()

        def step() -> None:
            rows = torch.randint(len(y), (self.recipe.batch_size,), device=self.device)
            optimiser.zero_grad()
            F.cross_entropy(net(x[rows]), y[rows]).backward()
            optimiser.step()

        return MODELS * self.timed(step)

    def plain(self) -> tuple[nn.Module, torch.optim.Optimizer]:
        net, r = self.net(), self.recipe
        return net, torch.optim.SGD(net.parameters(), r.lr, r.momentum, weight_decay=r.weight_decay)

    def func_stack(self) -> float:
        """torch.func: the gradient of stacked networks, mapped over them."""
        nets = [self.net(seed) for seed in range(MODELS)]
        params, buffers = stack_module_state(nets)
        momentum = {key: torch.zeros_like(value) for key, value in params.items()}
        x, y = self.data.to(self.device).pair("train")

        def loss(params: dict, buffers: dict, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
            return F.cross_entropy(functional_call(nets[0], (params, buffers), (x,)), y)

        slopes = vmap(grad(loss))

        def step() -> None:
            rows = torch.randint(len(y), (MODELS, self.recipe.batch_size), device=self.device)
            grads = slopes(params, buffers, x[rows], y[rows])
            with torch.no_grad():
                for key, value in params.items():
                    momentum[key].mul_(self.recipe.momentum).add_(grads[key] + self.recipe.weight_decay * value)
                    value.sub_(self.recipe.lr * momentum[key])

        return self.timed(step)

    def ours(self, layout: Layout, precision: str = "float32") -> float:
        """The library's own step, recorded, with its augmentation."""
        training = filled(self.net(), self.data.to(self.device), self.recipe, layout, precision)
        return MODELS / len(training.members) * self.timed(training.advance)

    def processes(self, workers: int) -> float:
        """One network at a time in each of some processes of one thread."""
        from distributed import Client
        from distributed.deploy.subprocess import SubprocessCluster

        quiet = {"dashboard": False, "dashboard_address": None}
        with (
            SubprocessCluster(n_workers=workers, threads_per_worker=1, scheduler_kwargs=quiet) as cluster,
            Client(cluster) as client,
        ):
            jobs = [client.submit(alone, self.name, self.recipe, self.steps, k, pure=False) for k in range(MODELS)]
            times = client.gather(jobs)
        return sum(times) / workers / self.steps


def filled(net: nn.Module, data: Dataset, recipe: Recipe, layout: Layout, precision: str) -> JointTraining:
    """A training that is full."""
    training = JointTraining(net, data, recipe, layout, precision)
    for k in range(len(training.members)):
        training.enter(k, Run(f"{k}", (0, k), net.state_dict(), 0, 10**9, frozenset()))
    return training


def alone(name: str, recipe: Recipe, steps: int, seed: int) -> float:
    """Seconds of some steps of one network on digits in a process of one thread."""
    torch.set_num_threads(1)
    data = load_data("digits")
    training = filled(build_model(name, data.shape, 10, seed), data, recipe, Layout(1, 1), "float32")
    training.advance()
    start = time.perf_counter()
    for _ in range(steps):
        training.advance()
    return time.perf_counter() - start


def main() -> None:
    """Print the table."""
    columns = {
        "model": 14,
        "images": 14,
        "way": 34,
        "model-epochs/s": 15,
        "against DataLoader": 19,
        "against one at a time": 21,
    }
    bench = Benchmark("training", f"training {MODELS} networks", columns)
    gpu = bench.device.type == "cuda"
    large = random_images(), Recipe(batch_size=128)
    digits = load_data("digits"), Recipe()
    cases = (
        [("resnet20", *large)]
        if gpu
        else [*((name, *digits) for name in ("resnet8-w8", "resnet20-w8", "vit-p4-d16-l2")), ("resnet20-w8", *large)]
    )
    for name, data, recipe in cases:
        race = Race(bench, data, name, recipe, steps=50 if gpu else 20)
        ways = {
            "plain loop with DataLoader": race.data_loader,
            "plain loop in memory": race.in_memory,
            "ours, one at a time": lambda race=race: race.ours(Layout(1, 1)),
        }
        if gpu or data.shape[1] < 32:
            ways["torch.func stack"] = race.func_stack
            ways[f"ours, {MODELS} members in lock-step"] = lambda race=race: race.ours(Layout(1, MODELS))
        if gpu:
            for streams in (1, 4, MODELS, 2 * MODELS):
                ways[f"ours, {streams} streams, float32"] = lambda race=race, n=streams: race.ours(Layout(n, 1))
                ways[f"ours, {streams} streams, bf16"] = lambda race=race, n=streams: race.ours(Layout(n, 1), "bf16")
            ways[f"ours, {MODELS} members, bf16"] = lambda race=race: race.ours(Layout(1, MODELS), "bf16")
        elif data.shape[1] < 32:
            workers = torch.get_num_threads()
            ways[f"ours, {workers} processes of one thread"] = lambda race=race, n=workers: race.processes(n)
        else:
            torch.set_num_threads(1)
        found = bench.race({way: lambda run=run: Timed(run()) for way, run in ways.items()})
        loader, single = found["plain loop with DataLoader"], found["ours, one at a time"]
        for way, (seconds, _, _) in found.items():
            bench.row(
                **{
                    "model": name,
                    "images": data.label,
                    "way": way,
                    "model-epochs/s": MODELS / seconds / steps_per_epoch(len(data.train), recipe),
                    "against DataLoader": loader.seconds / seconds,
                    "against one at a time": single.seconds / seconds,
                }
            )
    bench.write()


if __name__ == "__main__":
    main()
