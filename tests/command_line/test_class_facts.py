"""Annotations that are read are those that importing gives."""

import inspect
from pkgutil import resolve_name
from typing import Any, get_type_hints

import pytest
import yaml

import pruning_lit.data
from pruning_lit.command_line.class_facts import annotations, constant
from pruning_lit.command_line.configs import CONF
from pruning_lit.command_line.setting_types import PACKAGES, describe
from tests.test_allow_targets import targets_in


def configured() -> list[str]:
    """Constructors that are named in the configs, and some others that people name."""
    named = {target for file in CONF.rglob("*.yaml") for target in targets_in(yaml.safe_load(file.read_text()))}
    others = ["torch.nn.Conv2d", "torch.optim.Adam", "torch.optim.lr_scheduler.StepLR"]
    others += ["pytorch_lightning.callbacks.EarlyStopping", "pytorch_lightning.callbacks.ModelCheckpoint"]
    return [target for target in (*sorted(named), *others) if target.startswith(PACKAGES)]


def imported(target: str) -> tuple[dict[str, str], bool]:
    """The same by importing: in words, and true where these are all."""
    package, _, name = target.rpartition(".")
    constructor, named = getattr(resolve_name(package), name), dict[str, str]()
    inits = [vars(each)["__init__"] for each in getattr(constructor, "__mro__", ()) if "__init__" in vars(each)]
    for function in inits or [constructor]:
        try:
            hints = get_type_hints(function)
        except NameError as error:  # Lightning's loggers import the package that they log to under a condition
            pytest.skip(f"its annotations name {error.name!r}, of a package that is not installed")
        parameters = list(inspect.signature(function).parameters.values())
        kinds = {each.kind for each in parameters}
        taken = [each.name for each in parameters if each.kind not in (each.VAR_POSITIONAL, each.VAR_KEYWORD)]
        named = {each: describe(hints.get(each, Any)) for each in taken if each != "self"} | named
        if inspect.Parameter.VAR_KEYWORD not in kinds:
            return named, True
    return named, False


@pytest.mark.parametrize("target", configured())
def test_annotations_are_those_of_the_constructor(target):
    named, all_of_them = annotations(target)
    assert ({name: describe(kind) for name, kind in named.items()}, all_of_them) == imported(target)


def test_there_are_constructors_to_compare():
    assert len(configured()) > 30


def test_what_does_not_exist_has_no_parameters():
    assert annotations("pruning_lit.data.Nothing") == ({}, False)
    assert annotations("no_such_package.Net") == ({}, False)


def test_constants_of_data_sets_are_read_as_they_are():
    kinds = {name: kind for name, kind in vars(pruning_lit.data).items() if isinstance(kind, type)}
    read = 0
    for name, kind in kinds.items():
        for constants in ("always_shape", "always_classes", "example_size"):
            found = constant(f"pruning_lit.data.{name}", constants)
            assert found == getattr(kind, constants, None), (name, constants)
            read += found is not None
    assert read > 10


def test_a_constant_that_cannot_be_read_is_none(tmp_path, monkeypatch):
    (tmp_path / "odd_data.py").write_text("SIDE, REST = 32, 5\nclass Odd:\n    always_shape = (3, SIDE, SIDE)\n")
    monkeypatch.syspath_prepend(tmp_path)
    assert constant("odd_data.Odd", "always_shape") is None
