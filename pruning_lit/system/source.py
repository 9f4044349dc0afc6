"""Names in the source files of installed packages: their meaning is read there, and nothing is imported.

So a config can be checked at once, whatever it names; to import torch and Lightning takes seconds.
"""

import ast
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cache, cached_property
from importlib.util import find_spec
from itertools import chain
from pathlib import Path
from typing import TypeAlias

OUTSIDE = sys.stdlib_module_names | {"typing_extensions"}  # imported by everybody, and not worth reading


@dataclass(frozen=True)
class Definition:
    """A class or a function, and the module that it is written in."""

    module: "Module"
    node: ast.ClassDef | ast.FunctionDef

    def lineage(self) -> list["Definition"]:
        """The class and those that it inherits from, nearest first, as far as they can be read."""
        bases = self.node.bases if isinstance(self.node, ast.ClassDef) else []
        names = [ast.unparse(each.value if isinstance(each, ast.Subscript) else each) for each in bases]
        found = [each for each in map(self.module.look_up, names) if isinstance(each, Definition)]
        above = list(chain.from_iterable(each.lineage() for each in found))
        return [self, *reversed(dict.fromkeys(reversed(above)))]  # what several inherit from comes behind all of them


@dataclass(frozen=True)
class Assigned:
    """An expression that a name stands for, such as an alias of a type, and the module that it is written in."""

    module: "Module"
    value: ast.expr


@dataclass(frozen=True)
class Outside:
    """A name in a module of Python's own; empty: the module itself."""

    module: str
    name: str


class Module:
    """A module as it is written.

    Args:
        name: in full.
        path: its file.
    """

    def __init__(self, name: str, path: Path) -> None:
        self.name, self.is_package = name, path.name == "__init__.py"
        self._body = ast.parse(path.read_bytes()).body
        self._known: dict[str, Meaning] = {}

    def look_up(self, name: str) -> "Meaning":
        """Meaning of a dotted name in this module; None where it is not beyond doubt."""
        meaning: Meaning = self
        for part in name.split("."):
            meaning = meaning.attribute(part) if isinstance(meaning, Module) else None
        return meaning

    def attribute(self, name: str) -> "Meaning":
        """Meaning of one name: what the file binds to it, else a module of the package; None where that is in doubt."""
        if name not in self._known:
            self._known[name] = None  # for who comes back here in a circle
            bound = self._bound.get(name, [])
            starred = (self._meaning(each, name) for each in self._bound.get("*", []))
            found = [self._meaning(each, name) for each in bound] or [each for each in starred if each is not None]
            if bound and all(isinstance(each, ast.FunctionDef) for each in bound):
                found = found[-1:]  # overloads come before it
            alike = len(set(found)) == 1
            self._known[name] = found[0] if alike else None if found else self._within(name)
        return self._known[name]

    def exports(self, name: str) -> bool:
        """True if ``from … import *`` takes the name along."""
        match self._bound.get("__all__"):
            case [ast.Assign(value=ast.List(elts=listed) | ast.Tuple(elts=listed))]:
                return any(isinstance(each, ast.Constant) and each.value == name for each in listed)
        return not name.startswith("_")

    @cached_property
    def _bound(self) -> dict[str, list[ast.stmt]]:
        """Statements by the names that they bind, ``*`` for all of another module."""
        found: dict[str, list[ast.stmt]] = {}
        for statement in _flat(self._body):
            for name in _names(statement):
                found.setdefault(name, []).append(statement)
        return found

    def _meaning(self, statement: ast.stmt, name: str) -> "Meaning":
        match statement:
            case ast.ClassDef() | ast.FunctionDef():
                return Definition(self, statement)
            case ast.Assign(targets=[ast.Name()], value=value) | ast.AnnAssign(value=ast.expr() as value):
                return Assigned(self, value)
            case ast.Import():
                alias = next(each for each in statement.names if _shown(each) == name)
                full = alias.name if alias.asname else name  # `import a.b` binds a
                return Outside(full, "") if _is_outside(full) else read(full)
            case ast.ImportFrom():
                original = next((each.name for each in statement.names if _shown(each) in (name, "*")), name)
                return self._imported(self._origin(statement), name if original == "*" else original, original == "*")
        return None

    def _imported(self, origin: str, name: str, starred: bool) -> "Meaning":
        if _is_outside(origin):
            return None if starred else Outside(origin, name)
        if origin == self.name:
            return self._within(name)
        module = read(origin)
        return module.attribute(name) if module and (module.exports(name) or not starred) else None

    def _within(self, name: str) -> "Module | None":
        return read(f"{self.name}.{name}") if self.is_package else None

    def _origin(self, statement: ast.ImportFrom) -> str:
        """The module that a statement imports from, in full."""
        up = statement.level - self.is_package
        place = self.name.split(".")[: -up or None] if statement.level else []
        return ".".join([*place, *filter(None, [statement.module])])


Meaning: TypeAlias = Definition | Assigned | Outside | Module | None


@cache
def read(name: str) -> Module | None:
    """Read a module from its file; None where there is none, or it is not Python."""
    root, *parts = name.split(".")
    if not all(part.isidentifier() for part in (root, *parts)):
        return None
    try:
        spec = find_spec(root)
        if spec is None or spec.origin is None:
            return None
        place = Path(spec.origin).parent.joinpath(*parts)
        files = [place / "__init__.py", place.with_name(f"{place.name}.py")] if parts else [Path(spec.origin)]
        return next((Module(name, file) for file in files if file.suffix == ".py" and file.is_file()), None)
    except (ImportError, OSError, SyntaxError, ValueError):
        return None


def find(target: str) -> Definition | None:
    """The class or function of that dotted name; None where there is none, or it is not beyond doubt which it is.

    Of the parts before the last each has to be the module that it is called after: no way leads through what a module
    happens to import.
    """
    *parts, name = target.split(".")
    place: Meaning = read(parts[0]) if parts else None
    for depth in range(1, len(parts)):
        place = place.attribute(parts[depth]) if isinstance(place, Module) else None
        if isinstance(place, Module) and place.name != ".".join(parts[: depth + 1]):
            return None
    found = place.attribute(name) if isinstance(place, Module) else None
    return found if isinstance(found, Definition) else None


def _is_outside(module: str) -> bool:
    return module.partition(".")[0] in OUTSIDE


def _flat(statements: Iterable[ast.stmt]) -> Iterator[ast.stmt]:
    """The statements at the level of a module, those under conditions included."""
    for statement in statements:
        yield statement
        if isinstance(statement, ast.If | ast.Try | ast.With | ast.For):
            for field in ("body", "handlers", "orelse", "finalbody"):
                inner = getattr(statement, field, [])
                yield from _flat(chain.from_iterable(each.body for each in inner) if field == "handlers" else inner)


def _names(statement: ast.stmt) -> list[str]:
    match statement:
        case ast.ClassDef() | ast.FunctionDef() | ast.AsyncFunctionDef():
            return [statement.name]
        case ast.Import() | ast.ImportFrom():
            return [_shown(each) for each in statement.names]
        case ast.Assign() | ast.AnnAssign():
            targets = statement.targets if isinstance(statement, ast.Assign) else [statement.target]
            parts = chain.from_iterable(each.elts if isinstance(each, ast.Tuple) else [each] for each in targets)
            return [each.id for each in parts if isinstance(each, ast.Name)]  # an attribute that is set binds no name
    return []


def _shown(alias: ast.alias) -> str:
    """The name that an import binds."""
    return alias.asname or alias.name.partition(".")[0]
