"""The fingerprint of the code that made a result: it changes when, and only when, code that the result reaches changes.

What lmclib defines is read from its files. Everything else, such as a function in a notebook, is looked at as it is in
memory: its source or byte code, and the values, functions and classes that it names. Neither is run.
"""

import copyreg
import functools
import sys
import sysconfig
from collections import ChainMap
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from hashlib import sha256
from importlib.util import find_spec
from operator import attrgetter
from pathlib import Path
from types import FunctionType, GetSetDescriptorType, MemberDescriptorType, ModuleType

from joblib.hashing import Hasher, NumpyHasher

import lmclib
from lmclib.code.definitions import Definitions, imported_names
from lmclib.code.sources import read_code
from lmclib.code.syntax import Chain, digest
from lmclib.errors import LmcError

LIBRARY = Definitions(Path(lmclib.__file__).parent, "lmclib", lmclib.PUBLIC)
STDLIB = sysconfig.get_path("stdlib")
INSTALLED = {"site-packages", "dist-packages"}  # folders of packages whose versions are recorded elsewhere
CACHED = type(functools.cache(len))
WRITTEN = (FunctionType, CACHED, staticmethod, classmethod, property, functools.cached_property)  # in a class
SETTINGS = "__pydantic_fields__"  # where a class of settings keeps its defaults
MACHINERY = (GetSetDescriptorType, MemberDescriptorType)


def code_fingerprint(*roots: Callable) -> str:
    """The fingerprint of all code that some functions, classes, methods or partials reach: 16 hex digits.

    Raises:
        LmcError: a root is none of these, or it names something that cannot be identified, such as a lock.

    Example:
        >>> code_fingerprint(lmclib.barrier_curve) == code_fingerprint(lmclib.barrier_height)
        False
    """
    reach = _Reach()
    asked = [reach.root(root) for root in roots]
    return digest(*asked, *(f"{key} {value}" for key, value in reach.all().items()))


def reached(*roots: Callable) -> dict[str, str]:
    """What the fingerprint of some roots is made of: `module:name` of every definition, and its digest.

    Example:
        >>> "lmclib.cube.points:LayerCube" in reached(lmclib.barrier_curve)
        True
    """
    reach = _Reach()
    for root in roots:
        reach.root(root)
    return reach.all()


def source_closure(source: str) -> dict[str, str]:
    """What a notebook's code cells, joined, reach of lmclib: `module:name` of every definition, and its digest.

    Example:
        >>> "lmclib.theory.landscapes:barrier" in source_closure("from lmclib.theory import landscapes; landscapes.barrier(two, -1, 1)")
        True
    """
    return LIBRARY.reached(imported_names(source))


