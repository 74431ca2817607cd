"""The fingerprint of code: what changes it, what does not, and what it reaches."""

import ast
import enum
import functools
import importlib
import inspect
import linecache
import os
import subprocess
import sys
import threading
from collections import namedtuple
from dataclasses import dataclass, field
from pathlib import Path

import nbformat
import numpy as np
import pydantic
import pytest
import tagged
import torch
from conftest import ROOT

import lmclib as lmc
from lmclib.code import definitions
from lmclib.code.definitions import SETTLED, Definitions, imported_names
from lmclib.code.fingerprint import code_fingerprint, reached, source_closure
from lmclib.code.sources import read_code
from lmclib.code.syntax import canonical, digest, names_in, parsed
from lmclib.errors import LmcError
from lmclib.theory import landscapes

PACKAGE = {
    "__init__": '''
        """Lazy names."""
        __version__ = "1"
        PUBLIC = {"curve": "measures.curves"}
    ''',
    "errors": """
        class Wrong(ValueError):
            pass
    """,
    "cube": '''
        """Cubes."""
        from demo.errors import Wrong

        POINTS = 5
        UNUSED = 1

        class Cube:
            """A cube."""

            def value(self, a):
                """Its value."""
                return a * POINTS

            def other(self):
                raise Wrong("no")
    ''',
    "measures.__init__": """
        from demo.measures.curves import curve as line
        from demo.measures import curves
        from demo import looks

        looks.enable()
    """,
    "measures.curves": '''
        """Curves."""
        import functools
        import math
        from typing import TYPE_CHECKING

        from . import grids
        from .grids import grid as points

        if TYPE_CHECKING:
            from demo.cube import Cube

        @functools.cache
        def curve(cube: "Cube", n: int = 3) -> list:
            """The curve."""
            # a remark
            return [scaled(cube.value(a)) for a in points(n)]

        def scaled(value):
            from demo.scales import scale as by
            return by(value) + math.pi

        def unreached(value):
            return value
    ''',
    "measures.grids": """
        from demo.measures import curves

        def grid(n):
            return list(range(limit(n)))

        def limit(n):
            return min(n, 100)

        def again(cube):
            return curves.curve(cube)
    """,
    "scales": """
        try:
            from fast import scale
        except ImportError:
            def scale(value):
                return FACTOR * value

        FACTOR = 2
        TABLE = {}
        TABLE["a"] = 1
    """,
    "looks": """
        def enable():
            pass
    """,
    "apart": """
        def far():
            return 1
    """,
}


class Demo:
    """A small package in a folder, whose files can be edited."""

    def __init__(self, folder: Path):
        self.folder = folder / "demo"
        for name, text in PACKAGE.items():
            path = self.path(name)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(inspect.cleandoc("\n" + text) + "\n")
        self.definitions = Definitions(self.folder, "demo", {"curve": "measures.curves"})

    def path(self, name: str) -> Path:
        return self.folder / f"{name.replace('.', '/')}.py"

    def edit(self, name: str, old: str, new: str) -> None:
        text = self.path(name).read_text()
        assert text.count(old) == 1, f"{old!r} is {text.count(old)} times in {name}"
        self.path(name).write_text(text.replace(old, new))

    def reached(self, source: str) -> dict[str, str]:
        return self.definitions.reached(imported_names(source))

    def closure(self) -> dict[str, str]:
        return self.reached("from demo.measures.curves import curve\ncurve(x)")


@pytest.fixture
def demo(tmp_path):
    return Demo(tmp_path)


def test_a_function_reaches_what_it_names_in_any_way(demo):
    assert set(demo.closure()) == {
        "demo.measures:<module>",  # runs before anything in the package
        "demo.looks:enable",  # which that statement names
        "demo.measures.curves:curve",
        "demo.measures.curves:scaled",  # two calls away from here on
        "demo.measures.grids:grid",  # an alias of a relative import
        "demo.measures.grids:limit",
        "demo.cube:Cube",  # an annotation, quoted, imported for it alone
        "demo.cube:POINTS",
        "demo.errors:Wrong",
        "demo.scales:<module>",
        "demo.scales:scale",  # imported within a function, under another name, defined in a branch
        "demo.scales:FACTOR",
        "demo.scales:TABLE",
    }


