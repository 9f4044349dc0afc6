"""Trust in classes and functions that somebody's file or config names."""

import inspect
from collections.abc import Callable, Iterable
from functools import reduce
from importlib import import_module
from typing import Any

BUILDERS = ("pruning_lit.models", "torchvision.models", "timm.create_model")  # a network file may name these only
BUILDERS_WRITTEN_IN = ("pruning_lit.models", "torchvision.models", "timm.models")


def within(name: str, names: Iterable[str]) -> bool:
    """True if a dotted name is one of ``names`` or lies in one, part by part: ``mynet.Net`` does not lie in ``my``."""
    return any(f"{name}.".startswith(f"{each}.") for each in names)


def trusted(target: str, names: Iterable[str], packages: Iterable[str]) -> Callable[..., Any] | None:
    """Class or function of that name, or None; nothing outside ``names`` is imported to find out.

    Args:
        target: dotted name, as written in a file or a config.
        names: what it has to be, or to lie in.
        packages: where it has to be written: ``pruning_lit.models.weights.torch.load`` only passes through ours, and
            what a module happens to import (a downloader, say) is not its own.
    """
    if not within(target, names) or any(part.startswith("_") for part in target.split(".")):
        return None
    module, _, name = target.rpartition(".")
    try:
        found = getattr(import_module(module), name)
        root, *parts = target.split(".")
        same = reduce(getattr, parts, import_module(root))  # the other way to read a dotted name, which is Hydra's
    except Exception:  # whatever an odd name leads to: there is nothing of that name
        return None
    if not inspect.isclass(found) and not inspect.isfunction(found):
        return None
    return found if found is same and within(str(found.__module__), packages) else None


def trusted_builder(target: str) -> Callable[..., Any] | None:
    """Builder of networks that may be called because a file names it, or None."""
    return trusted(target, BUILDERS, BUILDERS_WRITTEN_IN)