class _Reach:
    """What some roots reach: names of lmclib, and all else that is met, in the order of meeting."""

    def __init__(self):
        self.library: set[Chain] = set()
        self.labels: dict[int, str] = {}
        self.met: list[tuple[object, Callable[[], Iterator[str]]]] = []  # keeps things, so that no other gets their id

    def root(self, thing: Callable) -> str:
        if not callable(thing):
            raise LmcError(f"{thing!r}: has no fingerprint; must be a function, class, method or functools.partial")
        return self.value(thing, getattr(thing, "__qualname__", type(thing).__qualname__))

    def all(self) -> dict[str, str]:
        """The definitions, which are found while those found before are looked at."""
        records = {self.labels[id(thing)]: digest(*says()) for thing, says in self.met}
        return records | LIBRARY.reached(self.library)

    def value(self, thing: object, what: str) -> str:
        """The hash of any value, with all code that is met in it followed."""
        try:
            return _Hasher(self).hash(thing)
        except LmcError:
            raise
        except Exception as error:  # whatever another library raises for what it cannot pickle
            raise LmcError(f"{what}: cannot be identified ({error}), so the result cannot be remembered") from None

    def stand_in(self, thing: object) -> object:
        """What is hashed in place of a thing: for code its label, once it is followed."""
        if isinstance(thing, FunctionType):
            return self._function(thing)
        if isinstance(thing, type):
            return self._class(thing)
        if isinstance(thing, ModuleType):
            return self._module(thing)
        torch = sys.modules.get("torch")  # where it was never imported there is no tensor
        if torch is not None and isinstance(thing, torch.Tensor) and thing.layout is torch.strided:
            data = thing.detach().cpu().contiguous().flatten().view(torch.uint8)
            return f"{type(thing).__name__} {thing.dtype} {tuple(thing.shape)} {sha256(data.numpy()).hexdigest()}"
        if isinstance(thing, CACHED):
            return "cached", thing.__wrapped__
        if isinstance(thing, (staticmethod, classmethod)):
            return type(thing).__name__, thing.__func__
        if isinstance(thing, property):
            return "property", thing.fget, thing.fset, thing.fdel
        if isinstance(thing, functools.cached_property):
            return "property", thing.func
        if type(thing) in (set, frozenset):  # in an order that no hash of a process decides
            return "set", sorted(self.value(element, "an element of a set") for element in thing)
        return thing

    def _followed(self, thing: object, label: str, says: Callable[[], Iterator[str]]) -> str:
        """The label of a thing, whose record is made later."""
        if id(thing) not in self.labels:
            same = sum(other.partition("#")[0] == label for other in self.labels.values())
            self.labels[id(thing)] = f"{label}#{same + 1}" if same else label
            self.met.append((thing, says))
        return self.labels[id(thing)]

    def _function(self, function: FunctionType) -> str:
        code, module = function.__code__, function.__globals__.get("__name__", "")
        label, name = f"{module}:{code.co_qualname}", code.co_qualname.partition(".")[0]
        of_library = LIBRARY.covers(code.co_filename)
        if of_library and LIBRARY.has(module, name):
            self.library.add((*module.split("."), name))
        elif of_library or not _is_foreign(module, code.co_filename):
            return self._followed(function, label, lambda: self._said(function))
        if not of_library and _is_foreign(function.__module__) and _is_at(function.__module__, function):
            return label
        # made by a library's function around things of others?
        made = function.__closure__ is not None or "<locals>" in code.co_qualname
        return self._followed(function, label, lambda: self._held(function)) if made else label

    def _said(self, function: FunctionType) -> Iterator[str]:
        """What a function of a reader says and names, and the values of its defaults."""
        code, cells = function.__code__, _cells(function)
        package = function.__globals__.get("__package__") or ""
        text, names = read_code(code, tuple(filter(None, package.split("."))))
        yield text
        yield self.value((function.__defaults__, function.__kwdefaults__), f"a default of {code.co_qualname}")
        space = ChainMap(cells, function.__globals__)
        owner, _, method = code.co_qualname.partition(".")
        chains = {*names.free, *({(owner,)} if method and isinstance(space.get(owner), type) else ()), ("__class__",)}
        named = [self._along(chain, space[chain[0]]) for chain in sorted(chains) if chain[0] in space]
        named += [self._imported(chain) for chain in sorted(names.imported)]
        for what, thing in dict(named).items():
            yield f"{what} {self.value(thing, f'{what} in {code.co_qualname}')}"

    def _held(self, function: FunctionType) -> Iterator[str]:
        """What a library's function has from the function that made it."""
        held = {**_cells(function), "defaults": (function.__defaults__, function.__kwdefaults__)}
        for name, thing in held.items():
            yield f"{name} {self.value(thing, f'{name} in {function.__qualname__}')}"

    def _along(self, chain: Chain, thing: object) -> tuple[str, object]:
        """What a dotted name leads to through modules, and the part of the name that does; attributes of it follow."""
        for depth in range(1, len(chain)):
            if not isinstance(thing, ModuleType):
                return ".".join(chain[:depth]), thing
            at = tuple(thing.__name__.split("."))
            if at[0] == LIBRARY.package:
                self.library.add((*at, *chain[depth:]))
            if at[0] == LIBRARY.package or _is_foreign(thing.__name__, thing.__dict__.get("__file__")):
                return ".".join(chain), ".".join((*at, *chain[depth:]))
            if chain[depth] not in vars(thing):
                raise LmcError(f"{'.'.join(chain)}: {thing.__name__} has no {chain[depth]!r}; import it before")
            thing = vars(thing)[chain[depth]]
        return ".".join(chain), thing

    def _imported(self, chain: Chain) -> tuple[str, object]:
        """What an import within a function leads to, without importing it."""
        name = ".".join(chain)
        if chain[0] == LIBRARY.package:
            self.library.add(chain)
            return name, name
        if chain[0] in sys.modules:
            return self._along(chain, sys.modules[chain[0]])
        found = find_spec(chain[0])
        if found is not None and not _is_foreign(chain[0], found.origin):
            raise LmcError(f"{name}: is not imported yet; import {chain[0]} before, so that its code is known")
        return name, name

    def _class(self, kind: type) -> str:
        module, label = kind.__module__, f"{kind.__module__}:{kind.__qualname__}"
        name = kind.__qualname__.partition(".")[0]
        if LIBRARY.has(module, name):
            self.library.add((*module.split("."), name))
            followed = not _is_at(module, kind)  # made by a function, or another of that name
        else:
            followed = not _is_foreign(module)
        return self._followed(kind, label, lambda: self._class_said(kind)) if followed else label

    def _class_said(self, kind: type) -> Iterator[str]:
        """What a reader's class is made of in memory: a notebook has no source of it, and a file may have changed."""
        yield self.value((*kind.__bases__, type(kind)), f"a base of {kind.__qualname__}")
        for name, thing in sorted(vars(kind).items()):
            machinery = name == "_abc_impl" or isinstance(thing, MACHINERY)
            if not machinery and (isinstance(thing, WRITTEN) or not name.startswith("__") or name == SETTINGS):
                yield f"{name} {self.value(thing, f'{name} in {kind.__qualname__}')}"

    def _module(self, module: ModuleType) -> str:
        name = module.__name__
        if name.partition(".")[0] == LIBRARY.package:
            self.library.add(tuple(name.split(".")))
        elif not _is_foreign(name, module.__dict__.get("__file__")):
            raise LmcError(f"{name}: a module as a whole cannot be identified; name what is used of it")
        return name


