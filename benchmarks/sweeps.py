"""Sweeps on worker processes of this machine: what several gain over one, what scheduling and the store cost, what a million runs would need.

Throughput is from the first start to the last stop by the notes of Dask's scheduler. The store's share is time of the thread that writes, over
that of the whole process, and the time for which training waited for it. Simulated jobs do nothing: what they take is scheduling.
"""

import os
import tempfile
import time
from pathlib import Path

import joblib
import pandas as pd
import psutil
from harness import Benchmark

import lmclib as lmc
from lmclib.book.measuring import measure
from lmclib.book.timed_sweep import READY, efficiency, timed_sweep
from lmclib.files import read_json
from lmclib.networks.stacked import MEMBERS
from lmclib.runs.workers import Workers
from lmclib.store.dry_run import dry_run
from lmclib.store.results import committed_results
from lmclib.store.store import Store
from lmclib.store.writer import BackgroundWriter

MILLION = 1_000_000
CHAPTER = "resnet_forking"  # whose tables of real images are committed


def main() -> None:
    """Print the table."""
    bench = Benchmark("sweeps", "sweeps on worker processes", {"what": 66, "value": 10, "unit": 16, "wanted": 10})
    bench.row(what="load of the machine at the start, last minute", value=os.getloadavg()[0], unit="processes")
    bench.row(what="cores", value=joblib.cpu_count(), unit="")
    seconds = throughput(bench)
    size, files = store_share(bench)
    remembered(bench)
    per_job, memory = scheduling(bench)
    jobs = 1 / MEMBERS + 0.5  # a run's part of a full stack, and half a measurement: two siblings are measured once
    on_paper = {
        "one scheduler's time": (jobs * MILLION * per_job / 3600, "hours"),
        "one scheduler's memory": (jobs * MILLION * memory / 1e9, "GB"),
        "workers that one scheduler feeds with such runs": (seconds / per_job / jobs, "workers"),
        "the store": (MILLION * size / 1e9, "GB"),
        "files in the store": (MILLION * files / 1e6, "million"),
        "their training, a thousand workers": (MILLION * seconds / 1000 / 3600, "hours"),
        "bandwidth to the store, a thousand workers": (1000 * size / seconds / 1e6, "MB/s"),
        "new files in the store, a thousand workers": (1000 * files / seconds, "per second"),
    }
    for what, (value, unit) in on_paper.items():
        bench.row(what=f"on paper, a million runs: {what}", value=value, unit=unit)
    bench.write()


def throughput(bench: Benchmark) -> float:
    """What several workers gain over one: they take turns, as machines get slower and faster. Returns the seconds of a run."""
    fork = {"model": "resnet8-w4", "data": "digits", "epochs": 1 if bench.quick else 6, "fork_epochs": [0, 0.5]}
    seeds = 1 if bench.quick else 2
    said = {"fork": fork, "grid": {"lr": [0.1, 0.05], "seed": [*range(seeds)]}, "measure": "barrier_curve"}
    numbers = sorted({1, 2, *([joblib.cpu_count()] if joblib.cpu_count() > 2 else [])})
    turns = [{n: timed_sweep(said, n)[1] for n in numbers} for _ in range(bench.rounds)]
    gained = pd.concat(map(efficiency, turns)).groupby("workers")
    for n, row in gained.median().iterrows():
        low, high = gained.speed_up.min()[n], gained.speed_up.max()[n]
        times = f"{row.jobs:.0f} jobs in {row.seconds:.0f} s, busy {row.busy:.0%}, {low:.2f} to {high:.2f} in {len(turns)} turns"
        what = f"throughput of {n} workers over one's, {times}"
        bench.row(what=what, value=row.speed_up, unit="", wanted=f">= {0.8 * n:.2g}")
    trained = pd.concat([timings[1][timings[1].kind == "child"] for timings in turns])
    runs = 2 * len(fork["fork_epochs"]) * len(said["grid"]["lr"]) * seeds * len(turns)  # a job has several
    return float((trained.stop - trained.start).sum() / runs)


