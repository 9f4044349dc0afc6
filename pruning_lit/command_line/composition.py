"""Errors of Hydra's composition, in one sentence each."""

import re
from collections.abc import Iterable, Iterator, Mapping
from difflib import get_close_matches
from typing import Any

from hydra.errors import ConfigCompositionException, MissingConfigException, OverrideParseException
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from pruning_lit.command_line.configs import choices, groups

BUDGETS = {
    "macs": "sparsity=macs sparsity.reduction",
    "channels": "sparsity=global sparsity.rule=slimming sparsity.rate",
}
LAUNCHERS = 'pip install "pruning_lit[sweeps]"'
SWEEPERS = {"optuna": "hydra-optuna-sweeper", "nevergrad": "hydra-nevergrad-sweeper", "ax": "hydra-ax-sweeper"}
COPIED = ("criterion", "sparsity", "distillation")  # groups to which recipes refer
PLACES = {  # groups of which a choice has a place of its own, with an example
    "recipe": "recipe@finetune=short",
    "optimizer": "optimizer@train.optimizer=adamw",
    "schedule": "schedule@train.schedule=cosine",
    "prune": "prune@finetune.callbacks.prune=published",
    "latency": "+latency=one_image",
}
TYPES = {"NoneType": "null", "int": "a number", "float": "a number", "bool": "true or false", "dict": "a mapping"}


def composition_error(error: BaseException) -> str | None:
    """Sentence for an error of reading overrides or composing configs; None for other errors."""
    if isinstance(error, MissingConfigException) and error.missing_cfg_file:
        if error.missing_cfg_file.startswith("hydra/launcher/"):
            name = error.missing_cfg_file.removeprefix("hydra/launcher/")
            return f"there is no launcher called {name!r}; joblib's and submitit's come by {LAUNCHERS}"
        if error.missing_cfg_file.startswith("hydra/sweeper/"):
            name = error.missing_cfg_file.removeprefix("hydra/sweeper/")
            package = SWEEPERS.get(name, SWEEPERS["optuna"] if name.startswith("sampler/") else None)
            mended = f"it comes by pip install {package}" if package else f"there are {', '.join(SWEEPERS)}"
            return f"there is no sweeper called {name!r}; {mended}"
        group, _, name = error.missing_cfg_file.partition("/")
        if not name:
            return f"there is no configuration called {group!r} among those of the package: leave --config-name out"
        return f"there is no {group} called {name!r}; {_budget(name) or f'there are {_listed(choices(group), name)}'}"
    text = " ".join(str(error).split())
    if isinstance(error, OverrideParseException):
        if not error.override.partition("=")[0].isascii():
            return f"cannot read {error.override!r}: names of settings have letters of ASCII only; values may have any"
        return (
            f"cannot read {error.override!r}: settings are written key=value without blanks around the sign, and "
            "values with brackets, braces, quotes or blanks in quotes for the shell, as in 'phases=[train,finetune]'"
        )
    if found := re.search(r"Could not override '([^'@]*)@([^']*)'", text):
        close = re.search(r"Did you mean to override (?:one of )?(.*?)\?", text)
        mended = f"perhaps {close[1]}" if close else "an experiment goes with methods of the same phases"
        return f"there is no {found[2]} in what has been chosen, for which {found[1]!r} could be chosen; {mended}"
    if found := re.search(r"Could not override '([^']*)'", text):
        return _unknown(found[1], error.__cause__)
    if found := re.search(r"Ambiguous value for argument '(.*?)' 1\.|Sweep parameters '(.*)' requires", text):
        word = found[1] or found[2]
        key, _, values = word.partition("=")
        listed = "" if key in (*groups(), "path") else f", or write one list as {key}=[{values}]"
        return f"{word} has several values: put -m in front for a run with each{listed}"
    if found := re.search(r"Config group override must be a string or a list. Got (\w+)", text):
        got = TYPES.get(found[1], found[1])
        return (
            f"a group (dataset, arch, method, …) takes the name of one of its choices, got {got}"
            "; a single setting has a key of its own, as in sparsity.reduction=0.5"
        )
    if found := re.search(r"Error merging override (.*)", text):
        return f"{found[1]} puts one kind in the place of another: settings with names, a list or a single value"
    if isinstance(error, ConfigCompositionException) and isinstance(error.__cause__, OmegaConfBaseException):
        return f"{text}: {' '.join(str(error.__cause__).split('full_key')[0].split())}"
    return None


