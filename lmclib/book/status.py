"""The status page: how each chapter of this copy came about, at every scale that it shows, and which packages made it."""

import os
import platform
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from importlib.metadata import version

from lmclib.book.chapters import Chapter, chapter_names
from lmclib.book.committed_runs import named_run, runs, summary_path
from lmclib.book.ledger import parts_in, rows
from lmclib.book.profiles import COMMITTED
from lmclib.files import read_json

PACKAGES = ("torch", "torchvision", "numpy", "altair", "jupyter-book", "sphinx")
HEAD = ("| chapter | scale | seconds | seeds | claims judged | date |", "| --- | --- | ---: | ---: | ---: | --- |")
NONE = "–"


def status_page(chapters: Sequence[Chapter]) -> str:
    """The page, as Markdown.

    Args:
        chapters: all chapters, executed: their own records say with which parameters, when, and for how long they ran.
    """
    records = {chapter.name: read_json(chapter.executed)["metadata"]["papermill"] for chapter in chapters}
    given = next(iter(records.values()))["parameters"]
    judged = rows(given["store"], given["profile"])
    lines = [
        _line(name, given["profile"], _of_run(records[name]), judged) for name in chapter_names() if name in records
    ]
    lines += [
        _line(run, scale, _of_summary(read_json(path)), judged)
        for scale in COMMITTED
        for name in chapter_names()
        for run in runs(name, scale)
        if scale != given["profile"] and (path := summary_path(run, scale)).exists()
    ]
    return "\n".join(
        [
            "# Status of this copy",
            "",
            f"Built at profile `{given['profile']}` on {max(record['start_time'] for record in records.values())[:10]} with Python "
            f"{platform.python_version()}, {', '.join(f'{name} {version(name)}' for name in PACKAGES)}; "
            f"{platform.system()} on {platform.machine()} with {os.cpu_count()} cores, {_accelerator()}.",
            "",
            "Seconds are those of the chapter's last run, for which networks and tables may have been remembered; at committed scales, those of all training and measuring. "
            f"Seeds are as many as the chapter's rows of the [ledger](ledger.ipynb) have at most; {NONE} stands where there are none.",
            "",
            *HEAD,
            *lines,
            "",
        ]
    )


def _line(run: str, scale: str, took: tuple[float, str], judged: Sequence[Mapping[str, object]]) -> str:
    name, beside = named_run(run)
    own = [row for row in judged if (row["chapter"], row["profile"], row.get("run", "")) == (name, scale, beside)]
    seeds = max((len(part.values) for row in own for part in parts_in(row) if not part.exact), default=NONE)
    seconds, date = took
    at = f"{scale}, {beside}" if beside else scale
    return (
        f"| [{name.replace('_', ' ')}]({name}.ipynb) | {at} | {seconds:,.0f} | {seeds} | {len(own) or NONE} | {date} |"
    )


def _of_run(record: Mapping[str, object]) -> tuple[float, str]:
    return record["duration"], record["start_time"][:10]


def _of_summary(summary: Mapping[str, object]) -> tuple[float, str]:
    return summary["training_seconds"] + summary["measuring_seconds"], max(summary["dates"])


def _accelerator() -> str:
    """The GPU's name by its own driver: asking PyTorch would cost seconds at every build."""
    if (driver := shutil.which("nvidia-smi")) is None:
        return "no GPU"
    asked = [driver, "--query-gpu=name", "--format=csv,noheader"]
    said = subprocess.run(asked, capture_output=True, text=True, check=False).stdout.strip()
    return said.splitlines()[0] if said else "no GPU"
