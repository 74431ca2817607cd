"""Building the book: run what changed through papermill, then render one offline site."""

from pathlib import Path

from lmclib.book.chapters import find_chapters
from lmclib.book.execute import execute_all
from lmclib.book.site import lay_out, render
from lmclib.root import from_root
from lmclib.store.store import RUNS

BUILD = "_build"  # from the repository's root


def build(profile: str = "digits", output: str | Path = BUILD, store: str | Path = RUNS) -> Path:
    """Execute the chapters that changed, render the site, and return its first page.

    Args:
        profile: the scale at which chapters run.
        output: the folder that receives `html/` and keeps executed chapters.
        store: where runs are remembered.

    Raises:
        LmcError: a chapter failed (its notebook is then in `reports/`), or the site has a warning.
    """
    output = from_root(output)
    parameters = {"profile": profile, "store": str(store)}
    chapters = find_chapters(parameters, output / "executed")
    execute_all(chapters, parameters)
    lay_out(chapters, output / "stage", profile)
    render(output / "stage", output)
    return output / "html" / "index.html"
