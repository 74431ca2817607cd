"""Faults, counted: kills, damaged files, many who want the same, a dead worker, hostile files. `make faults` runs all of them in full.

Each function below makes so many faults in a folder of its own, fails where one does harm, and says what it found. Tests run a few of
each (`test_faults.py`).
"""

import argparse
import json
import multiprocessing
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from itertools import groupby
from pathlib import Path

import pandas as pd
import psutil
import pytest
from disks import fill, small_disk
from distributed import Client
from hostile import AT, hostile_bundles, hostile_checkpoints, named
from tagged import until

import lmclib as lmc
from lmclib.book.sweep import Swept
from lmclib.book.sweep_spec import sweep_of
from lmclib.errors import LmcError
from lmclib.files import write_text
from lmclib.processes import ChildProcesses
from lmclib.provenance import provenance
from lmclib.root import ROOT
from lmclib.runs import plan
from lmclib.runs.workers import current_workers, side_by_side
from lmclib.store import store as storing
from lmclib.store.bundle import import_bundle
from lmclib.store.inventory import damaged_files
from lmclib.store.store import Store
from lmclib.store.tables import Answer
from lmclib.terminal import print_table

LONG = lmc.ForkSpec(
    model="mlp-16-16",
    fork_epochs=(0, 2),
    recipe=lmc.Recipe(epochs=30, milestones=(15,)),
    checkpoint_epochs=(3, 10, 20, 30),
)
SHORT = lmc.ForkSpec(model="mlp-8", fork_epochs=(0, 1), recipe=lmc.Recipe(epochs=2, batch_size=128, milestones=(1,)))
PLACE = "resume"
COUNTED = ROOT / "data" / "results" / "scaling_out.faults.json"  # which the chapter on scaling out shows
PAGE = 4096  # bytes, of which a file in memory takes whole ones
SLOW = 300  # seconds after which a process is taken to hang


def context() -> multiprocessing.context.BaseContext:
    """Processes that start at once, as all that is heavy is loaded before they begin."""
    processes = multiprocessing.get_context("forkserver")
    processes.set_forkserver_preload(["warmed", "faults"])
    return processes


def measured(specs: list[lmc.ForkSpec], store: Path) -> pd.DataFrame:
    """Train and measure some experiments."""
    families = lmc.fork_all(specs, store, progress=False)
    pairs = lmc.sibling_pairs(families, epochs=(-1,))
    return lmc.over_pairs(pairs, lmc.barrier_curve, progress=False, alphas=3)


def content(store: Path) -> dict[str, bytes]:
    """All that decides results in a store; where and when it was made is another matter."""
    return {name: (store / name).read_bytes() for name in names(store)}


def names(store: Path) -> list[str]:
    """The files that are meant, of which none need be there still."""
    kept = [path for path in store.rglob("*") if path.suffix in (".safetensors", ".parquet")]
    return [path.relative_to(store).as_posix() for path in kept]


def finished(store: Path) -> set[str]:
    """The files of a store that stay."""
    return {name for name in names(store) if not Path(name).name.startswith(PLACE)}


def train_noting_places(spec: lmc.ForkSpec, store: Path, begun: object) -> None:
    """Train, writing down at every epoch where it is."""
    plan.RESUME_SECONDS = 1e-9

    def progress(done: int, total: int) -> None:
        begun.set()

    family = lmc.fork(spec, store, progress=progress)
    begun.set()
    lmc.over_pairs(lmc.sibling_pairs([family], epochs=(-1,)), lmc.barrier_curve, progress=False, alphas=3)