def test_files_are_read_again_only_where_they_may_have_changed(demo, monkeypatch):
    read, read_text = [], Path.read_text
    monkeypatch.setattr(Path, "read_text", lambda path, **how: (read.append(path.name), read_text(path, **how))[1])
    found = demo.closure()
    demo.edit("cube", "POINTS = 5", "POINTS = 6")  # as long as before, and perhaps within one tick of the file's clock
    assert demo.closure() != found
    monkeypatch.setattr(definitions, "SETTLED", -SETTLED)  # as if all of them had been there for long
    found = demo.closure()
    read.clear()
    assert demo.closure() == found
    assert not read
    demo.edit("cube", "POINTS = 6", "POINTS = 77")
    assert demo.closure() != found
    assert "cube.py" in read
    found, _ = demo.closure(), demo.path("cube").unlink()
    with pytest.raises(LmcError, match="cube"):
        demo.closure()


@pytest.mark.parametrize(
    "source",
    [
        "import demo\ndemo.curve(x)",
        "import demo as d\nf = lambda c: d.curve(c)",
        "import demo.measures.curves as c\nc.curve(x)",
        "import demo.measures\ndemo.measures.curves.curve(x)",
        "from demo import measures\nmeasures.line(x)",
        "from demo import curve as line\nline(x)",
        "from demo.measures import line\nline(x)",
        "def late():\n    from demo.measures import curves\n    return [curves.curve(x) for x in y]",
        "%matplotlib inline\nimport demo\nif demo.curve:\n    !ls\n",
    ],
)
def test_a_name_is_followed_however_it_is_imported(demo, source):
    assert demo.reached(source) == demo.closure()


def test_modules_that_import_each_other_are_followed(demo):
    assert "demo.measures.curves:curve" in demo.reached("from demo.measures.grids import again\nagain(1)")


def test_a_module_as_a_value_means_all_of_it(demo):
    assert set(demo.reached("import demo.cube as c\ndir(c)")) == {
        *("demo.cube:Cube", "demo.cube:POINTS", "demo.cube:UNUSED", "demo.errors:Wrong")
    }
    assert set(demo.closure()) <= set(demo.reached("import demo\ndir(demo)"))


def test_a_name_that_a_function_binds_itself_is_not_that_of_the_module(demo):
    demo.path("apart").write_text(
        "from demo.scales import scale\n"
        "def curve(): return 1\n"
        "def far(curve, *scale):\n"
        "    limit = [curve for curve in scale]\n"
        "    return lambda limit: (limit, curve)\n"
        "def near(values):\n"
        "    [curve for curve in values]\n"
        "    return curve()\n"
    )
    assert set(demo.reached("from demo.apart import far\nfar()")) == {"demo.apart:far"}
    assert set(demo.reached("from demo.apart import near\nnear()")) == {"demo.apart:near", "demo.apart:curve"}


@pytest.mark.parametrize(
    ("code", "free"),
    [
        ("def f(a, b=c, *d, e=g, **h): a, b, d, e, h, i", "c g i"),
        ("def f():\n    global a\n    a = b = 1\n    return a, b", "a"),
        ("def f():\n    a = 1\n    def g():\n        nonlocal a\n        a = b", "b"),
        ("def f():\n    try: a\n    except b as c: c, d", "a b d"),
        ("def f(x):\n    match x:\n        case [A.b, *c] | {'k': c, **d}: c, d, e", "A.b e"),
        ("def f(): return [a for a in a if (b := a.c)] + [b]", "a"),
        ("def f(): return {a: b for a in c for b in a.d}, {d for e in f}", "c d f"),
        ("def f():\n    for a, (b, *c) in d: a, b, c\n    with e as g, h as i.j: g", "d e h i.j"),
        ("class A(B, key=C):\n    import d\n    e: F = g\n    def h(self): return e, d.i", "B C F e g"),
        ("def f(a: 'B[C] | D', b: 'no code: said') -> E[Literal['G'], 'H']: 'I'", "B C D E Literal H"),
        ("lambda a, b=c: lambda d: (a, b, d, e.f.g)", "c e.f.g"),
        ("f(a.b.c).d[e].g", "a.b.c e f"),
    ],
)
def test_the_names_that_code_does_not_bind_itself(code, free):
    known = {".".join(chain) for chain in names_in([parsed(code, "the code")]).free}
    assert known - {"A"} == set(free.split())


