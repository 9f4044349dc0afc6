"""Trust in classes and functions that somebody's file or config names."""

from collections.abc import Callable, Iterable
from importlib import import_module
from typing import Any

from pruning_lit.system.source import find

BUILDERS = ("pruning_lit.models", "torchvision.models", "timm.create_model")  # a network file may name these only
BUILDERS_WRITTEN_IN = ("pruning_lit.models", "torchvision.models", "timm.models")


def within(name: str, names: Iterable[str]) -> bool:
    """True if a dotted name is one of ``names`` or lies in one, part by part: ``mynet.Net`` does not lie in ``my``."""
    return any(f"{name}.".startswith(f"{each}.") for each in names)


def is_trusted(target: str, names: Iterable[str], packages: Iterable[str]) -> bool:
    """True for the name of a class or function that may be called because somebody's file names it; imports nothing.

    Args:
        target: dotted name, as written in a file or a config.
        names: what it has to be, or to lie in.
        packages: where it has to be written: ``pruning_lit.models.weights.torch.load`` only passes through ours, and
            what a module happens to import (a downloader, say) is not its own.
    """
    if not within(target, names) or any(part.startswith("_") for part in target.split(".")):
        return False
    definition = find(target)
    return definition is not None and within(definition.module.name, packages)


def trusted(target: str, names: Iterable[str], packages: Iterable[str]) -> Callable[..., Any] | None:
    """Import the class or function of that name; None unless it ``is_trusted``, or where it cannot be imported."""
    if not is_trusted(target, names, packages):
        return None
    module, _, name = target.rpartition(".")
    try:
        return getattr(import_module(module), name)
    except (ImportError, AttributeError):
        return None


def trusted_builder(target: str) -> Callable[..., Any] | None:
    """Builder of networks that may be called because a file names it, or None."""
    return trusted(target, BUILDERS, BUILDERS_WRITTEN_IN)