def kills(n: int, folder: Path, seed: int = 0) -> str:
    """Kill a training run at random moments, again and again; each ends with the bits of an unbroken one."""
    rng, processes, done, runs = random.Random(seed), context(), 0, 0
    while done < n:
        spec, broken, whole = LONG.model_copy(update={"seed": runs}), folder / f"broken{runs}", folder / f"whole{runs}"
        start = time.monotonic()
        measured([spec], whole)
        span = time.monotonic() - start
        stored, over = set(), False
        while not over:
            begun = processes.Event()
            process = processes.Process(target=train_noting_places, args=(spec, broken, begun))
            process.start()
            assert begun.wait(SLOW), "did not begin"
            # several moments a run, the last ones among them; once there are enough kills it may end
            process.join(rng.uniform(0, span / 3) if done < n else SLOW)
            over = process.exitcode is not None
            if not over:
                process.kill()
                process.join()
                done += 1
            assert process.exitcode in (0, -signal.SIGKILL), process.exitcode
            assert damaged_files(broken)[1] == []
            assert stored <= finished(broken), "what was stored is gone"
            stored = finished(broken)
        assert content(broken) == content(whole), "other bits than those of an unbroken run"
        runs += 1
    return f"{runs} runs ended bit for bit as unbroken ones; nothing that was stored was lost"


def _truncated(path: Path, rng: random.Random, others: list[Path]) -> None:
    path.write_bytes(path.read_bytes()[: rng.randrange(1, path.stat().st_size)])


def _flipped(path: Path, rng: random.Random, others: list[Path]) -> None:
    changed = bytearray(path.read_bytes())
    for at in rng.sample(range(len(changed)), rng.randint(1, 8)):
        changed[at] ^= 1 << rng.randrange(8)
    path.write_bytes(changed)


def _emptied(path: Path, rng: random.Random, others: list[Path]) -> None:
    path.write_bytes(b"")


def _swapped(path: Path, rng: random.Random, others: list[Path]) -> None:
    path.write_bytes(rng.choice([one for one in others if one.name != path.name]).read_bytes())


def _longer(path: Path, rng: random.Random, others: list[Path]) -> None:
    path.write_bytes(path.read_bytes() + rng.randbytes(rng.randint(1, 100)))


DAMAGES = (_truncated, _flipped, _emptied, _swapped, _longer)


def damaged(n: int, folder: Path, seed: int = 0) -> str:
    """Damage one file of a store at a time: each is found by `store verify`, and counts as missing when it is read."""
    rng, whole = random.Random(seed), folder / "whole"
    measured([SHORT], whole)
    files = sorted(path for path in whole.rglob("*") if path.suffix in (".safetensors", ".parquet"))
    before, kinds = content(whole), Counter()
    for i in range(n):
        path, how = rng.choice(files), DAMAGES[i % len(DAMAGES)]
        kinds[how.__name__.strip("_")] += 1
        good = path.read_bytes()
        how(path, rng, [one for one in files if one.suffix == path.suffix])
        (found,) = damaged_files(whole)[1]
        assert whole / found["path"] == path
        with warnings.catch_warnings(record=True) as said:
            warnings.simplefilter("always")
            if path.suffix == ".safetensors":
                assert Store(whole).load_state(path.parent.name, path.name.split(".")[0]) is None, "read as good"
            else:
                assert Answer.within(path.parent) is None, "read as good"
        assert ["is damaged" in str(one.message) for one in said] == [True]
        path.with_name(f"{path.name}.damaged").unlink()
        path.write_bytes(good)
    assert content(whole) == before
    return f"all detected, 0 read as good ({', '.join(f'{k} {name}' for name, k in kinds.items())})"


def ask(specs: list[lmc.ForkSpec], store: Path, log: Path, go: object) -> None:
    """Want some runs and tables, and write down which files this process makes."""
    write = storing.write_addressed

    def noted(folder: Path, name: str, suffix: str, how: Callable) -> None:
        write(folder, name, suffix, how)
        with log.open("a") as file:
            file.write(f"{folder.name}/{name}\n")

    storing.write_addressed = noted
    go.wait()
    measured(specs, store)


def asked_at_once(n: int, folder: Path, seeds: int = 4) -> str:
    """Have many processes ask for the same runs at once: each file is made once, by one of them."""
    processes, log = context(), folder / "log"
    log.touch()
    go = processes.Barrier(n)
    specs = [SHORT.model_copy(update={"seed": seed}) for seed in range(seeds)]
    askers = [processes.Process(target=ask, args=(specs, folder / "store", log, go)) for _ in range(n)]
    for one in askers:
        one.start()
    for one in askers:
        one.join(SLOW)
        assert one.exitcode == 0
    made = Counter(line for line in log.read_text().splitlines() if not line.endswith(f"/{PLACE}"))
    assert set(made.values()) == {1}, "made twice"
    assert len(made) == len(finished(folder / "store"))
    measured(specs, folder / "alone")
    assert content(folder / "store") == content(folder / "alone")
    return f"{seeds} families, {len(made)} checkpoints and tables: each made once"


