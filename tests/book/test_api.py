"""The library's page has every public name, and says what its docstring says."""

import lmclib
from lmclib.book.api import library_page


def test_every_public_name_has_a_section_and_code_is_fenced():
    page = library_page()
    for name in lmclib.PUBLIC:
        assert f"\n### {name}\n" in page
    assert page.count("```") % 2 == 0
    assert ">>> " in page


def test_signatures_entries_and_definitions_are_there():
    page = library_page()
    section = page.split("### barrier_curve")[1].split("### ")[0]
    assert "barrier_curve(cube: LayerCube, alphas: int | Sequence[float]=25) -> pd.DataFrame" in section
    assert "The barrier curve $B(\\alpha)" in section
    assert "- `cube`: the layer cube between two models." in section
    assert "**Source**" in section
    assert "- `.gradient`:" in page.split("### LayerCube")[1].split("### ")[0]
