"""Where a result comes from: machine, packages, commit, date and seconds."""

import os
import platform
import subprocess
from datetime import UTC, datetime
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import torch

PACKAGES = ("torch", "torchvision", "numpy", "pandas")


def provenance(seconds: float) -> dict[str, object]:
    """What made a result, now and here: `hardware`, `gpu` (whether one computed), `packages`, `commit`, `date` and `seconds`.

    Example:
        >>> provenance(1.5)["seconds"]
        1.5
    """
    return {
        "hardware": hardware(),
        "gpu": torch.cuda.is_available(),
        "packages": packages(),
        "commit": _commit(),
        "date": datetime.now(UTC).date().isoformat(),
        "seconds": round(seconds, 3),
    }


def hardware() -> str:
    """The GPU's name where there is one, else the processor's kind and how many threads are used."""
    if torch.cuda.is_available():
        return torch.cuda.get_device_name()
    threads = torch.get_num_threads()
    return f"CPU ({platform.machine()}), {threads} thread{'s' if threads > 1 else ''}"


@cache
def packages() -> dict[str, str]:
    """The versions of Python and of the packages that numbers depend on."""
    found = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "absent"
    return found


@cache
def _commit() -> str:
    """The commit of this code; `LMC_COMMIT` says it where the code travelled without its history."""
    if "LMC_COMMIT" in os.environ:
        return os.environ["LMC_COMMIT"]
    git = ["git", "-C", str(Path(__file__).parent)]
    try:
        head = subprocess.run([*git, "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=True)
        changed = subprocess.run([*git, "diff", "--quiet", "HEAD", "--", "."], check=False).returncode
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return head.stdout.strip() + (" with changes" if changed else "")
