"""What the code of a function in memory says and names: by its source if that is what runs, else by its byte code."""

import ast
import dis
import linecache
import sys
from collections.abc import Iterator
from functools import lru_cache
from types import CodeType

from lmclib.code.syntax import Chain, Names, canonical, names_in

GLOBALS = ("LOAD_GLOBAL", "LOAD_NAME", "LOAD_FROM_DICT_OR_GLOBALS")
# variables shared with a function around or within
CELLS = ("LOAD_DEREF", "LOAD_CLASSDEREF", "LOAD_FROM_DICT_OR_DEREF")
ATTRIBUTES = ("LOAD_ATTR", "LOAD_METHOD")
TAKES_REST = 0x04 | 0x08  # the flags of *args and **kwargs
HAS_DOCSTRING = 0x4000000  # a flag since Python 3.14


def read_code(code: CodeType, package: Chain) -> tuple[str, Names]:
    """What code says, as a text, and the dotted names in it.

    A plain `def` is read from its source, so that the text is the same on every version of Python, if the source still
    is what runs: it may have been edited since it was imported. A lambda, or what has no such source, is read from its
    byte code, in which annotations are not.
    """
    tree = _definition(code)
    if tree is not None:
        return canonical(tree), names_in([tree], package)
    parts = list(_codes(code))
    free = {chain for part in parts for chain in _chains(part, code.co_freevars)}
    return repr(_text(code)), Names(frozenset(free), frozenset(chain for part in parts for chain in _imports(part)))


def _definition(code: CodeType) -> ast.AST | None:
    linecache.checkcache(code.co_filename)
    text = "".join(linecache.getlines(code.co_filename))
    try:
        tree, codes = _compiled(text, code.co_filename)
    except (SyntaxError, ValueError):
        return None
    if code not in codes:
        return None
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef)
    found = (node for node in ast.walk(tree) if isinstance(node, kinds) and node.name == code.co_name)
    return next((node for node in found if _first_line(node) == code.co_firstlineno), None)


@lru_cache(maxsize=256)
def _compiled(text: str, filename: str) -> tuple[ast.Module, frozenset[CodeType]]:
    return ast.parse(text), frozenset(_codes(compile(text, filename, "exec", dont_inherit=True)))


def _first_line(node: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    return min([node.lineno, *(decorator.lineno for decorator in node.decorator_list)])


def _codes(code: CodeType) -> Iterator[CodeType]:
    """A code object and those within it."""
    yield code
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _codes(constant)


def _text(constant: object) -> object:
    """Code, or a constant in it, as what has a `repr` without docstrings, line numbers and orders of chance."""
    if isinstance(constant, tuple):
        return tuple(map(_text, constant))
    if isinstance(constant, frozenset):
        return ("frozenset", *sorted(map(ascii, map(_text, constant))))
    if not isinstance(constant, CodeType):
        return ascii(constant)
    code = constant
    takes = code.co_argcount, code.co_posonlyargcount, code.co_kwonlyargcount, code.co_flags & TAKES_REST
    constants = code.co_consts[_has_docstring(code) :]
    return takes, code.co_code, code.co_names, code.co_varnames, code.co_freevars, _text(constants)


def _has_docstring(code: CodeType) -> bool:
    if sys.version_info >= (3, 14):
        return bool(code.co_flags & HAS_DOCSTRING)
    first = code.co_consts[0] if code.co_consts else None
    return isinstance(first, str) and not code.co_name.startswith("<")


def _chains(code: CodeType, held: tuple[str, ...]) -> Iterator[Chain]:
    """The dotted names that byte code reads from outside, of which some are held by the function it belongs to."""
    chain: Chain = ()
    for step in dis.get_instructions(code):
        if step.opname in ATTRIBUTES and chain:
            chain = (*chain, step.argval)
            continue
        if chain:
            yield chain
        outside = step.opname in GLOBALS or (step.opname in CELLS and step.argval in held)
        chain = (step.argval,) if outside else ()


def _imports(code: CodeType) -> Iterator[Chain]:
    """The modules that byte code imports, as wholes: what it takes from them is not followed."""
    yield from (tuple(step.argval.split(".")) for step in dis.get_instructions(code) if step.opname == "IMPORT_NAME")