def sweep(epochs: int, seeds: int) -> dict:
    """A sweep over rates and seeds."""
    fork = {"model": "mlp-8", "epochs": epochs, "fork_epochs": [0, 1], "milestones": [2]}
    measure = {"name": "barrier_curve", "options": {"alphas": 3}}
    return {"fork": fork, "grid": {"lr": [0.1, 0.05], "seed": [*range(seeds)]}, "measure": measure}


def worker_killed(n: int, folder: Path, workers: int = 3, seeds: int = 3, epochs: int = 8) -> str:
    """Kill workers in the middle of a sweep: it is complete, and the same as in one process."""
    said = sweep_of(sweep(epochs, seeds))
    alone = Swept(said, folder / "alone", folder).run(progress=False)
    swept, killed = Swept(said, folder / "store", folder), []
    total = len(finished(folder / "alone"))

    def kill(pids: dict[str, int]) -> None:
        for k, pid in enumerate([*pids.values()][:n], 1):
            stop = time.monotonic() + SLOW
            while len(finished(folder / "store")) < k * total / (n + 1) and time.monotonic() < stop:
                time.sleep(0.02)
            if psutil.pid_exists(pid):
                os.kill(pid, signal.SIGKILL)
                killed.append(len(finished(folder / "store")))

    with once_each(folder / "store", folder / "alone"), side_by_side(workers):
        client = current_workers().client
        client.wait_for_workers(workers, timeout=SLOW)
        killer = threading.Thread(target=kill, args=(client.run(os.getpid),))
        killer.start()
        table = swept.run(progress=False)
        killer.join()
    assert len(killed) == n
    assert killed[-1] < total, "killed after its end"
    pd.testing.assert_frame_equal(table, alone)
    assert content(folder / "store").keys() >= content(folder / "alone").keys()
    assert {k: v for k, v in content(folder / "store").items() if k in finished(folder / "alone")} == content(
        folder / "alone"
    )
    runs = len(swept.points) * 5
    return f"{runs} runs on {workers} workers, killed with {', '.join(map(str, killed))} of {total} files there: complete, equal to one process, nothing trained twice to its end"


def scheduler_killed(n: int, folder: Path, workers: int = 2, seeds: int = 3, epochs: int = 8, own: int = 2) -> str:
    """Kill a scheduler that was started by hand in the middle of a sweep: one line says so, and the next start goes on.

    Args:
        n: how many, each with a sweep of its own.
        folder: of all of them.
        workers: of the cluster.
        seeds: of the sweep, at two rates.
        epochs: of its runs.
        own: workers of the next start, which begins at once; 1 is this process alone.
    """
    said = sweep_of(sweep(epochs, seeds))
    alone = Swept(said, folder / "alone", folder).run(progress=False)
    total, killed, waited = len(finished(folder / "alone")), [], []
    for k in range(n):
        store = folder / f"store{k}"
        with ChildProcesses() as processes, once_each(store, folder / "alone"):
            found, scheduler = cluster(processes, folder / f"dask{k}", workers)

            def kill(process: subprocess.Popen = scheduler, store: Path = store, k: int = k) -> None:
                stop = time.monotonic() + SLOW
                while len(finished(store)) < (k + 1) * total / (n + 1) and time.monotonic() < stop:
                    time.sleep(0.02)
                process.kill()
                killed.append((len(finished(store)), time.monotonic()))

            killer = threading.Thread(target=kill)
            killer.start()
            with pytest.raises(LmcError, match="is gone; what was stored is kept") as error, side_by_side(1, found):
                Swept(said, store, folder).run(progress=False)
            waited.append(time.monotonic() - killed[-1][1])
            assert "\n" not in str(error.value)
            assert damaged_files(store)[1] == []
            assert killed[-1][0] < total, "killed after its end"
            with side_by_side(own):
                table = Swept(said, store, folder).run(progress=False)
        pd.testing.assert_frame_equal(table, alone)
        kept = content(store)
        assert {name: kept[name] for name in finished(folder / "alone")} == content(folder / "alone")
    there = ", ".join(str(files) for files, _ in killed)
    return f"said within {max(waited):.1f} s, with {there} of {total} files there; the next start: complete, equal to one process, nothing trained twice to its end"