def _budget(name: str) -> str:
    """The settings for a budget that has no choice of its own, such as ``macs_60``; empty for other names."""
    kind, _, gone = name.partition("_")
    if kind not in BUDGETS or not gone.isdecimal() or not 0 < int(gone) < 100:
        return ""
    return f"any share has a setting: {BUDGETS[kind]}={int(gone) / 100:g}"


def _listed(names: list[str], missed: str) -> str:
    """List the choices of a group; of many in folders those in the folder that was named, or the folders."""
    folders = [name.rpartition("/")[0] for name in names]
    within = [name for name, folder in zip(names, folders, strict=True) if folder and missed.startswith(folder)]
    tops = [f"{folder}/…" if folder else name for name, folder in zip(names, folders, strict=True)]
    return ", ".join(within or dict.fromkeys(tops))


def _unknown(key: str, cause: BaseException | None) -> str:
    """Sentence for an unknown setting, with those that it might be."""
    parent, missed = getattr(cause, "parent_node", None), str(getattr(cause, "full_key", None) or key)
    names = [str(each) for each in parent or {} if each not in ("_target_", "hydra")]
    above, _, last = missed.rpartition(".")
    unknown = f"there is no setting {key} in what has been chosen"
    if key == "resume":
        return "resume= goes with python -m pruning_lit and python -m pruning_lit.sensitivity, which can go on"
    if key in PLACES and parent is None:
        return f"a choice of the group {key} has a place of its own: {PLACES[key]}"
    if key.startswith("distillation.") and parent is not None and not names:
        return f"{unknown}; choose one first, as in distillation=logits"
    if "phases" in names:  # a run's own settings, to which its groups belong
        if meant := _ending_with(key, parent):
            return f"{unknown}; perhaps {' or '.join(meant)}"
        names = [*dict.fromkeys([*names, *groups(), "resume"])]
    if isinstance(parent, Mapping) and not names:
        if copied := re.fullmatch(rf".+?\.({'|'.join(COPIED)})\.(.+)", key):
            return f"{unknown}, where the phase has what the group {copied[1]} says: {copied[1]}.{copied[2]}=…"
        return f"{unknown}; a new name is added with +{key}=…"  # for names of one's own
    names = [each for each in names if each != last]
    if not names:
        return f"{unknown}: this command has no such group"
    return f"{unknown}; {perhaps(last, names, f'{above}.' if above else '')}"


def _ending_with(key: str, config: Any) -> list[str]:
    """Settings of phases that are called so at their end: ``train.optimizer.lr`` for ``lr``."""
    settings = OmegaConf.to_container(config, resolve=False)
    assert isinstance(settings, dict)
    nodes = {str(name): node for name, node in settings.items() if isinstance(node, dict)}
    phases = [name for name, node in nodes.items() if {"_target_", "epochs"} <= node.keys()]
    found = [f"{phase}.{each}" for phase in phases for each in _paths(nodes[phase])]
    ending = [path for path in found if path.endswith(f".{key}")]
    return [path for path in ending if path.count(".") == min(each.count(".") for each in ending)][:3]


def _paths(settings: Mapping[str, Any]) -> Iterator[str]:
    for key, value in settings.items():
        yield key
        if isinstance(value, dict):
            yield from (f"{key}.{each}" for each in _paths(value))


def require_single_choices(words: Iterable[str]) -> None:
    """Refuse a list of choices for a group but ``logger``: ValueError, as the last would overwrite the others.

    Args:
        words: overrides as typed.
    """
    for word in words:
        group, _, value = word.lstrip("+").partition("=")
        if group.partition("@")[0] in {*groups(), *PLACES} - {"logger"} and value.startswith("["):
            each = value.strip("[]")
            raise ValueError(f"{word}: a group takes one of its choices; a run with each is -m {group}={each}")


def perhaps(name: str, names: list[str], above: str = "") -> str:
    """Names that may have been meant, below ``above``; all of them where none is close."""
    close = get_close_matches(name, names, n=3, cutoff=0.5)
    return f"perhaps {' or '.join(above + each for each in close)}" if close else f"there are {', '.join(names)}"
