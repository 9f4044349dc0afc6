"""Former names of config keys and of what a ``_target_`` may name, each with its present one.

Typed, or in a config of one's own, a former name is answered with the present one. What a former run has left in its
folder (overrides, the settings in checkpoints, the config of its data) is read under the present names.
"""

import json
import re
from collections.abc import Iterable, Iterator
from typing import Any

from omegaconf import DictConfig, OmegaConf

Path = tuple[str, ...]  # of a setting: the parts of its key

#: Config keys, or their last parts: ``sparsity.rate`` is also that of ``finetune.callbacks.prune.sparsity``.
KEYS: dict[str, str] = {
    "criterion.bn_mode": "criterion.statistics",
    "criterion.deciders": "criterion.reference_layers",
    "parameters.decay_shifts": "parameters.decay_norm_biases",
    "sparsity.convention": "sparsity.macs_convention",
    "logger._target_": "logger.tensorboard._target_",
    "logger.default_hp_metric": "logger.tensorboard.default_hp_metric",
    "fit_to": "auto_pace",
    "gradient_reset.pull": "gradient_reset.lasso_strength",
    "masks.force_masked": "masks.remove_masked",
    "masks.norms": "masks.fold_norms",
    "sparsify.pull": "sparsify.l1_strength",
}

#: Values that are called otherwise, by the present key, or its last parts.
VALUES: dict[str, dict[Any, Any]] = {
    "criterion.statistics": {"eval": "running", "train": "batch"},
    "sparsity.macs_convention": {True: "exact", "true": "exact"},
    "sparsity.rule": {"reference": "slimming"},
    "auto_pace": {"epochs": True, None: False},
    "fold_norms": {"fold": "compacted", "keep": "none", "fold_all": "all"},
}

#: Values that are several settings now, by the key at the top that had them.
SPLIT: dict[str, dict[Any, dict[str, Any]]] = {
    "channel_scatter": {"masked": {"channel_scatter": True, "remove_scatters": True}}
}

#: Keys that are no more, by their last parts, with the value that did what is always done now.
GONE: dict[str, Any] = {
    "stages.reentry_momentum": "zero",
}

#: Keys, or their last parts, that former runs did not have, with the value that does what they did.
SINCE: dict[str, Any] = {
    "remove_scatters": False,
}

#: Dotted names of classes and functions.
TARGETS: dict[str, str] = {
    "pruning_lit.callbacks.ExplorationStages": "pruning_lit.methods.chex.ExplorationStages",
    "pruning_lit.callbacks.RowMasks": "pruning_lit.methods.resrep.RowMasks",
    "pruning_lit.callbacks.ScaleMonitor": "pruning_lit.methods.network_slimming.ScaleMonitor",
    "pruning_lit.criteria.CompactorNorm": "pruning_lit.methods.resrep.CompactorNorm",
    "pruning_lit.phases.Exploration": "pruning_lit.methods.chex.Exploration",
    "pruning_lit.phases.GradientReset": "pruning_lit.methods.resrep.GradientReset",
    "pruning_lit.phases.SparsityTraining": "pruning_lit.methods.network_slimming.SparsityTraining",
    "pruning_lit.report.Stopwatch": "pruning_lit.measure.Stopwatch",
    "pruning_lit.report.SweepSummary": "pruning_lit.sweeps.SweepSummary",
}


def require_present_names(words: Iterable[str]) -> None:
    """Refuse overrides with a former name: ValueError with the present one."""
    for word in words:
        if several := _split_word(word):
            raise ValueError(f"{word} has another name now: {' '.join(several)}")
        now = present_word(word)
        if now is None or _is_gone(_path(word)):
            raise ValueError(f"{word}: there is no such setting any more, leave it out")
        if now != word:
            raise ValueError(f"{word} has another name now: {now}")


def require_present_settings(config: DictConfig) -> None:
    """Refuse a composed config with a former name, from a file of one's own: ValueError with the present one."""
    for path, value in _leaves(OmegaConf.to_container(config, resolve=False)):
        key, now = ".".join(path), _renamed(path)
        told = f"{key}={_typed(value)}" if isinstance(value, str) else key
        if several := _split_word(told):
            raise ValueError(f"{told} has another name now: {' '.join(several)}")
        if _is_gone(now):
            raise ValueError(f"{key}: there is no such setting any more, leave it out")
        renamed = _value(now, value)
        is_same = repr(renamed) == repr(value)  # NaN, too
        if now != path or not is_same:
            end = "" if is_same else f"={_typed(renamed)}"
            raise ValueError(f"{told if end else key} has another name now: {'.'.join(now)}{end}")


