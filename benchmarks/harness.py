"""What all benchmarks share: a device, fair timing, a table on the screen and the same as JSON beside the environment."""

import argparse
import gc
import json
import statistics
import time
import warnings
from collections.abc import Callable
from pathlib import Path

import torch

from lmclib.errors import LmcError
from lmclib.provenance import provenance

REPEATS, LONG = 3, 8.0
RESULTS = Path(__file__).parent / "results"
warnings.filterwarnings("ignore", category=FutureWarning)  # packages that call what PyTorch will drop


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
        self.name, self.columns, self.rows = name, columns, []
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
        made = {key: value for key, value in provenance(0).items() if key != "seconds"}
        text = json.dumps({"commit": made["commit"], "date": made["date"], "rows": self.rows}, indent=1)
        (folder / f"{self.name}.json").write_text(text + "\n")
        (folder / "environment.json").write_text(
            json.dumps({**made, "threads": torch.get_num_threads()}, indent=1) + "\n"
        )

    def seconds(self, work: Callable[[], object], warm_up: bool = True) -> float:
        """The median seconds of `REPEATS` runs of `work`, or of one that takes longer than `LONG`, after one that does not count."""
        times: list[float] = []
        if warm_up:
            work()
        while len(times) < (1 if self.quick or (times and times[0] > LONG) else REPEATS):
            gc.collect()
            self.wait()
            start = time.perf_counter()
            work()
            self.wait()
            times.append(time.perf_counter() - start)
        return statistics.median(times)

    def result(self, work: Callable[[], object]) -> tuple[float, object]:
        """The seconds of `work`, and what it returned."""
        kept = []
        return self.seconds(lambda: kept.append(work()), warm_up=False), kept[-1]

    def wait(self) -> None:
        """Wait until the device has done all that it was asked for."""
        if self.device.type == "cuda":
            torch.cuda.synchronize()


def _shown(value: object) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)
