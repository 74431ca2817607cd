"""The definitions of a package as its source files state them, and which of them a piece of code reaches.

Nothing is imported or run: what counts is the syntax tree, without docstrings, comments and layout, so the digest of a
definition is the same on every version of Python.
"""

import ast
import os
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache, lru_cache, partial
from pathlib import Path
from stat import S_ISREG

from lmclib.code.syntax import Chain, bound, canonical, digest, is_remark, names_in, parsed
from lmclib.errors import LmcError

BODY = "<module>"  # Python's own name for the statements of a module
UNCOUNTED = ("__version__", "PUBLIC")  # of the package itself: what they say decides no result
MAGIC = ("%", "!")
SETTLED = 2_000_000_000  # nanoseconds: of a file that was changed so long ago, no later edit has the same time
Stamp = tuple[int, int] | None
DEFINING = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.Assign, ast.AnnAssign, ast.AugAssign)


@dataclass(frozen=True)
class Definition:
    """One name of a module: the digest of what defines it, and the absolute dotted names in it."""

    digest: str
    references: frozenset[Chain]


@dataclass(frozen=True)
class Module:
    """One file: its definitions, where its imports come from, and the further statements that run on import."""

    at: Chain
    definitions: dict[str, Definition]
    imports: dict[str, set[Chain]]
    body: Definition | None


class Definitions:
    """The definitions of one package, read from its files.

    Args:
        root: the package's folder.
        package: its name.
        public: names that the package gives out lazily, each with the module below the package that defines it.
    """

    def __init__(self, root: Path, package: str, public: Mapping[str, str]):
        self.root, self.package, self.public = root, package, public
        self._kept: dict[frozenset[Chain], tuple[dict[Path, Stamp], dict[str, str]]] = {}

    def covers(self, file: str) -> bool:
        """Whether a file is in the package."""
        return Path(file).is_relative_to(self.root)

    def has(self, module: str, name: str) -> bool:
        """Whether a module of the package, by its full name, defines a name."""
        found = self._read(tuple(module.split(".")), {}) if module.split(".")[0] == self.package else None
        return found is not None and name in found.definitions

    def reached(self, chains: Iterable[Chain]) -> dict[str, str]:
        """All definitions that some dotted names lead to, directly or through others: `module:name` and its digest.

        What was found is found again without reading, as long as no file changed.

        Raises:
            LmcError: a name that the package does not define.
        """
        wanted = frozenset(chains)
        looked, found = self._kept.get(wanted, ({}, {}))
        if looked and all(_stamp(path) == stamp for path, stamp in looked.items()):
            return dict(found)
        looked, before = {}, time.time_ns() - SETTLED
        found = self._followed(wanted, cache(partial(self._read, looked=looked)))  # each file once
        # of a file that was changed just now, another edit may leave the stamp as it is
        if all(stamp is None or stamp[0] < before for stamp in looked.values()):
            self._kept[wanted] = looked, found
        return dict(found)

    def _followed(self, chains: Iterable[Chain], read: Callable[[Chain], Module | None]) -> dict[str, str]:
        todo, done, reached = set(chains), set(), {}
        while todo:
            done.add(chain := todo.pop())
            if chain[0] == self.package:
                found, further = self._step(chain, read)
                reached |= {key: definition.digest for key, definition in found.items()}
                todo |= further.union(*(definition.references for definition in found.values())) - done
        return dict(sorted(reached.items()))

    def _step(self, chain: Chain, read: Callable[[Chain], Module | None]) -> tuple[dict[str, Definition], set[Chain]]:
        """The definitions that a dotted name is, with what runs before them, and the names that it stands for."""
        module, rest = read((self.package,)), chain[1:]
        while rest and not _gives(module, rest[0]) and (below := read((*module.at, rest[0]))):
            module, rest = below, rest[1:]
        outermost = len(module.at) == 1
        public = self.public if outermost else {}
        if not rest:  # the module as a value: any of its names may be meant
            return {}, {(*module.at, name) for name in (*module.definitions, *module.imports, *public)}
        name = rest[0]
        if outermost and name in UNCOUNTED:
            return {}, set()
        if name in module.definitions:
            found = {f"{'.'.join(module.at)}:{name}": module.definitions[name]}
            return found | _bodies(module.at, read), set()
        if name in module.imports:
            return _bodies(module.at, read), {(*target, *rest[1:]) for target in module.imports[name]}
        if name in public:
            return {}, {(self.package, *public[name].split("."), *rest)}
        if name.startswith("__"):  # every module has some
            return {}, set()
        raise LmcError(f"{'.'.join(chain)}: {'.'.join(module.at)} has no {name!r} in its source")

    def _read(self, at: Chain, looked: dict[Path, Stamp]) -> Module | None:
        """A module, and the stamps of the files that were looked for."""
        folder = self.root.joinpath(*at[1:])
        files = {folder / "__init__.py": at, folder.parent / f"{at[-1]}.py": at[:-1]}  # each with the package it is in
        for path, package in files.items():
            looked[path] = _stamp(path)
            if looked[path] is not None:
                return _module(at, package, path.read_text(encoding="utf-8"))
        return None


