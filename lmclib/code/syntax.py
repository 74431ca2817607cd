"""What a syntax tree says: a text that changes only when its meaning can, and the dotted names in it, scope by scope.

The same on every version of Python, so that what is remembered under such a text is found by all of them.
"""

import ast
import hashlib
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from lmclib.errors import LmcError

Chain = tuple[str, ...]  # a dotted name: ("lmclib", "barriers", "barrier_curve")
UNSEEN = ("ctx", "kind", "type_comment", "type_params")  # of a node: says nothing, or is not there in every version
DOCUMENTED = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)


@dataclass(frozen=True)
class Names:
    """The dotted names in code: those that it does not bind itself, as written; absolute ones, by its own imports."""

    free: frozenset[Chain]
    imported: frozenset[Chain]


def names_in(nodes: Iterable[ast.AST], package: Chain = ()) -> Names:
    """The dotted names in code of a package: annotations count, as strings too; what functions bind does not."""
    visitor = _Visitor(package)
    visitor.each(nodes)
    return Names(frozenset(visitor.free), frozenset(visitor.imported))


def canonical(node: object) -> str:
    """A syntax tree as text that only changes when its meaning can: no docstrings, no comments, no layout.

    Example:
        >>> canonical(ast.parse("x = 1  # one")) == canonical(ast.parse("x=(1)"))
        True
    """
    if isinstance(node, list):
        return f"[{','.join(map(canonical, node))}]"
    if not isinstance(node, ast.AST):
        return ascii(node)  # unlike repr the same whatever Unicode a version knows
    fields = dict(ast.iter_fields(node))
    if isinstance(node, DOCUMENTED) and is_remark(node.body[:1]):
        fields["body"] = node.body[1:]
    if isinstance(node, ast.JoinedStr):
        fields["values"] = _joined(node.values)
    said = {name: value for name, value in fields.items() if name not in UNSEEN and value not in (None, [])}
    return f"{type(node).__name__}({','.join(f'{name}={canonical(value)}' for name, value in said.items())})"


def digest(*parts: str) -> str:
    """16 hex digits of the SHA-256 of some texts."""
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:16]


def bound(nodes: Iterable[ast.AST], package: Chain) -> dict[str, set[Chain]]:
    """The names that code binds in its own scope; for imports, what they stand for."""
    names, elsewhere, todo = defaultdict(set), set(), list(nodes)
    while todo:
        match node := todo.pop():
            case ast.FunctionDef() | ast.AsyncFunctionDef() | ast.ClassDef():
                names[node.name]
                continue  # what is within has a scope of its own
            case ast.Lambda():
                continue
            case ast.ListComp() | ast.SetComp() | ast.DictComp() | ast.GeneratorExp():
                todo += [part.target for part in ast.walk(node) if isinstance(part, ast.NamedExpr)]
                continue
            case ast.Import() | ast.ImportFrom():
                for name, target in _targets(node, package):
                    names[name].add(target)
            case ast.Global() | ast.Nonlocal():
                elsewhere.update(node.names)
            case ast.Name(ctx=ast.Store() | ast.Del()):
                names[node.id]
            case ast.ExceptHandler(name=str(name)) | ast.MatchAs(name=str(name)) | ast.MatchStar(name=str(name)):
                names[name]
            case ast.MatchMapping(rest=str(name)):
                names[name]
        todo += ast.iter_child_nodes(node)
    return {name: targets for name, targets in names.items() if name not in elsewhere}


def parsed(text: str, name: str) -> ast.Module:
    """The syntax tree of a source text.

    Raises:
        LmcError: not Python; the message calls the text by its name.
    """
    try:
        return ast.parse(text)
    except (SyntaxError, ValueError) as error:
        raise LmcError(f"{name}: is not Python ({error})") from None


def is_remark(nodes: list[ast.stmt]) -> bool:
    """Whether statements are just a constant that is said and not used, such as a docstring."""
    return any(isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) for node in nodes)


