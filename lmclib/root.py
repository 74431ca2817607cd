"""Where the repository is: relative paths of stores, results and chapters are meant from its root, wherever a process was started."""

from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
RUNS, RESULTS = "data/runs", "data/results"  # what is computed, and what of it is committed


def from_root(path: str | Path) -> Path:
    """A path as it is meant: relative ones from the repository's root, `~` as the home folder.

    Example:
        >>> from_root("data/runs").relative_to(ROOT).as_posix()
        'data/runs'
    """
    return ROOT / Path(path).expanduser()
