"""The library's own page: every public name with its signature and docstring, as Markdown, read from the sources without importing them."""

import ast
import re
from collections.abc import Iterator
from functools import cache

import lmclib
from lmclib.root import ROOT

TITLES = {
    "errors": "Errors",
    "networks": "Networks",
    "data": "Data",
    "store": "The store",
    "training": "Training",
    "cube": "The layer cube",
    "runs": "Forking experiments",
    "measures": "Measures",
    "claims": "Claims and verdicts",
    "book": "Chapters",
    "merging": "Your own checkpoints",
}
SECTION = re.compile(r"(Args|Attributes|Returns|Raises|Source|Example):$")
ENTRY = re.compile(r"    (\*{0,2}\w+): (.*)")
LONGEST = 120  # characters of a constant's value that are shown


def library_page() -> str:
    """The page: a section a folder, in the order of the floors from below, and in it each public name."""
    lines = ["# The library", "", "Every name below is `lmc.NAME` after `import lmclib as lmc`.", ""]
    folder = None
    for name, file in lmclib.PUBLIC.items():
        if (top := file.split(".")[0]) != folder:
            folder = top
            lines += [f"## {TITLES[folder]}", ""]
        lines += [f"(lib-{name})=", f"### {name}", "", *_described(_definition(file, name)), ""]
    return "\n".join(lines)


@cache
def _module(file: str) -> ast.Module:
    return ast.parse((ROOT / "lmclib" / f"{file.replace('.', '/')}.py").read_text(encoding="utf-8"))


def _definition(file: str, name: str) -> ast.stmt:
    for node in _module(file).body:
        targets = node.targets if isinstance(node, ast.Assign) else [node]
        if name in [getattr(target, "name", getattr(target, "id", None)) for target in targets]:
            return node
    raise KeyError(f"{file} does not define {name}")


def _described(node: ast.stmt) -> Iterator[str]:
    if isinstance(node, ast.Assign):
        value = ast.unparse(node.value)
        yield from ("```python", f"{value[:LONGEST]}{'...' if len(value) > LONGEST else ''}", "```")
        return
    yield from ("```python", _signature(node), "```", "")
    yield from _as_markdown(ast.get_docstring(node) or "")
    if isinstance(node, ast.ClassDef):
        for method in node.body:
            if isinstance(method, ast.FunctionDef) and not method.name.startswith("_"):
                yield f"- `.{method.name}`: {(ast.get_docstring(method) or '').splitlines()[0]}"


def _signature(node: ast.FunctionDef | ast.ClassDef) -> str:
    if isinstance(node, ast.FunctionDef):
        back = f" -> {ast.unparse(node.returns)}" if node.returns else ""
        return f"{node.name}({ast.unparse(node.args)}){back}"
    for method in node.body:
        if isinstance(method, ast.FunctionDef) and method.name == "__init__":
            return f"{node.name}({ast.unparse(method.args).removeprefix('self, ')})"
    fields = [ast.unparse(field) for field in node.body if isinstance(field, ast.AnnAssign)]
    return f"{node.name}({', '.join(fields)})"


def _as_markdown(doc: str) -> Iterator[str]:
    """A docstring with its sections as bold words, its entries as a list, and its example as code."""
    section = None
    for line in doc.splitlines():
        if found := SECTION.match(line):
            if section == "Example":
                yield "```"
            section = found[1]
            yield from ("", f"**{section}**", "")
            if section == "Example":
                yield "```python"
        elif section == "Example":
            yield line.removeprefix("    ")
        elif section and (found := ENTRY.match(line)):
            yield f"- `{found[1]}`: {found[2]}"
        else:
            yield line.strip() if section is None or not line.startswith("        ") else f"  {line.strip()}"
    if section == "Example":
        yield "```"
