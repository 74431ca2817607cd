"""The bibliography holds what the chapters cite, no more and no less, and each entry can be found by its identifier."""

import json
import re

import pytest
from pybtex.database import parse_file

from lmclib.root import ROOT

BOOK = ROOT / "book"
ENTRIES = parse_file(str(BOOK / "references.bib")).entries


def cited() -> set[str]:
    notebooks = ("".join(cell["source"]) for p in BOOK.glob("*.ipynb") for cell in json.loads(p.read_text())["cells"])
    texts = [*notebooks, *(path.read_text() for path in BOOK.glob("*.md"))]
    roles = (keys for text in texts for keys in re.findall(r"\{cite(?::\w+)?\}`([^`]+)`", text))
    return {key.strip() for keys in roles for key in keys.split(",")}


def test_every_citation_has_an_entry_and_every_entry_is_cited():
    assert cited() == set(ENTRIES)


@pytest.mark.parametrize("key", ENTRIES)
def test_entries_are_named_and_found_by_rule(key):
    entry = ENTRIES[key]
    title = next(word for word in re.findall(r"\w+", entry.fields["title"].replace("{", "").replace("}", "")))
    author = entry.persons["author"][0].last_names[0]
    assert key == f"{author}{entry.fields['year']}{title}".lower()
    assert re.fullmatch(r"\d{4}\.\d{4,5}", entry.fields["eprint"])
    assert entry.fields["archiveprefix"] == "arXiv"