@pytest.mark.parametrize(
    ("name", "old", "new"),
    [
        ("measures.curves", "# a remark", "# another remark, and a longer one"),
        ("measures.curves", '"""The curve."""', '"""The curve, said otherwise."""'),
        ("measures.curves", '"""The curve."""\n', "\n"),
        ("cube", '"""A cube."""', '"""Not a sphere."""'),
        ("cube", '"""Cubes."""', '"""Two remarks."""\n"""And more."""'),
        (
            "measures.curves",
            "[scaled(cube.value(a)) for a in points(n)]",
            "[\n  scaled((cube.value(a)))\n  for a in points(n)]",
        ),
        ("measures.curves", "def scaled", "\n\n\ndef scaled"),
        ("measures.curves", "return value\n", "return 2 * value\n"),  # unreached, in a reached file
        ("measures.grids", "curves.curve(cube)", "curves.curve(2)"),
        ("cube", "UNUSED = 1", "UNUSED = 2"),
        ("apart", "return 1", "return 2"),  # an unreached file
        ("__init__", '"1"', '"2"'),  # the version
        ("__init__", '"measures.curves"}', '"measures.curves", "far": "apart"}'),  # the public names
    ],
)
def test_an_edit_of_what_decides_no_result_changes_nothing(demo, name, old, new):
    before = demo.closure()
    demo.edit(name, old, new)
    assert demo.closure() == before


@pytest.mark.parametrize(
    ("name", "old", "new", "changed"),
    [
        ("cube", "POINTS = 5", "POINTS = 6", "demo.cube:POINTS"),
        ("cube", "POINTS = 5", "POINTS = 5.0", "demo.cube:POINTS"),
        ("cube", "POINTS = 5", "POINTS = True", "demo.cube:POINTS"),
        ("scales", "FACTOR = 2", "FACTOR = 3", "demo.scales:FACTOR"),
        ("measures.curves", "n: int = 3", "n: int = 4", "demo.measures.curves:curve"),
        ("measures.curves", "@functools.cache", "@functools.lru_cache", "demo.measures.curves:curve"),
        ("measures.grids", "min(n, 100)", "max(n, 100)", "demo.measures.grids:limit"),
        ("measures.curves", "import math", "import cmath as math", "demo.measures.curves:scaled"),
        ("cube", "return a * POINTS", "return POINTS * a", "demo.cube:Cube"),
        ("cube", 'raise Wrong("no")', "raise Wrong", "demo.cube:Cube"),
        ("measures.__init__", "looks.enable()", "looks.enable(1)", "demo.measures:<module>"),
        ("looks", "pass", "print()", "demo.looks:enable"),
        ("scales", 'TABLE["a"] = 1', 'TABLE["a"] = 2', "demo.scales:<module>"),
        ("scales", "ImportError", "OSError", "demo.scales:scale"),
        ("errors", "ValueError", "KeyError", "demo.errors:Wrong"),
    ],
)
def test_an_edit_of_what_is_reached_changes_that_definition(demo, name, old, new, changed):
    before = demo.closure()
    demo.edit(name, old, new)
    after = demo.closure()
    assert set(before) == set(after)
    assert [key for key in after if after[key] != before[key]] == [changed]


def test_two_imports_that_change_places_are_a_change(demo):
    demo.path("apart").write_text("from demo.cube import POINTS as p, UNUSED as u\ndef far(): return p - u\n")
    before = demo.reached("from demo import apart\napart.far()")
    demo.edit("apart", "POINTS as p, UNUSED as u", "POINTS as u, UNUSED as p")
    assert demo.reached("from demo import apart\napart.far()") != before


def test_the_version_and_the_list_of_public_names_do_not_count(demo):
    demo.path("apart").write_text("import demo\ndef far(): return demo.__version__, demo.PUBLIC, demo.__file__\n")
    before = demo.reached("from demo.apart import far\nfar()")
    assert set(before) == {"demo.apart:far"}


def test_names_that_a_statement_binds_are_known(demo):
    demo.path("apart").write_text("for far in range(3):\n    pass\n")
    assert set(demo.reached("from demo.apart import far\nfar")) == {"demo.apart:far", "demo.apart:<module>"}


def test_what_cannot_be_followed_is_an_error(demo):
    with pytest.raises(LmcError, match=r"demo\.curvy: demo has no 'curvy' in its source"):
        demo.reached("import demo\ndemo.curvy(x)")
    with pytest.raises(LmcError, match=r"from demo\.cube import \*: cannot be followed; import names one by one"):
        demo.reached("from demo.cube import *")
    with pytest.raises(LmcError, match="the code: is not Python"):
        demo.reached("import demo\ndemo.(x)")