class _Visitor(ast.NodeVisitor):
    """Collects names scope by scope."""

    def __init__(self, package: Chain):
        self.package, self.free, self.imported = package, set(), set()
        self.scopes: list[dict[str, set[Chain]]] = []
        self.quoted = False  # whether text is code, as in annotations

    def each(self, nodes: Iterable[ast.AST | None]) -> None:
        for node in nodes:
            if node is not None:
                self.visit(node)

    def visit_Name(self, node: ast.Name) -> None:
        self._use((node.id,))

    def visit_Attribute(self, node: ast.Attribute) -> None:
        attributes, base = [], node
        while isinstance(base, ast.Attribute):
            attributes, base = [base.attr, *attributes], base.value
        if isinstance(base, ast.Name):
            self._use((base.id, *attributes))
        else:
            self.visit(base)

    def visit_FunctionDef(self, node: ast.FunctionDef | ast.AsyncFunctionDef) -> None:
        self.each(node.decorator_list)
        self._annotations([node.returns])
        self._function(node.args, node.body)

    visit_AsyncFunctionDef = visit_FunctionDef

    def visit_Lambda(self, node: ast.Lambda) -> None:
        self._function(node.args, [node.body])

    def visit_ClassDef(self, node: ast.ClassDef) -> None:
        self.each((*node.decorator_list, *node.bases, *node.keywords))
        # what a class binds is not seen by its methods, so that a name in it may always be the module's
        imports = {name: targets for name, targets in bound(node.body, self.package).items() if targets}
        self._within(imports, node.body)

    def visit_ListComp(self, node: ast.ListComp | ast.SetComp | ast.DictComp | ast.GeneratorExp) -> None:
        self.visit(node.generators[0].iter)  # belongs to the scope outside
        self._within(bound([part.target for part in node.generators], self.package), ast.iter_child_nodes(node))

    visit_SetComp = visit_DictComp = visit_GeneratorExp = visit_ListComp

    def visit_AnnAssign(self, node: ast.AnnAssign) -> None:
        self._annotations([node.annotation])
        self.each((node.target, node.value))

    def visit_Constant(self, node: ast.Constant) -> None:
        if self.quoted and isinstance(node.value, str):
            try:
                self.visit(ast.parse(node.value.strip(), mode="eval"))
            except (SyntaxError, ValueError):
                return  # a remark, as in Annotated[int, "in epochs"]

    def visit_Subscript(self, node: ast.Subscript) -> None:
        self.visit(node.value)
        before, self.quoted = self.quoted, self.quoted and not ast.unparse(node.value).endswith("Literal")
        self.visit(node.slice)
        self.quoted = before

    def _use(self, chain: Chain) -> None:
        scope = next((scope for scope in reversed(self.scopes) if chain[0] in scope), None)
        if scope is None:
            self.free.add(chain)
        else:
            self.imported |= {(*target, *chain[1:]) for target in scope[chain[0]]}

    def _function(self, given: ast.arguments, body: list[ast.AST]) -> None:
        self.each((*given.defaults, *given.kw_defaults))
        arguments = [*given.posonlyargs, *given.args, given.vararg, *given.kwonlyargs, given.kwarg]
        arguments = [argument for argument in arguments if argument is not None]
        self._annotations([argument.annotation for argument in arguments])
        self._within({argument.arg: set() for argument in arguments} | bound(body, self.package), body)

    def _annotations(self, nodes: list[ast.AST | None]) -> None:
        before, self.quoted = self.quoted, True
        self.each(nodes)
        self.quoted = before

    def _within(self, scope: dict[str, set[Chain]], nodes: Iterable[ast.AST]) -> None:
        before, self.quoted = self.quoted, False
        self.scopes.append(scope)
        self.each(nodes)
        self.scopes.pop()
        self.quoted = before


def _targets(node: ast.Import | ast.ImportFrom, package: Chain) -> Iterator[tuple[str, Chain]]:
    """The names that an import binds, and the absolute dotted names that they stand for."""
    for alias in node.names:
        path = tuple(alias.name.split("."))
        if isinstance(node, ast.Import):
            yield (alias.asname, path) if alias.asname else (path[0], path[:1])
        elif alias.name == "*":
            raise LmcError(
                f"from {'.' * node.level}{node.module or ''} import *: cannot be followed; import names one by one"
            )
        else:
            above = package[: len(package) - node.level + 1] if node.level else ()
            module = tuple(node.module.split(".")) if node.module else ()
            yield alias.asname or alias.name, (*above, *module, alias.name)


def _joined(values: list[ast.expr]) -> list[ast.expr]:
    """The parts of an f-string with neighbouring texts joined, as versions of Python differ in where they cut them."""
    joined: list[ast.expr] = []
    for value in values:
        if isinstance(value, ast.Constant) and joined and isinstance(joined[-1], ast.Constant):
            joined[-1] = ast.Constant(joined[-1].value + value.value)
        elif not (isinstance(value, ast.Constant) and value.value == ""):
            joined.append(value)
    return joined