def _stamp(path: Path) -> Stamp:
    """What changes with a file: when anything of it was changed, and its size; None where there is no file."""
    try:
        found = os.stat(path)
    except OSError:
        return None
    return (found.st_ctime_ns, found.st_size) if S_ISREG(found.st_mode) else None


def imported_names(source: str) -> set[Chain]:
    """The absolute dotted names in a script or in a notebook's code cells, by its imports.

    Raises:
        LmcError: not Python.

    Example:
        >>> imported_names("import numpy as np; np.linalg.norm(x)")
        {('numpy', 'linalg', 'norm')}
    """
    try:
        tree = parsed(source, "the code")
    except LmcError:
        tree = parsed("\n".join(map(_without_magic, source.split("\n"))), "the code")
    names, imports = names_in([tree]), bound([tree], ())
    own = {(*target, *chain[1:]) for chain in names.free for target in imports.get(chain[0], ())}
    return own | names.imported


@lru_cache(maxsize=1024)
def _module(at: Chain, package: Chain, text: str) -> Module:
    """A file taken apart, once for each text that it has had."""
    tree = parsed(text, ".".join(at))
    imports = {name: targets for name, targets in bound([tree], package).items() if targets}
    parts = defaultdict(list)
    for statement, conditions in _statements(tree.body):
        own = list(bound([statement], package))
        for name in own if _defines(statement) else [*own, BODY]:
            parts[name] += [*conditions, statement]

    def definition(name: str) -> Definition:
        used = names_in(parts[name], package)
        own = {(*at, *chain) for chain in used.free if chain[0] in parts}
        meant = {(*target, *chain[1:]) for chain in used.free for target in imports.get(chain[0], ())}
        # what an imported name stands for is said elsewhere in the file
        origins = sorted({(chain[0], *sorted(imports[chain[0]])) for chain in used.free if chain[0] in imports})
        references = used.imported | own | meant | imports.get(name, set())
        return Definition(digest(canonical(parts[name]), repr(origins)), frozenset(references))

    definitions = {name: definition(name) for name in parts}
    body = definitions.pop(BODY, None)
    return Module(at, definitions, imports, body)


def _statements(body: list[ast.stmt], conditions: tuple[ast.AST, ...] = ()) -> Iterator[tuple[ast.stmt, tuple]]:
    """A module's statements but imports and remarks, also within `if` and `try`, and the conditions they are under."""
    for node in body:
        if isinstance(node, ast.If):
            yield from _statements([*node.body, *node.orelse], (*conditions, node.test))
        elif isinstance(node, (ast.Try, ast.TryStar)):
            handled = [statement for handler in node.handlers for statement in handler.body]
            kinds = [handler.type for handler in node.handlers if handler.type is not None]
            yield from _statements([*node.body, *handled, *node.orelse, *node.finalbody], (*conditions, *kinds))
        elif not (isinstance(node, (ast.Import, ast.ImportFrom, ast.Pass)) or is_remark([node])):
            yield node, conditions


def _defines(node: ast.stmt) -> bool:
    """Whether a statement only gives names to things; `table["x"] = y` changes what another one defines."""
    targets = getattr(node, "targets", [getattr(node, "target", None)])
    parts = [part for target in targets if target is not None for part in ast.walk(target)]
    changed = any(
        isinstance(part, (ast.Attribute, ast.Subscript)) and isinstance(part.ctx, ast.Store) for part in parts
    )
    return isinstance(node, DEFINING) and not changed


def _without_magic(line: str) -> str:
    """A line that Python can read: in place of one for IPython, the statement that a block may need there."""
    code = line.lstrip()
    return f"{line.removesuffix(code)}pass" if code[:1] in MAGIC else line


def _gives(module: Module, name: str) -> bool:
    """Whether a name is a module's own, rather than that of a module below it."""
    below = (*module.at, name)  # `from package import module` in the package itself
    return name in module.definitions or bool(module.imports.get(name, set()) - {below})


def _bodies(at: Chain, read: Callable[[Chain], Module | None]) -> dict[str, Definition]:
    """The statements that run before a module is used: its own and those of packages around it, but the outermost."""
    modules = [read(at[:depth]) for depth in range(2, len(at) + 1)]
    return {f"{'.'.join(module.at)}:{BODY}": module.body for module in modules if module.body is not None}
