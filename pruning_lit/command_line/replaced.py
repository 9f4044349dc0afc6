"""A typed choice, or a typed ``_target_``, in the place of another one: what was set for that one is not handed to it.

Experiments, methods and recipes set what their choices take: ``criterion: {augment: true}``, ``optimizer: {lr: 0.1}``.
Who types another choice gets it as its file has it; who types another method, so the criterion and the budget that it
brings.
"""

import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from omegaconf import DictConfig, OmegaConf, flag_override

from pruning_lit.system.atomic import write_text

GROUPS = ("arch", "criterion", "dataset", "optimizer", "schedule", "sparsity", "task")  # each file one constructor
LATER = ("length", "debug")  # groups that are meant to change what others say, and that are typed themselves
log = logging.getLogger("pruning_lit")


def settle(config: DictConfig, folder: Path) -> None:
    """Leave out what was replaced from the config of a command, also in the file that Hydra has written of it."""
    hydra = HydraConfig.get()
    places = [Path(each.path) for each in hydra.runtime.config_sources if each.schema == "file"]
    left_out = without_what_was_replaced(config, hydra.overrides.task, places, hydra.runtime.choices)
    if left_out and hydra.output_subdir is not None:
        with suppress(OSError):  # told where the command writes
            write_text(folder / hydra.output_subdir / "config.yaml", OmegaConf.to_yaml(config))


def without_what_was_replaced(
    config: DictConfig, words: Sequence[str], folders: Sequence[Path], chosen: Mapping[str, str]
) -> bool:
    """Leave out, in place, what others have set for a choice or constructor that the user has replaced; told in a line.

    Settings that other parts of the config refer to stay.

    Args:
        config: composed.
        words: overrides as typed.
        folders: of configs, for the files of the choices.
        chosen: name of the choice that is in force, by group.

    Returns:
        True if anything was left out.
    """
    typed = [OverridesParser.create().parse_override(word) for word in words if "=" in word]
    beside = {each.key_or_group: each.value() for each in typed}
    later = [_choice(group, beside[group], folders) for group in LATER if group in beside]
    kept = {each.key_or_group for each in typed} | {key for each in later for key in _keys(each)}
    inner = [(f"{each.key_or_group}.", each.value()) for each in typed]  # {…}, with settings of its own
    kept |= {key for above, value in inner if isinstance(value, dict) for key in _keys(value, above)}
    left_out = []
    for group in _exchanged(typed, folders):
        left_out += _restored(config, group, _choice(group, chosen[group], folders), kept)
    for override in typed:  # first, as other choices may be typed for their parts
        if override.key_or_group == "recipe" and override.package and isinstance(name := override.value(), str):
            left_out += _as_in_its_file(config, override.package, _choice("recipe", name, folders), kept)
            for settings in later if override.is_add() else ():  # Hydra composes what is added last
                own = settings.get(override.package, {})
                _as_in_its_file(config, override.package, own, {each.key_or_group for each in typed})
    for override in typed:
        key = override.key_or_group
        if key in GROUPS and isinstance(override.value(), str):
            left_out += _restored(config, override.package or key, _choice(key, override.value(), folders), kept)
        elif key.endswith("._target_") and (key.split(".")[-2] in GROUPS or key.startswith("logger.")):
            left_out += _restored(config, key.removesuffix("._target_"), {}, kept)
        elif key.split(".")[-1] in GROUPS and isinstance(own := override.value(), dict) and "_target_" in own:
            left_out += _restored(config, key, {}, kept)
    if left_out:
        log.info("left out, as it was set for what has been replaced: %s", ", ".join(left_out))
    return bool(left_out)


def own_targets(words: Sequence[str]) -> dict[str, str]:
    """Constructors that were typed in the place of a group's choice, by group; of two the later counts.

    Args:
        words: overrides as typed: ``criterion._target_=my.Criterion`` or ``criterion={_target_: my.Criterion}``.
    """
    targets: dict[str, str] = {}
    for override in (OverridesParser.create().parse_override(word) for word in words if "=" in word):
        group, _, rest = override.key_or_group.partition(".")
        value = override.value()
        if group in GROUPS and not rest and isinstance(value, dict):
            value, rest = value.get("_target_"), "_target_"
        if group in GROUPS and rest == "_target_" and value is not None:
            targets[group] = str(value)
    return targets


