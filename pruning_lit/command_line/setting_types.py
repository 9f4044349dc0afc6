"""Types of settings, held against the constructors that take them before anything is read."""

import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from pruning_lit.command_line.class_facts import annotations
from pruning_lit.command_line.composition import perhaps

#: Constructors of others say nothing reliable about what they take.
PACKAGES = ("pruning_lit.", "torch.", "pytorch_lightning.")
#: Settings that belong to no constructor.
OF_THE_RUN: dict[str, Any] = {
    "name": str | int | float,
    "seed": int,
    "weights": str | None,
    "new_head": bool | None,
    "passes": int,
    "phases": str | Sequence[str],
    "channel_selection": bool,
    "channel_scatter": bool,
    "remove_scatters": bool,
    "on_nonfinite": str,
    "deterministic": bool,
    "shared": str | None,
    "objective": str | Sequence[str] | None,
    "callbacks": Mapping[str, Mapping],
    "logger": Mapping[str, Mapping],
    "calibration_images": int,
    "image_sides": Sequence[int],
    "checkpoint": Mapping,
    "latency": Mapping,
    "trainer": Mapping,
    "num_classes": int | None,
    "input_shape": Sequence[int] | None,
    "calibration": Mapping,
    "measure": bool,
    "keep_float": Sequence[str],
    "reduce_range": bool | None,
    "max_drop": float,
    "stop_at": float,
    "repo": str | None,
    "license": str | None,
    "base_model": str | None,
}
#: Settings of the group ``trainer`` that are not Lightning's.
TRAINER_ALSO: dict[str, Any] = {"threads": int | None}
WORDS = {
    int: "a whole number",
    float: "a number",
    bool: "true or false",
    str: "a text",
    NoneType: "null",
    Path: "a path",
    Any: "anything",
}
BUILT = "a configuration with a _target_"
#: Hydra's own keys beside a ``_target_``.
OF_HYDRA: dict[str, Any] = {"_partial_": bool, "_recursive_": bool, "_convert_": str, "_args_": Sequence}
HANDED_ON = {"pruning_lit.callbacks.event_files.EventFiles": "torch.utils.tensorboard.SummaryWriter"}  # other keywords
PLAIN = str | int | float | bool | Sequence


def require_types(config: DictConfig) -> None:
    """Hold every setting against the annotation of its parameter.

    Args:
        config: composed; what has no value yet is not looked at.

    Raises:
        ValueError: a setting is of another kind; named as the user would set it, so that what others are copied from
            comes before them.
    """
    run = [told for _, told in _misfits(config, "", OF_THE_RUN)]
    if not run and "checkpoint" in config:
        run = [told for _, told in _misfits(config.checkpoint, "checkpoint.", {"every_n_steps": int | None})]
    if wrong := run or [told for _, told in sorted(_below(config, ""), key=lambda each: each[0])]:
        raise ValueError(wrong[0])


def matches(value: Any, kind: Any) -> bool:
    """True if a plain value can be meant for a parameter with the annotation ``kind``; undecided means yes.

    Whole numbers are numbers, true and false are not. Of literals only the kind is compared: constructors know better
    how to name them.
    """
    origin, parts = get_origin(kind) or kind, get_args(kind)
    if origin in (Union, UnionType):
        return any(matches(value, part) for part in parts)
    if origin is Literal:
        return any(type(value) is type(part) for part in parts)
    if origin in (NoneType, None):
        return value is None
    if origin is float:
        return type(value) in (int, float) and not math.isnan(value)
    if origin in (int, bool, str):
        return type(value) is origin
    if not isinstance(origin, type):
        return True
    if issubclass(origin, Sequence | set):
        return isinstance(value, list) and all(matches(each, parts[0]) for each in value if parts)
    if issubclass(origin, Mapping):
        return isinstance(value, dict) and all(
            each is None or matches(each, parts[1]) for each in value.values() if parts
        )
    return origin is object or (value is not None and not isinstance(value, PLAIN))  # what is built comes as a mapping


def describe(kind: Any) -> str:
    """Describe an annotation in words, such as ``a whole number or null``."""
    origin, parts = get_origin(kind) or kind, get_args(kind)
    if origin in (Union, UnionType):
        words = list(dict.fromkeys(describe(part) for part in parts))
        plain = [word for word in words if word != BUILT and (word != WORDS[int] or WORDS[float] not in words)]
        plain = plain if set(plain) - {WORDS[NoneType]} else words
        return " or ".join(sorted(plain, key=lambda word: ", each" in word))  # lists last: null is none of their parts
    if origin is Literal:
        return " or ".join(_as_typed(part) for part in parts)
    if origin in WORDS:
        return WORDS[origin]
    if isinstance(origin, type) and issubclass(origin, Sequence | set):
        return f"a list, each {describe(parts[0])}" if parts else "a list"
    if isinstance(origin, type) and issubclass(origin, Mapping):
        return f"a mapping {{name: value}}, each value {describe(parts[1])}" if parts else "a mapping {name: value}"
    return BUILT


def _below(node: DictConfig, above: str) -> Iterator[tuple[bool, str]]:
    """Misfits of a node and of all that it holds itself."""
    kinds, all_of_them = _parameters(str(node.get("_target_", "")))
    unknown = [str(key) for key in node if str(key) not in kinds and not str(key).startswith("_")]
    for key in unknown if all_of_them else []:
        yield False, f"there is no setting {above}{key}; {perhaps(key, list(kinds), above)}"
    yield from _misfits(node, above, OF_HYDRA | kinds)
    for name, inner in node.items_ex(resolve=False):
        if isinstance(inner, DictConfig) and not inner._is_interpolation() and not inner._is_none():
            yield from _below(inner, f"{above}{name!s}.")


def _misfits(node: DictConfig, above: str, kinds: Mapping[str, Any]) -> Iterator[tuple[bool, str]]:
    """Settings of another type: each with a sentence, and true where it is copied from elsewhere."""
    for key, kind in kinds.items():
        if key not in node or OmegaConf.is_missing(node, key):
            continue
        try:
            value = node[key]
            value = OmegaConf.to_container(value, resolve=True) if OmegaConf.is_config(value) else value
        except OmegaConfBaseException:  # told where it is used
            continue
        if not matches(value, kind):
            yield OmegaConf.is_interpolation(node, key), _told(f"{above}{key}", value, kind)


def _told(name: str, value: Any, kind: Any) -> str:
    """Sentence on a misfit; of a mapping only on the entry that does not fit."""
    if get_origin(kind) in (dict, Mapping) and isinstance(value, dict) and (parts := get_args(kind)):
        key = next(key for key, each in value.items() if each is not None and not matches(each, parts[1]))
        return _told(f"{name}.{key}", value[key], parts[1])
    return f"{name} must be {describe(kind)}, got {_as_typed(value)}"


def _parameters(target: str) -> tuple[dict[str, Any], bool]:
    """Annotations of a constructor's parameters by name, as far as they are known, and true where these are all."""
    if not target.startswith(PACKAGES):
        return {}, False
    if target == "pytorch_lightning.Trainer":
        return annotations(target)[0] | TRAINER_ALSO, annotations(target)[1]
    if target in HANDED_ON:
        return annotations(target)[0] | annotations(HANDED_ON[target])[0], True
    return annotations(target)


def _as_typed(value: Any) -> str:
    words = {None: "null", True: "true", False: "false"}
    return words[value] if value is None or isinstance(value, bool) else repr(value)