def present_word(word: str) -> str | None:
    """Override under its present names; None where it only sets to what is always done now."""
    path = _path(word)
    if not path:  # an option, such as -m
        return word
    now, value = _renamed(path), word.partition("=")[2]
    if any(_ends(now, gone) and value == _typed(default) for gone, default in GONE.items()):
        return None
    for key, values in VALUES.items():
        if _ends(now, key):
            texts = {_typed(old): _typed(new) for old, new in values.items()}
            value = ",".join(texts.get(each, each) for each in value.split(","))  # several in a sweep
    for old, new in TARGETS.items():
        value = re.sub(rf"(?<![\w.]){re.escape(old)}(?![\w.])", new, value)
    signs = word[: len(word) - len(word.lstrip("+~"))]
    return f"{signs}{'.'.join(now)}{'=' if '=' in word else ''}{value}"


def present_words(words: Iterable[str]) -> list[str]:
    """Overrides of a former run under their present names."""
    return [now for word in words for each in _split_word(word) or [word] if (now := present_word(each)) is not None]


def present_settings(settings: dict[str, Any]) -> dict[str, Any]:
    """Resolved settings of a former run, plain nested data, under their present names."""
    tree: dict[str, Any] = {}
    flat = {path: value for leaf in _leaves(settings) for path, value in _split(*leaf)}
    for path, value in flat.items():
        now = _renamed(path)
        if not any(_ends(now, gone) and value == default for gone, default in GONE.items()):
            node = tree
            for name in now[:-1]:
                node = node.setdefault(name, {})
            node[now[-1]] = _value(now, value)
    for key, value in SINCE.items():
        above, _, name = key.rpartition(".")
        for path, node in [((), tree), *_branches(tree)] if above else [((), tree)]:
            if not above or _ends(path, above):
                node.setdefault(name, value)
    return tree


def _split(path: Path, value: Any) -> list[tuple[Path, Any]]:
    """A setting, or the several that it is now."""
    several = SPLIT.get(path[0], {}).get(value) if len(path) == 1 and isinstance(value, str) else None
    return [(path, value)] if several is None else [((key,), each) for key, each in several.items()]


def _split_word(word: str) -> list[str]:
    """The overrides that one is now; none where it is one."""
    key, _, value = word.lstrip("+").partition("=")
    return [f"{now}={_typed(each)}" for now, each in SPLIT.get(key, {}).get(value, {}).items()]


def _path(word: str) -> Path:
    """Parts of an override's key, without signs."""
    return () if word.startswith("-") else tuple(word.lstrip("+~").partition("=")[0].split("."))


def _renamed(path: Path) -> Path:
    for old, new in KEYS.items():
        parts = tuple(old.split("."))
        for start in range(len(path) - len(parts) + 1):
            if path[start : start + len(parts)] == parts:
                path = (*path[:start], *new.split("."), *path[start + len(parts) :])
                break
    return path


def _value(path: Path, value: Any) -> Any:
    """A value of a setting; also in lists, and of every ``_target_`` in them."""
    if isinstance(value, list):
        return [_value(path, each) for each in value]
    if isinstance(value, dict):
        return {key: _value((*path, str(key)), each) for key, each in value.items()}
    for key, values in VALUES.items():
        for old, new in values.items():
            if _ends(path, key) and type(value) is type(old) and value == old:
                return new
    return TARGETS.get(value, value) if path[-1] == "_target_" else value


def _ends(path: Path, key: str) -> bool:
    parts = tuple(key.split("."))
    return path[-len(parts) :] == parts


def _is_gone(path: Path) -> bool:
    return any(_ends(_renamed(path), key) for key in GONE)


def _leaves(node: Any, path: Path = ()) -> Iterator[tuple[Path, Any]]:
    """Paths and values of all that is no mapping, or an empty one."""
    if not isinstance(node, dict) or not node:
        yield path, node
        return
    for key, value in node.items():
        yield from _leaves(value, (*path, str(key)))


def _branches(node: dict[str, Any], path: Path = ()) -> Iterator[tuple[Path, dict[str, Any]]]:
    for key, value in node.items():
        if isinstance(value, dict):
            yield (*path, key), value
            yield from _branches(value, (*path, key))


def _typed(value: Any) -> str:
    """A plain value as it is typed."""
    return value if isinstance(value, str) else json.dumps(value)
