"""The day Jupyter Book 1 is gone: plain Sphinx renders the same sources with the configuration that it writes down."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import nbformat.v4 as notebook
from bs4 import BeautifulSoup

from lmclib.root import ROOT

TOC = """
format: jb-book
root: book/first
parts:
  - caption: Chapters
    numbered: 1
    chapters: [{file: book/second}]
"""
FIRST = """
# First

{cite:p}`he2016deep`, {eq}`eq-one`, {prf:ref}`def-one`, [a chapter](second.ipynb), {term}`word`.

```{glossary}
word
  What it means.
```

```{bibliography}
```
"""
SECOND = """
# Second

$$x = 1$$ (eq-one)

:::{prf:definition} One
:label: def-one
It is $x$.
:::

:::{exercise} Try
:label: ex-one
Try.
:::

:::{solution} ex-one
Done.
:::
"""


def two_pages(folder: Path) -> None:
    """A book of two pages, with all kinds of what the chapters have, and this book's own configuration."""
    shutil.copy(ROOT / "_config.yml", folder)
    (folder / "_toc.yml").write_text(TOC)
    for name in ("_ext", "vendor"):
        shutil.copytree(
            ROOT / "book" / name, folder / "book" / name, ignore=shutil.ignore_patterns("*.min.js", "tex-*")
        )
    shutil.copy(ROOT / "book" / "references.bib", folder / "book")
    (folder / "book" / "first.md").write_text(FIRST)
    sentence = notebook.new_output("display_data", {"text/markdown": "It is 0.33, see {eq}`eq-one`."})
    said = notebook.new_code_cell("lmc.say()", outputs=[sentence], metadata={"tags": ["remove-input"]})
    cells = [notebook.new_markdown_cell(SECOND), said]
    (folder / "book" / "second.ipynb").write_text(notebook.writes(notebook.new_notebook(cells=cells)))


def test_plain_sphinx_renders_what_jupyter_book_configures(tmp_path):
    two_pages(tmp_path)
    asked = [[Path(sys.executable).with_name("jupyter-book"), "config", "sphinx", "."]]
    asked += [[sys.executable, "-m", "sphinx", "-W", "-n", "-q", "-b", "html", ".", "out"]]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), str(tmp_path / "book" / "_ext")])}
    for command in asked:
        done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
    texts = [
        BeautifulSoup((tmp_path / f"out/book/{name}.html").read_text(), "html.parser").find("article").get_text()
        for name in ("first", "second")
    ]
    assert "[He et al., 2016], (1.1), Definition 1.1, a chapter, word." in " ".join(texts[0].split())
    second = " ".join(texts[1].split())
    for said in ("1. Second", "Exercise 1.1 (Try)", "Solution to Exercise 1.1 (Try)", "It is 0.33, see (1.1)."):
        assert said in second