class _Hasher(NumpyHasher):
    """The hash that joblib makes of a value, with a stand-in for all code in it."""

    def __init__(self, reach: _Reach):
        super().__init__("sha1")
        self.reach = reach

    def save(self, thing: object) -> None:
        super().save(self.reach.stand_in(thing))

    def reducer_override(self, thing: object) -> object:
        """How to take a thing apart: as pickle does, else by its class and attributes."""
        kind = type(thing)
        if kind in self.dispatch or kind in copyreg.dispatch_table:
            return NotImplemented
        try:
            return thing.__reduce_ex__(self.proto)
        except Exception:
            if not hasattr(thing, "__dict__"):
                raise TypeError(f"a {kind.__module__}.{kind.__qualname__}") from None
            return object, (), (kind, vars(thing))

    def _batch_setitems(self, items: Iterable[tuple], *own: object) -> None:
        # joblib hashes keys that have no order each by itself, where code in them would not be followed
        def place(item: tuple) -> str:
            return item[0] if isinstance(item[0], str) else self.reach.value(item[0], "a key")

        ordered = sorted(items, key=place)
        super(Hasher, self)._batch_setitems(iter(ordered), *own)


def _cells(function: FunctionType) -> dict[str, object]:
    """The variables that a function has from the function around it, as far as they are set."""
    cells = dict(zip(function.__code__.co_freevars, function.__closure__ or (), strict=True))
    found = {}
    for name, cell in cells.items():
        with suppress(ValueError):
            found[name] = cell.cell_contents
    return found


def _is_at(module: str, thing: type | FunctionType) -> bool:
    """Whether a class or function is what its module has under its name."""
    try:
        return attrgetter(thing.__qualname__)(sys.modules[module]) is thing
    except (AttributeError, KeyError):
        return False


def _is_foreign(module: str, file: str | None = None) -> bool:
    """Whether code is Python's own or of an installed package: its version is recorded, so its name is enough."""
    if file is None or file.startswith("<"):
        known = sys.modules.get(module)
        file = getattr(known, "__file__", None) or next(iter(getattr(known, "__path__", ())), None)
        if module == "__main__" or file is None:
            return module.partition(".")[0] in sys.stdlib_module_names
    path = Path(file)
    return bool(INSTALLED & set(path.parts)) or path.is_relative_to(STDLIB)