SAMPLE = '''
"""A sample of the syntax."""
import math as m

@decorated(1, key=None)
class Thing(Base, metaclass=Meta):
    """Said."""

    x: "int | None" = -1

    async def go(self, /, a, *rest, b: float = 1e-3, **more) -> dict[str, int]:
        """Said."""
        try:
            async with self.lock as (one, two):
                return {**more, "é\\u0378": [i for i in rest if (j := i) is not ...], "b": b"\\x00", **{}}
        except* (KeyError, ValueError) as error:
            raise OSError(f"{a!r:>{b}}" "text" f"{{{error=}}} {m.pi:.3f}{'x'}") from None
        finally:
            del a

def f(x):
    match x:
        case {"kind": str(kind), **rest} | [kind, *rest]:
            yield from (lambda *, y=2j: y)(not x, kind)
        case _ if x[1:2, ..., ::3] <= 10**9 <= 1.5e300:
            global g
            g = x if x else (yield)
    while True:
        break
'''


def test_the_digest_of_a_sample_is_the_same_on_every_version_of_python():
    assert digest(canonical(parsed(SAMPLE, "the sample"))) == "27fd9238337fe2a3"


def test_texts_in_an_f_string_may_be_cut_anywhere():
    """As Python 3.12 puts empty texts around what is in a format."""
    whole, cut = (ast.JoinedStr([ast.Constant(text) for text in texts]) for texts in (["ab"], ["", "a", "b", ""]))
    assert canonical(whole) == canonical(cut) != canonical(ast.JoinedStr([ast.Constant("a")]))


def test_what_runs_in_a_measurement_is_what_is_reached():
    """Every function of lmclib that a measurement runs is in its closure: Python itself tells which run."""
    net, x = torch.nn.Sequential(torch.nn.Linear(2, 3), torch.nn.Tanh(), torch.nn.Linear(3, 2)), torch.randn(4, 2)
    states = [{key: torch.randn_like(value) for key, value in net.state_dict().items()} for _ in range(2)]
    y, folder, ran = torch.tensor([0, 1, 0, 1]), str(ROOT / "lmclib"), set()

    def note(frame, *_):
        code = frame.f_code
        if code.co_filename.startswith(folder) and code.co_name != "<module>":
            ran.add(f"{frame.f_globals['__name__']}:{code.co_qualname.partition('.')[0]}")

    for measure in (lmc.barrier_curve, lmc.layer_barriers, lmc.energy_table, lmc.prediction_table, lmc.staircase_table):
        cube, _ = lmc.LayerCube(net, *states, (x, y)), ran.clear()
        sys.setprofile(note)
        try:
            measure(cube)
        finally:
            sys.setprofile(None)
        named = {name for name in ran if "<" not in name}
        assert len(named) > 5
        assert named <= set(reached(measure)), measure.__name__


def test_measures_of_lmclib_are_told_apart():
    measures = (lmc.barrier_curve, lmc.barrier_height, lmc.LayerCube, lmc.LayerCube.gradient, lmc.LayerCube.hessian)
    found = [code_fingerprint(measure) for measure in measures]
    assert len(set(found)) == len(measures)
    assert all(len(one) == 16 and int(one, 16) >= 0 for one in found)
    assert set(reached(lmc.LayerCube.gradient)) == set(reached(lmc.LayerCube))
    assert code_fingerprint(functools.partial(lmc.barrier_curve, alphas=3)) != code_fingerprint(
        functools.partial(lmc.barrier_curve, alphas=5)
    )
    assert "lmclib.cube.energies:Energies" in reached(lmc.Energies.of)
    assert "lmclib.data.load:load_data" in reached(lmc.load_data)  # cached, so not a plain function


def run(source: str, name: str = "__main__", file: str | None = None, **given: object) -> dict[str, object]:
    """Run code as a cell of a notebook is run: its lines are known to `linecache` only."""
    source += "\n"
    run.count += 1
    file = file or f"<ipython-input-{run.count}>"
    linecache.cache[file] = (len(source), None, source.splitlines(keepends=True), file)
    space = {"__name__": name, "lmc": lmc, "landscapes": landscapes, "torch": torch, "np": np, **given}
    exec(compile(source, file, "exec"), space)
    return space


run.count = 0


def fingerprint(source: str, **given: object) -> str:
    return code_fingerprint(run(source, **given)["f"])


SAME = [
    ("def f(cube):\n    return 1", "def f(cube):  # a remark\n    '''Said.'''\n\n    return (1)"),
    ("def f(cube):\n    return 1", "x = 2\ndef g(): return x\ndef f(cube):\n    return 1"),
    ("f = lambda cube: 1", "x = 1\n\nf = lambda cube: 1  # a remark"),
    ("class f:\n    def go(self): return 1", "class f:\n    '''Said.'''\n    def go(self):\n        return 1"),
    ("def f(): return landscapes.barrier", "def f(): return landscapes.barrier\nlater = landscapes.hierarchy"),
]