def cluster(processes: ChildProcesses, folder: Path, workers: int, *more: str) -> tuple[Path, subprocess.Popen]:
    """A cluster as somebody starts it by hand: its scheduler file, and the process of its scheduler."""
    found, dask = folder / "scheduler.json", [sys.executable, "-m", "dask"]
    meeting = ["--scheduler-file", str(found), "--host", "127.0.0.1", "--no-dashboard"]
    environment = {**os.environ, "DASK_LOGGING__DISTRIBUTED": "critical", "PYTHONPATH": str(ROOT)}
    folder.mkdir()
    # its guard, with which it ends at once
    scheduler = processes.start([*dask, "scheduler", *meeting, "--port", "0"], env=environment)
    size = ["--nworkers", str(workers), "--nthreads", "1", "--local-directory", str(folder)]
    until(found.exists, SLOW, "the scheduler is there")
    processes.start([*dask, "worker", *meeting, *size, *more], env=environment)
    with Client(scheduler_file=str(found)) as client:
        client.wait_for_workers(workers, timeout=SLOW)
    return found, scheduler


def ends(store: Path) -> set[str]:
    """The last checkpoint of each run, and each table."""
    return {max(group) for _, group in groupby(sorted(finished(store)), lambda name: Path(name).parent)}


@contextmanager
def once_each(store: Path, whole: Path) -> Iterator[None]:
    """Watch a store: no run may be trained to its end a second time, and no table measured.

    Args:
        store: what is watched.
        whole: another one, in which all is there.
    """
    last, seen, twice, over = ends(whole), {}, [], threading.Event()

    def watch() -> None:
        ended = False
        while not ended:  # and once more after the end: the last file may be younger than the last look
            ended = over.wait(0.02)
            for name in last:
                with suppress(FileNotFoundError):
                    node = (store / name).stat().st_ino
                    if seen.setdefault(name, node) != node:
                        twice.append(name)
                        seen[name] = node

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        yield
    finally:
        over.set()
        watcher.join()
    assert seen.keys() == last
    assert twice == [], "trained twice to its end"


