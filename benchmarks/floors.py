"""How far from the least possible: counted operations and bytes, over ceilings measured here, against what the library takes.

The ceilings are a large copy and large matrix products or convolutions on this device. A floor is the larger of two times: all operations at the rate of the products,
and all bytes at the rate of the copy (`lmclib.book.cost` says what is counted). The last rows are what the time is spent on, by a profile.
"""

from collections.abc import Callable
from dataclasses import replace

import torch
from harness import Benchmark
from torch.profiler import ProfilerActivity, profile
from training import Race, filled, random_images

import lmclib as lmc
from lmclib.book.cost import Rates, copy_rate, forward_cost, product_rate
from lmclib.data.load import load_data
from lmclib.device import full_precision
from lmclib.networks.build import build_model
from lmclib.training.loop import Layout
from lmclib.training.recipe import Recipe

TOP = 6  # operations in a profile
PIECE = 4096  # at most so many images in the profiles of sweep and energies


def main() -> None:
    """Print the table and the profile."""
    columns = {"work": 48, "per second": 11, "seconds": 9, "floor": 9, "times the floor": 16, "share": 7}
    bench = Benchmark("floors", "distance from the floors", columns)
    gpu, size = bench.device.type == "cuda", 2**20 if bench.quick else 2**28
    with full_precision():
        n = 256 if bench.quick else 4096
        rate = {
            dtype: product_rate(bench.device, dtype, bench.seconds, n)
            for dtype in ([torch.bfloat16] if gpu else []) + [torch.float32]
        }
        bandwidth = copy_rate(bench.device, bench.seconds, size)
    for dtype, per_second in rate.items():
        bench.row(**{"work": f"ceiling: {str(dtype).removeprefix('torch.')}, operations", "per second": per_second})
    bench.row(**{"work": "ceiling: copies, bytes", "per second": bandwidth})
    ceilings = Rates(str(bench.device), rate.get(torch.bfloat16, rate[torch.float32]), rate[torch.float32], bandwidth)
    data, name = (random_images(), "resnet20") if gpu else (load_data("digits"), "resnet20-w8")
    recipe, layout = Recipe(batch_size=128 if gpu else 32), Layout.on(bench.device, data.shape)
    race = Race(bench, data, name, recipe, steps=20)
    precision = "bf16" if gpu else "float32"
    # on a CPU a step is in float32: numbers of twice as many bytes
    rates = ceilings if gpu else replace(ceilings, bandwidth=bandwidth / 2)
    forward = forward_cost(build_model(name, data.shape, 10), data.shape)
    examples = len(data.train)
    per_step = race.ours(layout, precision) / (8 * recipe.batch_size)
    _row(
        bench,
        f"epoch of {name}, {data.label}, {precision}",
        per_step * examples,
        forward.step_seconds(rates) * examples,
    )
    net = build_model(name, data.shape, 10)
    ends = [build_model(name, data.shape, 10, seed).state_dict() for seed in (0, 1)]
    images = data.to(bench.device).pair("train")
    cube = lmc.LayerCube(net, *ends, images, device=bench.device)
    half = torch.eye(len(cube.layers), dtype=torch.float64) / 2
    sweep = torch.cat([half, 1 - half])
    taken = bench.seconds(lambda: cube(sweep))
    # sharing passes can halve what the points need one by one
    least = forward.pass_seconds(ceilings) * examples * len(sweep) / 2
    _row(bench, f"layer sweep of {name}, {len(sweep)} points, float32", taken, least)
    taken = bench.seconds(lambda: cube.hessian(0))
    # a gradient is three passes, a row of the matrix four; rows need only what lies behind their layer, half on average
    least = forward.pass_seconds(ceilings) * examples * (3 + 4 * len(cube.layers) / 2)
    _row(bench, f"energy matrix of {name}, {len(cube.layers)} layers, float32", taken, least)
    piece = lmc.LayerCube(net, *ends, tuple(part[:PIECE] for part in images), device=bench.device)
    training = filled(race.net(), race.data.to(bench.device), race.recipe, layout, precision)
    spent = {
        "training step": training.advance,
        "layer sweep": lambda: piece(sweep),
        "energy matrix": lambda: piece.hessian(0),
    }
    for what, work in spent.items():
        _profile(bench, what, work)
    bench.write()


def _row(bench: Benchmark, work: str, seconds: float, floor: float) -> None:
    bench.row(**{"work": work, "seconds": seconds, "floor": floor, "times the floor": seconds / floor})


def _profile(bench: Benchmark, what: str, work: Callable[[], object]) -> None:
    gpu = bench.device.type == "cuda"
    with full_precision():
        work()
        with profile(activities=[ProfilerActivity.CPU] + [ProfilerActivity.CUDA] * gpu) as seen:
            work()
            bench.wait()
    of = "self_device_time_total" if gpu else "self_cpu_time_total"
    events = sorted(seen.key_averages(), key=lambda event: -getattr(event, of))
    total = sum(getattr(event, of) for event in events)
    for event in events[:TOP]:
        bench.row(work=f"{what}: {event.key[:60]}", share=getattr(event, of) / total)


if __name__ == "__main__":
    main()