def store_share(bench: Benchmark) -> tuple[float, float]:
    """What writing takes beside training a forking experiment of the book; returns bytes and files a run."""
    spec = lmc.fork_specs(lmc.parameters({"profile": "smoke" if bench.quick else "digits"}, lmc.FORKING))[0]
    spent = {"writing": 0.0, "waiting": 0.0}
    do, finish = BackgroundWriter._do, BackgroundWriter.finish

    def timed_do(self, work, *arguments):
        start = time.thread_time()
        do(self, work, *arguments)
        spent["writing"] += time.thread_time() - start

    def timed_finish(self):
        start = time.perf_counter()
        finish(self)
        spent["waiting"] += time.perf_counter() - start

    BackgroundWriter._do, BackgroundWriter.finish = timed_do, timed_finish
    try:
        with tempfile.TemporaryDirectory() as folder:
            processor, wall = time.process_time(), time.perf_counter()
            family = lmc.fork(spec, folder, progress=False)
            processor, wall = time.process_time() - processor, time.perf_counter() - wall
            written = [path for path in Path(folder).rglob("*") if path.is_file()]
            size = sum(path.stat().st_size for path in written)
    finally:
        BackgroundWriter._do, BackgroundWriter.finish = do, finish
    runs = 1 + spec.siblings * len(family.fork_epochs)
    what = f"the store's share of training {spec.model}, {runs} runs"
    bench.row(
        what=f"{what}: processor time of its thread", value=100 * spent["writing"] / processor, unit="%", wanted="<= 2"
    )
    bench.row(what=f"{what}: training waited", value=100 * spent["waiting"] / wall, unit="%", wanted="<= 2")
    bench.row(what="a run in the store", value=size / runs / 1e3, unit="kB")
    bench.row(what="files of a run", value=len(written) / runs, unit="")
    return size / runs, len(written) / runs


def remembered(bench: Benchmark) -> None:
    """What a chapter takes to find its tables, all of them committed, and to come to its verdicts."""
    given, loads = read_json(committed_results() / f"chapters/cifar/{CHAPTER}.json")["given"], []
    table = Store.table

    def timed_table(*of):
        start = time.perf_counter()
        found = table(*of)
        loads.append(time.perf_counter() - start)
        return found

    def look() -> None:
        loads.clear()
        with dry_run():
            measure(CHAPTER, {"profile": "cifar", **given})

    Store.table = timed_table
    try:
        whole = bench.seconds(look)
    finally:
        Store.table = table
    bench.row(what=f"{len(loads)} tables of {CHAPTER}, remembered: loaded", value=sum(loads), unit="s", wanted="<= 1")
    bench.row(what="put together, and come to verdicts", value=whole, unit="s")


def scheduling(bench: Benchmark) -> tuple[float, float]:
    """Seconds a job that does nothing, and bytes of the scheduler's memory."""
    families = 20 if bench.quick else 2000
    with Workers(min(2, joblib.cpu_count())) as workers:
        workers.client.wait_for_workers(workers.n, timeout=READY)
        list(workers.finished({workers.submit("parent", _nothing): None}))  # by then all have loaded the library
        before = workers.client.run_on_scheduler(_memory)
        start, jobs = time.perf_counter(), {}
        for _ in range(families):
            parent = workers.submit("parent", _nothing)
            children = [workers.submit("child", _nothing, after=[parent]) for _ in range(2)]
            measured = [workers.submit("measure", _nothing, after=children, priority=1) for _ in range(2)]
            jobs.update(dict.fromkeys([parent, *children, *measured]))
        sent = time.perf_counter() - start
        for _ in workers.finished(jobs):
            pass
        per_job = (time.perf_counter() - start) / len(jobs)
        memory = (workers.client.run_on_scheduler(_memory) - before) / len(jobs)
    what = f"scheduling of {len(jobs):,} simulated jobs, a parent with two children and two measurements each"
    bench.row(what=what, value=1000 * per_job, unit="ms a job", wanted="<= 5")
    bench.row(what="of which handing them in", value=1000 * sent / len(jobs), unit="ms a job")
    bench.row(what="the scheduler's memory", value=memory / 1e3, unit="kB a job")
    return per_job, memory


def _nothing() -> None:
    """A run that is only simulated."""


def _memory() -> int:
    return psutil.Process().memory_info().rss


if __name__ == "__main__":
    main()
