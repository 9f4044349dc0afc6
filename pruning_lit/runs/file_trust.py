"""Trust in what a file says of the network in it, of its images and its task: a builder of one's own is not called."""

import json
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf
from torch import nn

from pruning_lit.command_line.targets import permission
from pruning_lit.runs.builder import build, own_call
from pruning_lit.system.source import read

Arch = Mapping[str, Any]
DATA, TASKS = "pruning_lit.data", "pruning_lit.tasks"


def user_built(stated: Mapping[str, Any], given: Mapping[str, Any] | None, file: Path) -> nn.Module | None:
    """The dense network to be filled, by the builder the user has named; None: the file names one that it may.

    Args:
        stated: what the file says of its builder; of an untrusted one nothing but the number of classes is used.
        given: what the user says.
        file: for the error.

    Raises:
        ValueError: there is no builder, it does not fit, or the file names one that only a user may.
    """
    if given is not None:
        if not isinstance(given, Mapping) or "_target_" not in given:
            raise ValueError(
                "arch._target_=… has to name the builder of the network, such as "
                "arch._target_=mynet.Net allow_targets=[mynet]"
            )
        num_classes = None if "num_classes" in given else stated.get("num_classes")
        return build(OmegaConf.create(dict(given)), num_classes if isinstance(num_classes, int) else None)
    if "_target_" not in stated:
        raise ValueError(
            f"{str(file)!r} does not say how to build its network: add arch._target_=my.module.Net allow_targets=[my]"
        )
    if own_call(dict(stated)):
        values = {key: value if isinstance(value, str) else json.dumps(value) for key, value in stated.items()}
        options = shlex.join(f"arch.{key}={value}" for key, value in values.items())
        raise ValueError(
            f"{str(file)!r} wants to be built by {stated['_target_']}, and no file runs code of your own by itself: "
            f"add {options}{permission(str(stated['_target_']))}"
        )
    return None


def needs_builder(arch: Arch) -> bool:
    """Return true where only a user can say how the network is built: the file does not, or may not."""
    return "_target_" not in arch or bool(own_call(dict(arch)))


def trusted_dataset(config: Any, file: Path) -> dict[str, Any]:
    """The config of a data set as a file has it; ValueError where it names other code than the data sets in here."""
    target = str(config.get("_target_"))
    wanted = f"wants its images to be read by {target}"
    mended = f"dataset=…, or dataset._target_=… with all its keys and {permission(target).strip()}"
    interpolated = "describes its images by interpolations, not by values: add dataset=…"
    return _trusted(dict(config), DATA, file, wanted, mended, interpolated)


def trusted_task(config: Any, file: Path) -> dict[str, Any]:
    """The config of a task as a file has it; ValueError where it names other code than the tasks in here."""
    settings = {key: value for key, value in dict(config).items() if key != "_partial_"}
    target = str(settings.get("_target_"))
    mended = f"task._target_={target} with its keys and {permission(target).strip()}"
    interpolated = "describes its task by interpolations, not by values: add task=…"
    return _trusted(settings, TASKS, file, f"names the task {target}", mended, interpolated)


def _trusted(
    settings: dict[str, Any], room: str, file: Path, wanted: str, mended: str, interpolated: str
) -> dict[str, Any]:
    """The settings, if they are values alone and build a class that the room shows; ValueError in the words given."""
    others = str({key: value for key, value in settings.items() if key != "_target_"})
    if not _is_shown(room, str(settings.get("_target_"))) or "_target_" in others:
        raise ValueError(f"{str(file)!r} {wanted}, and no file runs code of your own by itself: add {mended}")
    if "${" in others:  # a file's config is resolved already; resolved once more, text can become a target
        raise ValueError(f"{str(file)!r} {interpolated}")
    return settings


def _is_shown(room: str, target: str) -> bool:
    """True for a class that a room of ours shows."""
    package, _, name = target.rpartition(".")
    module = read(room)
    return package == room and module is not None and module.exports(name)
