"""What is read in source files is what importing would give."""

import inspect
import sys
from importlib import import_module
from textwrap import dedent

import pytest

from pruning_lit.command_line.targets import ROOMS
from pruning_lit.system.source import Assigned, Definition, Module, Outside, find, read

OTHERS = ("torch.nn", "torch.optim", "torchvision.models", "pytorch_lightning.callbacks", "pytorch_lightning.loggers")


def public(room: str) -> dict[str, type]:
    """Classes and functions that a module shows; named tuples are made by a call, not by a statement."""
    shown = {name: each for name, each in vars(import_module(room)).items() if not name.startswith("_")}
    kinds = {name: each for name, each in shown.items() if inspect.isclass(each) or inspect.isfunction(each)}
    return {name: each for name, each in kinds.items() if not hasattr(each, "_fields")}


@pytest.mark.at_once(6)
@pytest.mark.parametrize("room", [*ROOMS, *OTHERS])
def test_a_name_means_what_it_means_when_it_is_imported(room):
    own = {name: each for name, each in public(room).items() if each.__module__.startswith(room)}
    assert own or room == "pruning_lit.methods"  # it shows its folders alone
    for name, shown in own.items():
        definition = find(f"{room}.{name}")
        assert definition is not None, name
        assert getattr(import_module(definition.module.name), definition.node.name) is shown


@pytest.fixture
def package(tmp_path, monkeypatch):
    """Write a package of these modules, which end in an error when they are imported."""
    monkeypatch.syspath_prepend(tmp_path)
    read.cache_clear()

    def write(**modules: str) -> Module:
        for name, text in {"__init__": "", **modules}.items():
            path = tmp_path / "only_read" / f"{name}.py"
            path.parent.mkdir(exist_ok=True)
            path.write_text(f"{dedent(text)}\nraise RuntimeError('imported')\n")
        package = read("only_read")
        assert package is not None
        return package

    yield write
    read.cache_clear()
    assert not [name for name in sys.modules if name.startswith("only_read")]


def place(meaning: object) -> str:
    """Where something is defined."""
    assert isinstance(meaning, Definition)
    return f"{meaning.module.name}.{meaning.node.name}"


def test_names_are_followed_to_where_they_are_defined(package):
    package(
        __init__="""
            from typing import TYPE_CHECKING
            from . import first as shown
            from .first import Net as Network
            from only_read.second import *
            if TYPE_CHECKING:
                from only_read.first import build
        """,
        first="class Net: ...\ndef build(): ...",
        second="__all__ = ['open_one']\ndef open_one(): ...\ndef not_exported(): ...",
    )
    assert place(find("only_read.Network")) == "only_read.first.Net"
    assert place(find("only_read.first.Net")) == "only_read.first.Net"
    assert place(find("only_read.build")) == "only_read.first.build"
    assert place(find("only_read.open_one")) == "only_read.second.open_one"
    assert find("only_read.not_exported") is None
    assert find("only_read.shown.Net") is None  # another name of the module
    assert find("only_read.first.Other") is None
    assert find("only_read.third.Net") is None


def test_what_is_in_doubt_has_no_meaning(package):
    module = package(
        __init__="""
            try:
                from only_read.first import Net
            except ImportError:
                Net = None
            for each in range(3):
                def often(): ...
            def often(overloaded): ...
            one, other = 1, 2
            from only_read.nowhere import Lost
            from only_read import first
            first = first.Net
        """,
        first="class Net: ...",
        broken="class Net",
    )
    assert module.attribute("Net") is None
    assert module.attribute("one") is None
    assert module.attribute("Lost") is None
    assert module.attribute("first") is None
    assert find("only_read.first.Net") is None  # the name stands for something else
    assert find("only_read.broken.Net") is None
    often = module.attribute("often")
    assert isinstance(often, Definition)
    assert [each.arg for each in often.node.args.args] == ["overloaded"]  # type: ignore[union-attr]


def test_modules_that_import_each_other_come_to_an_end(package):
    module = package(
        __init__="from only_read.first import *", first="from only_read import *\nfrom only_read.first import Net"
    )
    assert module.attribute("Net") is None
    assert module.attribute("nothing") is None


def test_what_is_python_s_own_and_aliases_are_told_apart(package):
    module = package(
        __init__="import os.path\nfrom typing import Any as Anything\nSizes = list[int]\nimport torch.nn as nn"
    )
    assert module.attribute("os") == Outside("os", "")
    assert module.attribute("Anything") == Outside("typing", "Any")
    assert isinstance(module.attribute("Sizes"), Assigned)
    assert module.attribute("nn") is read("torch.nn")
    assert place(module.look_up("nn.Linear")) == "torch.nn.modules.linear.Linear"


def test_classes_are_listed_before_those_that_they_inherit_from(package):
    module = package(
        __init__="""
            class Base: ...
            class Left(Base): ...
            class Right(Base): ...
            class Both(Left, Right, Unknown): ...
        """
    )
    both = module.attribute("Both")
    assert isinstance(both, Definition)
    assert [each.node.name for each in both.lineage()] == ["Both", "Left", "Right", "Base"]


@pytest.mark.parametrize(
    "target", ["", "Net", "torch", "torch..nn", "torch.nn.Module\0", "nowhere.at.all", "os.system"]
)
def test_what_is_no_class_or_function_of_a_package_is_not_found(target):
    assert find(target) is None or target == "os.system"