def _restored(config: DictConfig, place: str, own: dict[str, Any], kept: set[str]) -> list[str]:
    """Give a node the settings of its own choice, but for those that are kept, however deep; what has been left out."""
    node, left_out = OmegaConf.select(config, place), []
    if not isinstance(node, DictConfig):
        return []
    referred = str(OmegaConf.to_container(config, resolve=False))
    with flag_override(node, ["struct", "readonly"], False):
        for key, value in _plain(node).items():
            name = f"{place}.{key}"
            if (
                key.startswith("_")
                or f"${{{name}}}" in referred
                or any(f"{each}.".startswith(f"{name}.") for each in kept)
            ):
                continue
            if key not in own:
                del node[key]
            elif value != own[key]:
                node[key] = own[key]
            else:
                continue
            left_out.append(f"{name}={value}")
    return left_out


def _as_in_its_file(config: DictConfig, place: str, own: dict[str, Any], kept: set[str]) -> list[str]:
    """Give a recipe what its own file says, but for what is kept; what an experiment or a method had set there.

    What only these say, of a criterion in a callback say, stays: a recipe is made of many choices.
    """
    left_out = []
    for key, value in own.items():
        name = f"{place}.{key}"
        if isinstance(value, dict) and not key.startswith("_"):
            left_out += _as_in_its_file(config, name, value, kept)
        elif not any(f"{each}.".startswith(f"{name}.") for each in kept):
            node = OmegaConf.select(config, place)
            if isinstance(node, DictConfig) and key in node and (there := _plain(node)[key]) != value:
                with flag_override(node, ["struct", "readonly"], False):
                    node[key] = value
                left_out.append(f"{name}={there}")
    return left_out


def _exchanged(typed: Sequence[Override], folders: Sequence[Path]) -> list[str]:
    """Groups of which a typed method brings another choice than that of the experiment beside it."""
    named = {each.key_or_group: each.value() for each in typed}
    own = _brought("experiment", named.get("experiment"), folders)
    if not {"experiment", "method"} <= named.keys() or "method" not in own:
        return []
    before, now = (_brought("method", name, folders) for name in (own["method"], named["method"]))
    return [each for each in GROUPS if each not in own | named and before.get(each) != now.get(each)]


def _brought(group: str, name: Any, folders: Sequence[Path]) -> dict[str, str]:
    """Choices of other groups that a choice brings, those of what it builds on included."""
    brought: dict[str, str] = {}
    for each in _file(group, name, folders).get("defaults", []):
        if isinstance(each, dict):
            brought |= {key.removeprefix("override /"): value for key, value in each.items()}
        elif each != "_self_":
            brought |= _brought(group, each, folders)
    return brought


def _choice(group: str, name: Any, folders: Sequence[Path]) -> dict[str, Any]:
    """Settings in the file of a choice, with those of the choices of its group that it builds on."""
    settings = _file(group, name, folders)
    for each in settings.pop("defaults", []):
        if isinstance(each, str) and each != "_self_":
            settings = _choice(group, each, folders) | settings
    return settings


def _file(group: str, name: Any, folders: Sequence[Path]) -> dict[str, Any]:
    """Content of the file of a choice; empty where there is none."""
    files = (folder / group / f"{name}.yaml" for folder in folders)
    return next((_plain(OmegaConf.load(file)) for file in files if file.is_file()), {})


def _plain(node: Any) -> dict[str, Any]:
    settings = OmegaConf.to_container(node, resolve=False)
    return {str(key): value for key, value in settings.items()} if isinstance(settings, dict) else {}


def _keys(settings: dict[str, Any], above: str = "") -> Iterator[str]:
    for key, value in settings.items():
        yield f"{above}{key}"
        if isinstance(value, dict):
            yield from _keys(value, f"{above}{key}.")
