"""Facts of the classes that configs name, read from their source without importing them: parameters and constants."""

import ast
import builtins
from functools import cache
from importlib import import_module
from typing import Any

from pruning_lit.system.source import Assigned, Definition, Module, Outside, find

KINDS = {name: each for name, each in vars(builtins).items() if isinstance(each, type)}


class Built:
    """Stands for every class that is not Python's own: a configuration with a ``_target_`` builds it."""

    def __class_getitem__(cls, parameters: Any) -> type["Built"]:
        return cls


def annotations(target: str) -> tuple[dict[str, Any], bool]:
    """Annotations of the parameters of a class or function by name, and true where these are all that it takes.

    Of a class also those of the classes that it hands further keywords to. What cannot be read is ``Any``.
    """
    definition, named = find(target), dict[str, Any]()
    for each in definition.lineage() if definition else []:
        function = each.node if isinstance(each.node, ast.FunctionDef) else _init(each.node)
        if function is None:
            continue
        taken = [*function.args.posonlyargs, *function.args.args, *function.args.kwonlyargs]
        kinds = {one.arg: _evaluated(one.annotation, each.module) for one in taken if one.arg != "self"}
        named = kinds | named
        if function.args.kwarg is None:
            return named, True
    return named, False


def constant(target: str, name: str) -> Any:
    """Constant of a class, or of the nearest that it inherits from and that has it; None: there is none to read."""
    definition = find(target)
    for each in definition.lineage() if definition else []:
        for statement in each.node.body:
            match statement:
                case ast.Assign(targets=[ast.Name(id=bound)], value=value) if bound == name:
                    return None if (found := _evaluated(value, each.module)) is Any else found
    return None


def _init(node: ast.ClassDef) -> ast.FunctionDef | None:
    functions = [each for each in node.body if isinstance(each, ast.FunctionDef) and each.name == "__init__"]
    return functions[-1] if functions else None  # overloads come before it


def _evaluated(annotation: ast.expr | None, module: Module) -> Any:
    if annotation is None:
        return Any
    code = compile(ast.fix_missing_locations(ast.Expression(_Unquoted().visit(annotation))), module.name, "eval")
    try:
        return eval(code, {"__builtins__": KINDS}, _Names(module))
    except Exception:  # whatever comes of an expression in which something stands for something else
        return Any


@cache
def _alias(alias: Assigned) -> Any:
    """Value of an alias; always the same, so that a type variable is one wherever it is used."""
    return _evaluated(alias.value, alias.module)


class _Names(dict[str, Any]):
    """Names in a module as annotations mean them: the scope in which these are evaluated."""

    def __init__(self, module: Module) -> None:
        super().__init__()
        self._module = module

    def __missing__(self, name: str) -> Any:
        match self._module.attribute(name):
            case Definition():
                return Built
            case Assigned() as alias:
                return _alias(alias)
            case Outside(module, ""):
                return import_module(module)
            case Outside(module, original):
                return getattr(import_module(module), original)
            case Module() as inner:
                return _Names(inner)
        raise KeyError(name)  # perhaps a type that is built in

    def __getattr__(self, name: str) -> Any:
        return self[name]


class _Unquoted(ast.NodeTransformer):
    """Annotations in quotes as if they had none; the values of a ``Literal`` stay."""

    def visit_Subscript(self, node: ast.Subscript) -> ast.expr:
        return node if ast.unparse(node.value).endswith("Literal") else self.generic_visit(node)  # type: ignore[return-value]

    def visit_Constant(self, node: ast.Constant) -> ast.expr:
        return ast.parse(node.value, mode="eval").body if isinstance(node.value, str) else node
