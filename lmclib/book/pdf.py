"""The book as one PDF: every page of the site as a browser prints it, one after the other, with contents and links inside."""

import html
import re
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from urllib.parse import urlsplit

from pypdf import PdfReader, PdfWriter
from pypdf.annotations import Link
from pypdf.generic import Fit
from tqdm import tqdm

from lmclib.errors import LmcError
from lmclib.processes import ChildProcesses

# the first does no more than is needed here, and so takes less time
BROWSERS = ("chromium-headless-shell", "chromium", "chromium-browser", "google-chrome", "chrome")
PATIENCE = 5_000  # milliseconds of the page's own time, in which formulas are set and charts are drawn
FOOTER = "<style>@page {{ size: A4; @bottom-left {{ content: '{title}' }} @bottom-right {{ content: counter(page) }} }} html {{ counter-reset: page {before} }}</style>"
TITLE = re.compile(r"<title>(.*?)(?: &#8212; .*?| — .*?)?</title>", re.DOTALL)


def print_pdf(site: Path, names: Sequence[str], target: Path) -> None:
    """Print the pages of a rendered site, in order, as one file.

    Args:
        site: the folder of its HTML; each page gets a neighbour for as long as it is printed.
        names: the pages in `book/`, without their suffix.
        target: the file.

    Raises:
        LmcError: there is no browser to print with, or it failed.
    """
    browser = next((found for name in BROWSERS if (found := shutil.which(name))), None)
    if browser is None:
        raise LmcError(
            f"pdf: needs one of {', '.join(BROWSERS)} to print with; install one with the system's package manager"
        )
    book, starts = PdfWriter(), {}
    with TemporaryDirectory() as folder, ChildProcesses() as processes:
        for name in tqdm(names, desc="print pages", unit="page"):
            starts[name] = len(book.pages)
            title = _print_page(site / "book" / f"{name}.html", Path(folder, name), browser, starts[name], processes)
            book.append(PdfReader(Path(folder, name)), import_outline=False)
            book.add_outline_item(title=title, page_number=starts[name])
    _link_inside(book, starts)
    book.write(target)


def _print_page(page: Path, target: Path, browser: str, before: int, processes: ChildProcesses) -> str:
    """Print one page, whose numbers go on from the pages before it; returns its title."""
    text = page.read_text(encoding="utf-8")
    title = html.unescape(TITLE.search(text)[1].strip())
    shown = page.with_name(f".print-{page.name}")
    footer = FOOTER.format(title=title.replace("'", "’"), before=before)
    shown.write_text(text.replace("</head>", f"{footer}</head>", 1), encoding="utf-8")
    options = ["--headless", "--no-sandbox", "--disable-gpu", "--no-pdf-header-footer", "--hide-scrollbars"]
    try:
        done = processes.run(
            [browser, *options, f"--virtual-time-budget={PATIENCE}", f"--print-to-pdf={target}", shown.as_uri()],
            capture_output=True,
            text=True,
        )
    finally:
        shown.unlink()
    if done.returncode or not target.exists():
        said = (done.stderr.strip().splitlines() or ["no message"])[-1]
        raise LmcError(f"pdf: {browser} could not print {page.name} ({said})")
    return title


def _link_inside(book: PdfWriter, starts: Mapping[str, int]) -> None:
    """Lead links from page to page of the site to where these begin in the file, and take out what leads to a file of this machine."""
    for page in book.pages:
        kept, inside = [], []
        for note in page.get("/Annots", []):
            address = urlsplit(str(note.get_object().get("/A", {}).get("/URI", "")))
            if address.scheme != "file":
                kept.append(note)
            elif (name := Path(address.path).stem.removeprefix(".print-")) in starts:
                inside.append((note.get_object()["/Rect"], starts[name]))
        if "/Annots" in page:
            page["/Annots"].get_object().clear()
            page["/Annots"].get_object().extend(kept)
        for rectangle, start in inside:
            book.add_annotation(page, Link(rect=rectangle, target_page_index=start, fit=Fit.fit_horizontally()))
