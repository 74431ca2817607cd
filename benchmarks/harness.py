"""What all benchmarks share: a device, fair timing, a table on the screen and the same as JSON with what it was measured on."""

import argparse
import contextlib
import ctypes
import gc
import json
import math
import statistics
import time
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple

import torch

from lmclib.device import keep_freed_memory
from lmclib.errors import LmcError
from lmclib.provenance import provenance

ROUNDS = 3
RESULTS = Path(__file__).parent / "results"
warnings.filterwarnings("ignore", category=FutureWarning)  # packages that call what PyTorch will drop


class Timed(NamedTuple):
    """Seconds of a run, how much memory (GB) it wanted beyond what the process held before, and what it returned."""

    seconds: float
    memory: float = math.nan
    result: object = None


class Benchmark:
    """One run of a benchmark on one device: rows are printed as they come and written down at the end.

    Args:
        name: of the result file.
        what: the line above the table.
        columns: name and width of each column; numbers are right of it.
    """

    def __init__(self, name: str, what: str, columns: dict[str, int]):
        parser = argparse.ArgumentParser(description=what)
        parser.add_argument("--device", default="cpu", choices=("cpu", "cuda"))
        parser.add_argument(
            "--quick", action="store_true", help="a small piece of it, to see that it runs; nothing is written"
        )
        arguments = parser.parse_args()
        self.device, self.quick = torch.device(arguments.device), arguments.quick
        if self.device.type == "cuda" and not torch.cuda.is_available():
            raise SystemExit(str(LmcError("device='cuda': no CUDA GPU here; leave DEVICE out to measure the CPU")))
        if self.device.type == "cpu":
            keep_freed_memory()  # for every way, as in the book's own kernels
        self.name, self.columns, self.rows = name, columns, []
        self.rounds = 1 if self.quick else ROUNDS
        where = (
            torch.cuda.get_device_name() if self.device.type == "cuda" else f"CPU, {torch.get_num_threads()} threads"
        )
        print(f"\n{what} ({where}, torch {torch.__version__})")
        print(" ".join(f"{column:<{width}}" for column, width in columns.items()))

    def row(self, **values: object) -> None:
        """Print a row and keep it."""
        self.rows.append(values)
        print(
            " ".join(f"{_shown(values.get(column, '')):<{width}}" for column, width in self.columns.items()), flush=True
        )

    def write(self) -> None:
        """Write the rows, and what they were measured on, for those who have no such machine."""
        if self.quick:
            return
        folder = RESULTS / self.device.type
        folder.mkdir(parents=True, exist_ok=True)
        # each table has its own, as they are made on different days and machines
        made = {key: value for key, value in provenance(0).items() if key != "seconds"}
        text = json.dumps({**made, "rows": self.rows}, indent=1)
        (folder / f"{self.name}.json").write_text(text + "\n")
        (folder / "README.md").write_text(page(folder))

    def once(self, work: Callable[[], object]) -> Timed:
        """One run of `work`, which starts without memory that the process holds but does not use."""
        gc.collect()
        self.wait()
        _hand_memory_back()
        before = self._memory(reset=True)
        start = time.perf_counter()
        result = work()
        self.wait()
        return Timed(time.perf_counter() - start, self._memory() - before, result)

    def seconds(self, work: Callable[[], object]) -> float:
        """The median seconds of `ROUNDS` runs of `work`, after one that does not count."""
        work()
        return statistics.median(self.once(work).seconds for _ in range(self.rounds))

    def race(self, ways: Mapping[str, Callable[[], Timed]]) -> dict[str, Timed]:
        """The median seconds of each way, its most memory and its last result; they take turns, as machines get slower and faster."""
        turns = [{way: run() for way, run in ways.items()} for _ in range(self.rounds)]
        found = {way: [turn[way] for turn in turns] for way in ways}
        return {
            way: Timed(statistics.median(t.seconds for t in all_), max(t.memory for t in all_), all_[-1].result)
            for way, all_ in found.items()
        }

    def wait(self) -> None:
        """Wait until the device has done all that it was asked for."""
        if self.device.type == "cuda":
            torch.cuda.synchronize()

    def _memory(self, reset: bool = False) -> float:
        """The most memory in use since the last reset, GB; NaN where the system does not say."""
        if self.device.type == "cuda":
            if reset:
                torch.cuda.reset_peak_memory_stats()
            return torch.cuda.max_memory_allocated() / 1e9
        process = Path("/proc/self")
        if not process.exists():
            return math.nan
        if reset:
            (process / "clear_refs").write_text("5")  # the kernel's way to forget a process's peak
        peak = next(line for line in (process / "status").read_text().splitlines() if line.startswith("VmHWM"))
        return int(peak.split()[1]) / 1e6


def _hand_memory_back() -> None:
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    with contextlib.suppress(AttributeError, OSError, TypeError):  # another C library
        ctypes.CDLL(None).malloc_trim(0)


def page(folder: Path) -> str:
    """All results in a folder as Markdown tables, for people."""
    parts = ["# Results of `make bench`", "Written by the benchmarks; ratios are between ways of one run."]
    for path in sorted(folder.glob("*.json")):
        found = json.loads(path.read_text())
        columns = list(dict.fromkeys(column for row in found["rows"] for column in row))
        lines = [columns, ["---"] * len(columns)]
        lines += [[_shown(row.get(column, "")) for column in columns] for row in found["rows"]]
        made = f"{found['date']}, commit {found['commit']}; {found['hardware']}, PyTorch {found['packages']['torch']}."
        parts += [f"## {path.stem}", made]
        parts.append("\n".join(f"| {' | '.join(line)} |" for line in lines))
    return "\n\n".join(parts) + "\n"


def _shown(value: object) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)