@pytest.mark.parametrize(("one", "two"), SAME)
def test_what_a_cell_says_beside_its_code_changes_nothing(one, two):
    assert fingerprint(one) == fingerprint(two)


G = "def g(x):\n    return {}\n"
DIFFERENT = {
    "body": ("def f(cube): return 1", "def f(cube): return 2"),
    "default": ("def f(cube, n=1): return n", "def f(cube, n=2): return n"),
    "value of a default": ("n = 1\ndef f(cube, n=n): return n\ndel n", "n = 2\ndef f(cube, n=n): return n\ndel n"),
    "called": (G.format(1) + "def f(x): return g(x)", G.format(2) + "def f(x): return g(x)"),
    "called by a lambda": (G.format(1) + "f = lambda x: g(x)", G.format(2) + "f = lambda x: g(x)"),
    "called by what is called": (
        G.format(1) + "def h(x): return g(x)\ndef f(x): return h(x)",
        G.format(2) + "def h(x): return g(x)\ndef f(x): return h(x)",
    ),
    "each other": (
        "def g(x): return f(x) + 1\ndef f(x): return g(x)",
        "def g(x): return f(x) + 2\ndef f(x): return g(x)",
    ),
    "global": ("n = 1\nf = lambda x: x + n", "n = 2\nf = lambda x: x + n"),
    "array": ("n = np.arange(3)\nf = lambda x: x + n", "n = np.arange(4)\nf = lambda x: x + n"),
    "tensor": ("n = torch.ones(2)\nf = lambda x: x + n", "n = torch.zeros(2)\nf = lambda x: x + n"),
    "shape": ("n = torch.ones(2, 1)\nf = lambda x: x + n", "n = torch.ones(1, 2)\nf = lambda x: x + n"),
    "dtype": ("n = torch.zeros(2)\nf = lambda x: x + n", "n = torch.zeros(2, dtype=torch.int32)\nf = lambda x: x + n"),
    "closure": (
        "def make(n): return lambda x: x + n\nf = make(1)",
        "def make(n): return lambda x: x + n\nf = make(2)",
    ),
    "closure whose name is used again": (
        "def make(n): return lambda: (n, (lambda n: lambda: n)(0))\nf = make(1)",
        "def make(n): return lambda: (n, (lambda n: lambda: n)(0))\nf = make(2)",
    ),
    "global whose name is used again": (
        "n = 1\nf = lambda: (n, (lambda n: lambda: n)(0))",
        "n = 2\nf = lambda: (n, (lambda n: lambda: n)(0))",
    ),
    "closure of a def": (
        "def make(n):\n    def g(x): return x + n\n    return g\nf = make(1)",
        "def make(n):\n    def g(x): return x + n\n    return g\nf = make(2)",
    ),
    "lambda": ("f = lambda x: x + 1", "f = lambda x: x + 2"),
    "lambda within": ("f = lambda x: (lambda y: y + 1)", "f = lambda x: (lambda y: y + 2)"),
    "arguments of a lambda": ("f = lambda a, b: 1", "f = lambda a, *, b: 1"),
    "function of lmclib": ("f = lambda cube: lmc.barrier_curve(cube)", "f = lambda cube: lmc.layer_barriers(cube)"),
    "module of lmclib": (
        "def f(x): return lmc.theory.landscapes.barrier(x)",
        "def f(x): return lmc.theory.landscapes.hierarchy(x)",
    ),
    "library": (
        "from torch import relu as act\ndef f(x): return act(x)",
        "from torch import tanh as act\ndef f(x): return act(x)",
    ),
    "function in a table": (
        G.format(1) + "t = {'a': [g]}\nf = lambda x: t",
        G.format(2) + "t = {'a': [g]}\nf = lambda x: t",
    ),
    "decorator": (
        "def d(g): return lambda x: g(x)\n@d\ndef f(x): return x",
        "def d(g): return lambda x: g(x + 1)\n@d\ndef f(x): return x",
    ),
    "decorated by torch": (
        "@torch.no_grad()\ndef f(x): return x + 1",
        "@torch.no_grad()\ndef f(x): return x + 2",
    ),
    "cached": (
        "import functools\n@functools.cache\ndef f(x): return x + 1",
        "import functools\n@functools.cache\ndef f(x): return x + 2",
    ),
    "partial": (
        "import functools\ndef g(x, n): return x\nf = functools.partial(g, n=1)",
        "import functools\ndef g(x, n): return x\nf = functools.partial(g, n=2)",
    ),
    "partial of": (
        "import functools\ndef g(x, n): return x\nf = functools.partial(g, n=1)",
        "import functools\ndef g(x, n): return n\nf = functools.partial(g, n=1)",
    ),
    "method": ("class f:\n    def go(self): return 1", "class f:\n    def go(self): return 2"),
    "attribute of a class": ("class f:\n    n = 1", "class f:\n    n = 2"),
    "property": (
        "class f:\n    @property\n    def go(self): return 1",
        "class f:\n    @property\n    def go(self): return 2",
    ),
    "base": (
        "class A:\n    def go(self): return 1\nclass f(A): pass",
        "class A:\n    def go(self): return 2\nclass f(A): pass",
    ),
    "method set later": (
        "class f: pass\nf.go = lambda self: 1",
        "class f: pass\nf.go = lambda self: 2",
    ),
    "another method of the owner": (
        "class A:\n    def go(self): return self.n()\n    def n(self): return 1\nf = A.go",
        "class A:\n    def go(self): return self.n()\n    def n(self): return 2\nf = A.go",
    ),
    "instance": (
        "class A:\n    def __init__(self, n): self.n = n\n    def go(self): return self.n\nf = A(1).go",
        "class A:\n    def __init__(self, n): self.n = n\n    def go(self): return self.n\nf = A(2).go",
    ),
    "class of a global instance": (
        "class A:\n    def go(self): return 1\na = A()\ndef f(): return a.go()",
        "class A:\n    def go(self): return 2\na = A()\ndef f(): return a.go()",
    ),
    "class as a key": (
        "class A: n = 1\nclass B: pass\ntable = {A: 1, B: 2}\ndef f(): return table",
        "class A: n = 2\nclass B: pass\ntable = {A: 1, B: 2}\ndef f(): return table",
    ),
    "class within a function": (
        "def make():\n    class A:\n        n = 1\n        def g(self): super().g()\n    return A\nf = make().g",
        "def make():\n    class A:\n        n = 2\n        def g(self): super().g()\n    return A\nf = make().g",
    ),
    "class that says it is lmclib's": (
        "f = type('LayerCube', (), {'__module__': 'lmclib.cube', 'go': lambda self: 1})",
        "f = type('LayerCube', (), {'__module__': 'lmclib.cube', 'go': lambda self: 2})",
    ),
    "class of a layer": (
        "class A(torch.nn.Module):\n    def forward(self, x): return x\nn = torch.nn.Sequential(A())\nf = lambda x: n(x)",
        "class A(torch.nn.Module):\n    def forward(self, x): return -x\nn = torch.nn.Sequential(A())\nf = lambda x: n(x)",
    ),
    "annotated class": (
        "class A:\n    def go(self): return 1\ndef f(a: A): return a.go()",
        "class A:\n    def go(self): return 2\ndef f(a: A): return a.go()",
    ),
    "import within": (
        "def f(x):\n    from lmclib.theory.landscapes import barrier as b\n    return b(x)",
        "def f(x):\n    from lmclib.theory.landscapes import hierarchy as b\n    return b(x)",
    ),
}


