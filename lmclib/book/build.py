"""Building the book: run what changed through papermill, then render one offline site."""

from pathlib import Path

from lmclib.book.chapters import find_chapters, page_names
from lmclib.book.execute import execute_all
from lmclib.book.site import lay_out, render
from lmclib.errors import LmcError
from lmclib.locks import locked
from lmclib.root import RUNS, from_root

BUILD = "_build"  # from the repository's root
PDF = "book.pdf"  # in it


def build(profile: str = "digits", output: str | Path = BUILD, store: str | Path = RUNS, pdf: bool = False) -> Path:
    """Execute the chapters that changed, render the site, and return its first page.

    Two builds of one folder wait for each other; until a site is whole the folder has the one before.

    Args:
        profile: the scale at which chapters run.
        output: the folder that receives `html/` and keeps executed chapters.
        store: where runs are remembered.
        pdf: whether to print the site as one file, too, `book.pdf` beside `html/`.

    Raises:
        LmcError: a chapter failed (its notebook is then in `reports/`), the site has a warning, or the folder cannot be written to.
    """
    output = from_root(output)
    parameters = {"profile": profile, "store": str(store)}
    with locked(output / "build.lock", f"building the book in {output}"):
        try:
            chapters = find_chapters(parameters, output / "executed")
            execute_all(chapters, parameters)
            lay_out(chapters, output / "stage")
            render(output / "stage", output)
            if pdf:
                from lmclib.book.pdf import print_pdf  # its packages only when asked for

                print_pdf(output / "html", page_names(), output / PDF)
        except OSError as error:
            said = error.strerror or error
            raise LmcError(
                f"output={str(output)!r}: the book cannot be built there ({said}); make room, or give another"
            ) from None
    return output / "html" / "index.html"
