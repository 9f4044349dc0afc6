"""What people script against can be imported as documented, and takes what it is said to take."""

import inspect
import re
from fractions import Fraction
from importlib import import_module
from typing import Any

import pytest
import torch

from pruning_lit.channels import trace
from pruning_lit.models import cifar_resnet
from tests.places import ROOT

#: These stay: name to its first parameters.
STABLE = {
    "channels.trace": ["model", "example_input"],
    "channels.narrow": ["model", "graph", "kept"],
    "channels.mask": ["model", "graph", "kept"],
    "channels.widen": ["model"],
    "channels.cost": ["graph", "kept"],
    "channels.verify": ["narrowed", "masked", "inputs"],
    "channels.save": ["model", "path"],
    "channels.load": ["path"],
    "criteria.channel_independence": ["maps"],
    "criteria.redundancy_graph.similarity": ["maps"],
    "criteria.redundancy_graph.decompose": ["similarity", "norms", "threshold"],
    "criteria.column_subset.leverage": ["weight", "num_vectors"],
    "criteria.column_subset.projection_residual": ["weight", "selected", "candidates"],
    "criteria.bn_scale.global_threshold": ["scales", "percent"],
    "phases.compactor.merge": ["conv", "norm", "compactor", "keep"],
    "sparsity.parse_rates": ["text"],
}


def found(name: str) -> Any:
    """What a dotted name means where it is imported as written: of a room's face rather than a module of that name."""
    place, _, last = name.rpartition(".")
    try:
        return getattr(import_module(place), last)
    except ModuleNotFoundError:  # an attribute of a class
        return getattr(found(place), last)


@pytest.mark.parametrize(("name", "parameters"), STABLE.items())
def test_a_stable_name_is_a_function_of_these_parameters(name, parameters):
    function = found(f"pruning_lit.{name}")
    assert inspect.isfunction(function)
    assert list(inspect.signature(function).parameters)[: len(parameters)] == parameters


def test_groups_tell_what_is_documented():
    graph = trace(cifar_resnet(8), torch.zeros(1, 3, 32, 32))
    group = graph.groups[0]
    assert isinstance(group.name, str)
    assert isinstance(group.size, int)
    assert group.protected is None or isinstance(group.protected, str)
    for part in group.slices:
        assert isinstance(part.tensor, str)
        assert isinstance(part.dim, int)
        assert len(part.positions) == group.size
    assert {*group.writers, *group.readers} <= {name for name, _ in cifar_resnet(8).named_modules()}
    assert found("pruning_lit.channels.cost")(graph).macs > 0
    assert found("pruning_lit.channels.cost")(graph, {}).params > 0


def test_rates_are_exact():
    assert found("pruning_lit.sparsity.parse_rates")("[0.]+[0.15]*2") == [Fraction(0), *[Fraction("0.15")] * 2]


def documented() -> list[str]:
    """Every name that is listed in ``docs/api.md``, with its room."""
    text = (ROOT / "docs" / "api.md").read_text(encoding="utf-8")
    _, *parts = re.split(r"^## `(pruning_lit\.\w+)`$", text, flags=re.MULTILINE)
    names = []
    for room, listed in zip(parts[::2], parts[1::2], strict=True):
        for item in re.findall(r"^- ((?:[^\n]|\n  )+)", listed, re.MULTILINE):
            head = re.split(r"`: |\. ", " ".join(item.split()))[0]  # what is said of the names comes behind
            names += [f"{room}.{each}" for each in re.findall(r"`([A-Za-z_][\w.]*)", head)]
    return names


def test_the_documentation_has_the_stable_names():
    assert {f"pruning_lit.{name}" for name in STABLE} <= {*documented()}
    assert len(documented()) > 50


@pytest.mark.parametrize("name", documented())
def test_a_documented_name_can_be_imported(name):
    assert found(name) is not None