@pytest.mark.parametrize("what", DIFFERENT)
def test_a_change_that_a_cell_reaches_changes_its_fingerprint(what):
    one, two = DIFFERENT[what]
    assert fingerprint(one) == fingerprint(one)
    assert fingerprint(one) != fingerprint(two)


CELL = """
def decorate(function): return function

@decorate
def f(x: "Kind", *rest):
    '''Said.'''
    def within(y):
        return lmc.landscapes.barrier(y) + outside.attribute
    return within(x) + 1 + 1

class A:
    async def go(self):
        return f
"""


def test_a_def_is_read_from_its_source():
    cell = run(CELL)
    plain, method = parsed(CELL, "the cell").body[1], parsed(CELL, "the cell").body[2].body[0]
    text, names = read_code(cell["f"].__code__, ())
    assert text == canonical(plain)
    assert names.free == {("decorate",), ("Kind",), ("lmc", "landscapes", "barrier"), ("outside", "attribute")}
    assert read_code(cell["A"].go.__code__, ())[0] == canonical(method)


def test_a_def_without_source_is_read_from_its_byte_code():
    def read(source: str):
        space = {}
        exec(compile(source, "<nowhere>", "exec"), space)
        return read_code(space["f"].__code__, ())

    text, names = read(CELL)
    assert "Said" not in text
    assert read(CELL.replace("'''Said.'''", "'''Said otherwise.'''\n\n")) == (text, names)
    assert read(CELL.replace("+ 1 + 1", "+ 1 - 1"))[0] != text
    assert read(CELL.replace("outside.attribute", "outside.another"))[0] != text
    assert names.free == {("lmc", "landscapes", "barrier"), ("outside", "attribute")}
    assert read("f = lambda x: lambda: (x, y)")[1].free == {("y",)}
    assert read("def f():\n    import lmclib.theory")[1].imported == {("lmclib", "theory")}


