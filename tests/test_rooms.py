"""Imports run downwards through the rooms of ``docs/architecture.md``."""

import ast
import re
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

from tests.places import ROOT

PACKAGE = ROOT / "pruning_lit"
#: What ``channels`` does without.
FRAMEWORKS = ("pytorch_lightning", "lightning", "lightning_fabric", "hydra", "omegaconf", "torchmetrics")


def tree(indent: int) -> list[str]:
    """The names in the tree that stand so far to the right, from the top to the ground."""
    text = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    lines = re.findall(rf"^ {{{indent}}}(\w\S*(?: \w\S*)*) {{2,}}", text, re.MULTILINE)
    return [name.removesuffix("/") for line in lines for name in line.split()]


ROOMS, SHELVES = tree(2), tree(4)
MODULES = {
    ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path
    for path in sorted(PACKAGE.rglob("*.py"))
}


def imports(path: Path) -> set[str]:
    """Every module, or name in a module, that a file imports, within functions too."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {each.name for each in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: imports are written in full"
            found |= {f"{node.module}.{each.name}" for each in node.names}
    return found


def part(module: str, place: int) -> str:
    """Part of a dotted name, counted from 0; empty beyond its end."""
    return [*module.split("."), "", "", ""][place]


@cache
def edges() -> set[tuple[str, str]]:
    """Pairs of a module and a name that it imports."""
    return {(module, name) for module, path in MODULES.items() for name in imports(path)}


@cache
def ours() -> set[tuple[str, str]]:
    return {(a, b) for a, b in edges() if part(b, 0) == "pruning_lit"}


def between_rooms() -> set[tuple[str, str]]:
    pairs = {(part(a, 1), part(b, 1)) for a, b in ours()}
    return {(a, b) for a, b in pairs if a != b and b in ROOMS}


def between_shelves() -> set[tuple[str, str]]:
    inside = {(a, b) for a, b in ours() if part(a, 1) == part(b, 1) == "channels"}
    pairs = {(part(a, 2), part(b, 2)) for a, b in inside if part(a, 2)}  # the face of the room shows all shelves
    assert "" not in {b for _, b in pairs}
    return {(a, b) for a, b in pairs if a != b}


def test_the_tree_of_the_documentation_has_every_room_and_no_other():
    assert sorted(ROOMS) == sorted({part(module, 1) for module in MODULES} - {""})
    assert len(ROOMS) > 15
    shelves = {part(module, 2) for module in MODULES if part(module, 1) == "channels"} - {""}
    assert sorted(SHELVES) == sorted(shelves)


def test_rooms_import_only_from_below():
    assert len(between_rooms()) > 40  # the reading works
    upwards = {(a, b) for a, b in between_rooms() if a and ROOMS.index(a) > ROOMS.index(b)}
    assert not upwards


def test_shelves_of_channels_import_only_from_below():
    assert len(between_shelves()) > 4
    upwards = {(a, b) for a, b in between_shelves() if SHELVES.index(a) > SHELVES.index(b)}
    assert not upwards


def test_no_module_outside_methods_imports_one():
    named = {(a, b) for a, b in ours() if part(b, 1) == "methods" and part(a, 1) != "methods"}
    assert not named


def test_methods_do_not_import_each_other():
    pairs = {(part(a, 2), part(b, 2)) for a, b in ours() if part(a, 1) == part(b, 1) == "methods" and part(a, 2)}
    assert {a for a, _ in pairs} >= {"chex", "resrep", "network_slimming"}
    assert not {(a, b) for a, b in pairs if a != b}


def test_channels_names_no_framework():
    assert not {(a, b) for a, b in edges() if part(a, 1) == "channels" and part(b, 0) in FRAMEWORKS}


@pytest.mark.slow
def test_importing_channels_loads_neither_lightning_nor_hydra():
    loaded = "import sys, pruning_lit.channels; print(sorted({name.partition('.')[0] for name in sys.modules}))"
    done = subprocess.run([sys.executable, "-c", loaded], capture_output=True, text=True, check=True)
    assert "'torch'" in done.stdout
    assert not [name for name in FRAMEWORKS if f"'{name}'" in done.stdout]
