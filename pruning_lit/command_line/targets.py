"""Permission of targets: every ``_target_`` of a config is looked at before anything is imported or built.

A config comes from many hands (experiments, folders of runs, pasted commands), so it may only name what cannot do harm;
code of one's own is allowed by name, on the command line: ``allow_targets=mynet``.
"""

import re
import sys
from collections.abc import Iterable, Iterator, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from omegaconf import Container, DictConfig, ListConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from pruning_lit.system.trusted import is_trusted, within

KEY = "allow_targets"
TYPED = re.compile(rf"\+{{0,2}}{KEY}=")
ROOMS = (
    "pruning_lit.callbacks",
    "pruning_lit.criteria",
    "pruning_lit.data",
    "pruning_lit.methods",
    "pruning_lit.models",
    "pruning_lit.phases",
    "pruning_lit.sparsity",
    "pruning_lit.tasks",
)
LIGHTNING = (
    "pytorch_lightning.callbacks",
    "pytorch_lightning.loggers",
    "pytorch_lightning.plugins",
    "pytorch_lightning.profilers",
    "pytorch_lightning.strategies",
)
NAMES = (
    *ROOMS,
    "pruning_lit.measure.Stopwatch",  # not all of the room: parts of it write files wherever they are told to
    "torch.nn",
    "torch.optim",
    "torchvision.models",
    "timm.create_model",
    "pytorch_lightning.Trainer",
    *LIGHTNING,
)
WRITTEN_IN = (
    *ROOMS,
    "pruning_lit.measure.stopwatch",
    "torch.nn",
    "torch.optim",
    "torchvision.models",
    "timm.models",
    "pytorch_lightning.trainer",
    *LIGHTNING,
    "lightning_fabric.plugins",
)
NOT_ONES_OWN = {name.partition(".")[0] for name in (*NAMES, *WRITTEN_IN)} | {"hydra", "omegaconf", "numpy", "scipy"}
MAY = "pruning_lit, torch.nn, torch.optim, torchvision.models, timm.create_model and Lightning's trainer and its parts"


def require_allowed(config: DictConfig, allowed: Sequence[str] = ()) -> None:
    """Refuse a config that names a class or function it may not call.

    What allows a name is put into a user's mouth only where it lies in the current folder: the config may be somebody
    else's, and what it wants to call anything.

    Args:
        config: composed; interpolations are followed, and what is missing is left to whom it is missed by.
        allowed: packages, modules, or dotted names in full, which the user allows, see ``names_allowed``.

    Raises:
        ValueError: naming keys and targets, and what has to be typed to allow them.
    """
    keys: dict[str, str] = {}  # by target: the shortest of the keys that lead to it
    for key, target in _targets(config):
        if not within(target, allowed) and len(key) < len(keys.get(target, key + ".")):
            keys[target] = key
    refused = [target for target in keys if not is_trusted(target, NAMES, WRITTEN_IN)]
    if refused:
        told = ", ".join(f"{keys[target]}={target}" for target in refused)
        needed = ",".join(dict.fromkeys([*allowed, *(_root(target) for target in refused)]))
        mended = f"add {KEY}=[{needed}]" if all(map(lies_here, refused)) else f"allow it by its full name, {KEY}=[…]"
        raise ValueError(
            f"{told}: a config may by itself name only classes and functions that are written in {MAY}; correct the "
            f"name, or, if you trust what it names, {mended}"
        )


def names_allowed(value: Any) -> list[str]:
    """Value of ``allow_targets`` as a list; ValueError unless these are dotted names."""
    names = list(value) if isinstance(value, list | tuple | ListConfig) else [value] if value is not None else []
    for name in names:
        if not isinstance(name, str) or not all(part.isidentifier() for part in name.split(".")):
            raise ValueError(f"{KEY} lists packages, modules, classes or functions, as in {KEY}=[mynet]; got {name!r}")
    return names


def typed(words: Iterable[str]) -> list[str]:
    """Overrides that allow targets; only typed ones count, whatever files say."""
    return [word for word in words if TYPED.match(word)]


def allowed(config: DictConfig, words: Iterable[str]) -> list[str]:
    """Packages, modules and names that the user of a command allows.

    Args:
        config: with ``allow_targets``.
        words: overrides as typed; without that one among them nothing is allowed.
    """
    return names_allowed(config.get(KEY)) if typed(words) else []


def permission(targets: Iterable[str]) -> str | None:
    """Permission to add to a command so that a file may name these targets of the user's own: ``allow_targets=mynet``.

    None where one is no code of the user's own, which no network or data set of a file needs.
    """
    targets = list(targets)
    needed = list(dict.fromkeys(map(_root, targets)))
    if not all(map(lies_here, targets)):
        return None
    return f"{KEY}={','.join(needed)}" if len(needed) == 1 else f"'{KEY}=[{','.join(needed)}]'"


def lies_here(target: str) -> bool:
    """True for a name of the user's own code: its module lies in the current folder, or nowhere yet."""
    root = _root(target)
    if root in NOT_ONES_OWN or root in sys.stdlib_module_names:
        return False
    try:
        spec = find_spec(root)
    except (ImportError, ValueError):  # no name of a module, or one that was made by hand
        return False
    if spec is None:
        return True
    folders = spec.submodule_search_locations or []  # of a package
    files = [Path(each) for each in (*folders, *[spec.origin] * (not folders)) if each is not None]
    return any(each.absolute().parent == Path.cwd() for each in files)


def _root(target: str) -> str:
    return target.partition(".")[0]


def _targets(node: Container, at: str = "") -> Iterator[tuple[str, str]]:
    """Keys and values of every ``_target_``, however deep."""
    for key in range(len(node)) if isinstance(node, ListConfig) else node:
        place = f"{at}.{key}" if at else str(key)
        try:
            value = None if OmegaConf.is_missing(node, key) else node[key]
        except OmegaConfBaseException:  # leads to what is missing; told where it is used
            continue
        if isinstance(value, dict | list):  # made by a resolver, such as oc.decode
            value = OmegaConf.create(value)
        if isinstance(value, DictConfig | ListConfig):
            yield from _targets(value, place)
        elif isinstance(value, str) and "${" in value:  # escaped; what builds resolves once more, to whatever it likes
            raise ValueError(f"{place} is the text {value!r}: a config's text may not contain ${{")
        elif key == "_target_" and isinstance(value, str):
            yield place, value