def test_two_lambdas_on_one_line_differ():
    one, two = run("pair = (lambda x: x + 1), (lambda x: x + 2)")["pair"]
    assert code_fingerprint(one) != code_fingerprint(two)
    assert code_fingerprint(one, two) != code_fingerprint(two, one)


def test_a_function_of_lmclibs_name_is_not_lmclibs():
    mine = run("def barrier_curve(cube): return 1")["barrier_curve"]
    assert code_fingerprint(mine) != code_fingerprint(lmc.barrier_curve)
    worn = run("import functools\n@functools.wraps(lmc.barrier_height)\ndef f(curve): return 1")["f"]
    assert "lmclib.measures.barriers:barrier_height" in reached(worn)
    assert "__main__:f" in reached(worn)
    assert "lmclib.measures.barriers:barrier_curve" not in reached(
        run("def barrier_height(c): return 1")["barrier_height"]
    )


def test_a_cell_reaches_what_it_names_of_lmclib():
    found = reached(run("def f(cube):\n    return lmc.barrier_curve(cube), landscapes.barrier")["f"])
    assert {
        "__main__:f",
        "lmclib.measures.barriers:barrier_curve",
        "lmclib.cube.points:LayerCube",
        "lmclib.theory.landscapes:barrier",
    } <= set(found)
    assert "lmclib.theory.landscapes:hierarchy" not in found
    annotated = reached(run("def f(cube: 'lmc.LayerCube'):\n    return cube.gradient(0)")["f"])
    assert "lmclib.cube.points:LayerCube" in annotated


def test_a_function_whose_source_was_edited_since_counts_as_it_runs(tmp_path, monkeypatch):
    path = tmp_path / "edited.py"
    path.write_text("def f(x):\n    return x + 1\n")
    monkeypatch.syspath_prepend(tmp_path)
    module = importlib.import_module("edited")
    path.write_text("def f(x):\n    return x + 2\n")
    stale = code_fingerprint(module.f)
    importlib.invalidate_caches()
    importlib.reload(module)
    assert code_fingerprint(module.f) != stale
    del sys.modules["edited"]


FACTORY = '''
from torch import nn

import parts


def factory(shape, n_classes):
    """A network."""
    return nn.Sequential(nn.Flatten(), nn.Linear(4, 8), nn.ReLU(), parts.last(n_classes))
'''
PARTS = """
from torch import nn


def last(n_classes):
    return nn.Linear(8, n_classes)
"""


