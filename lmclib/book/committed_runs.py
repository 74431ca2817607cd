"""The runs of a chapter that are committed at a profile: its own, and those with other parameters beside it."""

from pathlib import Path

from lmclib.store.results import committed_results

BESIDE = "@"  # between a chapter's name and that of a run with other parameters


def runs(chapter: str, profile: str) -> list[str]:
    """A chapter's own run, by its name and whether it is committed or not, then the committed ones beside it, as `chapter@name`."""
    beside = (committed_results() / "chapters" / profile).glob(f"{chapter}{BESIDE}*.json")
    return [chapter, *sorted(path.stem for path in beside)]


def run_name(chapter: str, beside: str = "") -> str:
    """What a run is called.

    Example:
        >>> run_name("forking"), run_name("forking", "float32")
        ('forking', 'forking@float32')
    """
    return f"{chapter}{BESIDE}{beside}" if beside else chapter


def named_run(run: str) -> tuple[str, str]:
    """The chapter of a run, and its name beside the chapter's own; empty for that one.

    Example:
        >>> named_run("forking"), named_run("forking@float32")
        (('forking', ''), ('forking', 'float32'))
    """
    chapter, _, beside = run.partition(BESIDE)
    return chapter, beside


def summary_path(run: str, profile: str) -> Path:
    """Where it is written down what is committed of a run."""
    return committed_results() / "chapters" / profile / f"{run}.json"
