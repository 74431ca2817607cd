"""The book as one PDF: every page's title, numbers that go on, links that stay inside."""

import pytest
from pypdf import PdfReader

from lmclib.book import pdf
from lmclib.errors import LmcError

NAMES = ("preface", "toy_barriers", "status")


def test_pages_are_printed_one_after_the_other(book, tmp_path):
    before = sorted((book / "html" / "book").iterdir())
    pdf.print_pdf(book / "html", NAMES, tmp_path / "book.pdf")
    assert sorted((book / "html" / "book").iterdir()) == before
    read = PdfReader(tmp_path / "book.pdf")
    assert len(read.pages) > len(NAMES)
    titles = [item.title for item in read.outline]
    assert titles == ["Linear mode connectivity", "1. How a barrier arises", "Status of this copy"]
    starts = [read.get_destination_page_number(item) for item in read.outline]
    assert starts[0] == 0
    for title, start in zip(titles, starts, strict=True):
        text = read.pages[start].extract_text()
        assert title in text
        assert text.startswith(str(start + 1)), "page numbers do not go on"
    assert any("which is how Landscaping" in page.extract_text() for page in read.pages)


def test_links_lead_into_the_file_and_none_to_a_file_of_this_machine(book, tmp_path):
    pdf.print_pdf(book / "html", NAMES[::2], tmp_path / "book.pdf")
    read = PdfReader(tmp_path / "book.pdf")
    notes = [note.get_object() for page in read.pages for note in page.get("/Annots", [])]
    assert not [note for note in notes if "file:" in str(note.get("/A", ""))]
    (start,) = (read.get_destination_page_number(item) for item in read.outline[1:])
    inside = [note["/Dest"][0].indirect_reference for note in notes if "/P" in note]  # a browser's own name an anchor
    assert read.pages[start].indirect_reference in inside


def test_without_a_browser_it_says_what_is_needed(tmp_path, monkeypatch):
    monkeypatch.setattr(pdf, "BROWSERS", ("no-such-browser",))
    with pytest.raises(LmcError, match="pdf: needs one of no-such-browser to print with"):
        pdf.print_pdf(tmp_path, NAMES, tmp_path / "book.pdf")