def test_a_readers_factory_is_known_by_its_code(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(sys, "dont_write_bytecode", True)

    def edited(factory: str, parts: str = PARTS) -> str:
        for name, text in {"parts": parts, "factories": factory}.items():
            (tmp_path / f"{name}.py").write_text(text)
            sys.modules.pop(name, None)
        importlib.invalidate_caches()
        return code_fingerprint(importlib.import_module("factories").factory)

    try:
        before = edited(FACTORY)
        assert edited(FACTORY.replace("A network.", "My network.") + "# a remark\n") == before
        assert edited(FACTORY, PARTS + "\n\ndef unused():\n    return 1\n") == before
        assert edited(FACTORY.replace("ReLU", "Tanh")) != before
        assert (
            edited(FACTORY, PARTS.replace("nn.Linear(8, n_classes)", "nn.Linear(8, n_classes, bias=False)")) != before
        )
    finally:
        for name in ("parts", "factories"):
            sys.modules.pop(name, None)


Point = namedtuple("Point", "x y", defaults=(1,))


class Colour(enum.Enum):
    RED = 1


class Config(pydantic.BaseModel):
    lr: float = 0.1


@dataclass
class Plan:
    """A reader's classes of all kinds."""

    colour: Colour = Colour.RED
    points: list[Point] = field(default_factory=lambda: [Point(1)])
    config: Config = field(default_factory=Config)

    @functools.cached_property
    def slow(self):
        return np.vectorize(lambda x: x)

    @classmethod
    def of(cls):
        return cls(), torch.device("cpu"), torch.float32, np.float64(1), {None: 1, "a": {2, "b"}}, frozenset("abc")


@torch.no_grad()
def decorated(x):
    return x in {"a", "b", "c", "d"}


def everything():
    """Names what a reader's code may name."""
    return (
        Plan.of(),
        Config,
        Point,
        Colour.RED,
        np.sin,
        torch.relu,
        torch.nn.functional.max_pool2d,
        VALUES,
        SETS,
        os.path.join,
    )


SETS = [lambda x: x in {"a", "b", "c", "d"}, lambda x: [y in {"e", "f"} for y in x]]
VALUES = [Plan(), Plan.of(), np.array([1, "a"], dtype=object), torch.nn.BatchNorm1d(2), torch.nn.functional.max_pool2d]


def test_the_fingerprint_is_the_same_in_another_process():
    code = f"import {__name__} as t; print(t.code_fingerprint(t.everything, t.Plan.of, t.VALUES.copy))"
    paths = os.pathsep.join([str(ROOT), str(ROOT / "tests")])
    environment = {**os.environ, "PYTHONHASHSEED": "1", "PYTHONPATH": paths}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == code_fingerprint(everything, Plan.of, VALUES.copy)


def test_a_function_that_a_library_wraps_is_followed():
    assert f"{__name__}:decorated" in reached(decorated)
    assert "lmclib.book.cost:forward_cost" in reached(importlib.import_module("lmclib.book.cost").forward_cost)
    assert reached(torch.nn.functional.relu, torch.no_grad, np.sin, os.path.join) == {}


def test_a_default_of_a_readers_settings_counts():
    one, two = (code_fingerprint(pydantic.create_model("Config", lr=(float, default))) for default in (0.1, 0.2))
    assert one != two


def test_what_cannot_be_identified_is_an_error():
    with pytest.raises(LmcError, match=r"key in f: cannot be identified \(a _thread\.lock\), so the result cannot be"):
        code_fingerprint(run("def f(x): return key", key=threading.Lock())["f"])
    with pytest.raises(LmcError, match=r"tagged: a module as a whole cannot be identified"):
        code_fingerprint(run("def f(x): return dir(m)", m=tagged)["f"])
    with pytest.raises(LmcError, match=r"m\.nothing: tagged has no 'nothing'; import it before"):
        code_fingerprint(run("def f(x): return m.nothing", m=tagged)["f"])
    with pytest.raises(LmcError, match="'barrier_curve': has no fingerprint; must be a function, class, method or"):
        code_fingerprint("barrier_curve")


def test_a_thing_that_cannot_be_pickled_is_known_by_its_class_and_attributes():
    cell = "class A:\n    def __init__(self, n): self.n = n\n    def __reduce__(self): raise TypeError\n"
    one, again, two = (fingerprint(f"{cell}a = A({n})\ndef f(): return a") for n in (1, 1, 2))
    assert one == again != two


def test_importing_is_left_to_who_runs_the_code(tmp_path, monkeypatch):
    (tmp_path / "dangerous.py").write_text("raise RuntimeError('ran')\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(LmcError, match=r"dangerous\.go: is not imported yet; import dangerous before"):
        fingerprint("def f():\n    from dangerous import go\n    return go()")


@pytest.mark.parametrize("path", sorted((ROOT / "book").glob("*.ipynb")), ids=lambda path: path.stem)
def test_every_chapter_can_be_analysed(path):
    cells = nbformat.read(path, as_version=4).cells
    found = source_closure("\n".join(cell.source for cell in cells if cell.cell_type == "code"))
    assert "lmclib.book.settings:parameters" in found
    assert ("lmclib.cube.points:LayerCube" in found) == (path.stem not in ("ledger", "toy_barriers"))
    assert ("lmclib.theory.landscapes:barrier" in found) == (path.stem in ("solutions", "toy_barriers"))
    assert ("lmclib.charts:<module>" in found) == (path.stem != "solutions")  # which draws nothing


def test_a_notebook_that_names_a_measure_reaches_the_cube():
    found = source_closure("import lmclib as lmc\nlmc.barrier_curve(cube)")
    assert {
        "lmclib.measures.barriers:barrier_curve",
        "lmclib.cube.points:LayerCube",
        "lmclib.cube.batching:DEFAULT",
    } <= set(found)
    assert not any(name.startswith(("lmclib.theory", "lmclib.charts", "lmclib:")) for name in found)
    assert "lmclib.measures.kinds:barrier_kind" not in found


def test_every_name_in_lmclib_can_be_followed():
    files = [path.relative_to(ROOT).with_suffix("").parts for path in (ROOT / "lmclib").rglob("*.py")]
    modules = [".".join(parts).removesuffix(".__init__") for parts in files]
    found = source_closure("\n".join(f"import {name} as m{i}\nm{i}" for i, name in enumerate(modules)))
    assert len(found) > 300