def disk_full(n: int, folder: Path, seed: int = 0) -> str:
    """Let a small disk run full in the middle of a sweep, with ever more room: one line says so, and with room it goes on."""
    said, rng = sweep_of(sweep(2, 1)), random.Random(seed)
    alone = Swept(said, folder / "alone", folder).run(progress=False)
    whole, there = content(folder / "alone"), []
    pages = sum(-(-path.stat().st_size // PAGE) for path in (folder / "alone").rglob("*") if path.is_file())
    room = int(0.9 * PAGE * pages)  # not enough for all of it
    for k in range(n):
        with small_disk(folder / f"disk{k}", "2m") as disk:
            store, filler = disk / "store", fill(disk)
            os.truncate(filler, filler.stat().st_size - rng.randrange(k * room // n, (k + 1) * room // n))
            with pytest.raises(LmcError, match=r"cannot be written to \(.*No space left on device") as error:
                Swept(said, store, folder).run(progress=False)
            assert "\n" not in str(error.value)
            assert not [path for path in disk.rglob("*") if path.suffix in (".part", ".lock")], "a stray file"
            there.append(len(names(store)))
            assert damaged_files(store)[1] == []
            kept = finished(store)
            outlook = Swept(said, store, folder).outlook(progress=False)
            assert outlook.remembered_points < len(alone.lr.unique()) * len(alone.seed.unique())
            filler.unlink()
            with once_each(store, folder / "alone"):
                pd.testing.assert_frame_equal(Swept(said, store, folder).run(progress=False), alone)
            assert kept <= finished(store), "what was stored is gone"
            assert {name: (store / name).read_bytes() for name in whole} == whole
    return f"full with {min(there)} to {max(there)} files there: said in one line, no stray file, all of them whole; with room again: complete, the same bits"


def hostile(folder: Path) -> tuple[int, str]:
    """Import hostile bundles and read hostile checkpoints: each is refused in one line, nothing is written or run."""
    (folder / "bundles").mkdir()
    bundles = 0
    for what, path, expected in hostile_bundles(folder / "bundles"):
        with pytest.raises(LmcError) as said:
            import_bundle(path, folder / "store")
        assert expected in str(said.value), what
        assert "\n" not in str(said.value), what
        bundles += 1
    assert not (folder / "store").exists()
    checkpoints = hostile_checkpoints(folder / "touched")
    for what, planted in checkpoints.items():
        (folder / "store" / AT).mkdir(parents=True, exist_ok=True)
        (folder / "store" / AT / named(planted, "a", "safetensors")).write_bytes(planted)
        with warnings.catch_warnings(record=True) as said:
            warnings.simplefilter("always")
            assert Store(folder / "store").load_state(AT, "a") is None, what
        assert len(said) == 1, what
    assert not list(folder.rglob("touched"))
    return bundles + len(
        checkpoints
    ), f"{bundles} bundles and {len(checkpoints)} checkpoints refused; nothing written, nothing run"


def main() -> None:
    """Run all faults, and print a table."""
    parser = argparse.ArgumentParser(description="Faults, counted.")
    for name, count, what in (
        ("kills", 30, "SIGKILLs of a training run"),
        ("damaged", 200, "files to damage"),
        ("askers", 8, "processes that ask for the same runs"),
        ("workers", 1, "workers to kill in a sweep on three"),
        ("schedulers", 3, "schedulers to kill in a sweep on two workers"),
        ("disks", 10, "disks that are full in a sweep"),
    ):
        parser.add_argument(f"--{name}", type=int, default=count, metavar="N", help=f"{what}; {count} by default")
    parser.add_argument("--write", action="store_true", help=f"keep the table as {COUNTED.relative_to(ROOT)}")
    count = parser.parse_args()
    faults: dict[str, Callable[[Path], tuple[int, str]]] = {
        "SIGKILL while training": lambda folder: (count.kills, kills(count.kills, folder)),
        "damaged file": lambda folder: (count.damaged, damaged(count.damaged, folder)),
        "process that asks for the same runs": lambda folder: (count.askers, asked_at_once(count.askers, folder)),
        "worker killed in a sweep": lambda folder: (count.workers, worker_killed(count.workers, folder)),
        "scheduler killed in a sweep": lambda folder: (count.schedulers, scheduler_killed(count.schedulers, folder)),
        "disk full in a sweep": lambda folder: (count.disks, disk_full(count.disks, folder)),
        "hostile file": hostile,
    }
    rows = []
    for name, fault in faults.items():
        folder, start = Path(tempfile.mkdtemp(prefix="lmclib-faults-")), time.monotonic()
        try:
            n, found = fault(folder)
        except pytest.skip.Exception as error:  # no right to mount a disk, say
            n, found = 0, f"not tried: {error}"
        finally:
            shutil.rmtree(folder, ignore_errors=True)
        rows.append({"fault": name, "count": n, "found": found, "seconds": round(time.monotonic() - start, 1)})
        print(f"{name}: {n} in {rows[-1]['seconds']} s", flush=True)
        if count.write:  # what is counted so far
            made = {name: value for name, value in provenance(0).items() if name not in ("seconds", "gpu", "packages")}
            write_text(COUNTED, json.dumps({**made, "cores": os.cpu_count(), "rows": rows}, indent=1) + "\n")
    print_table(("fault", "count", "what came of it", "seconds"), [tuple(map(str, row.values())) for row in rows])


if __name__ == "__main__":
    import faults  # under its name, by which processes find what they run

    faults.main()
