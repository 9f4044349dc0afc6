"""Trust in what a file says of the network in it, of its images and its task: code of one's own has to be allowed."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf
from torch import nn

from pruning_lit.command_line.targets import permission
from pruning_lit.runs.builder import build, own_call
from pruning_lit.system.source import read
from pruning_lit.system.trusted import within

Arch = Mapping[str, Any]
DATA, TASKS = "pruning_lit.data", "pruning_lit.tasks"


def user_built(
    stated: Mapping[str, Any], given: Mapping[str, Any] | None, file: Path, allowed: Sequence[str] = ()
) -> nn.Module | None:
    """The dense network to be filled, by a builder the user has named or allowed; None: the file names one that it may.

    Args:
        stated: what the file says of its builder; of one that is not allowed only the number of classes is used.
        given: what the user says.
        file: for the error.
        allowed: packages, modules or full names that the user allows.

    Raises:
        ValueError: there is no builder, it does not fit, or the file names one that only a user may.
    """
    if given is not None:
        if not isinstance(given, Mapping) or "_target_" not in given:
            raise ValueError(
                "arch._target_=… has to name the builder of the network, such as "
                "arch._target_=mynet.Net allow_targets=mynet"
            )
        return build(OmegaConf.create(dict(given)), None if "num_classes" in given else _num_classes(stated))
    if "_target_" not in stated:
        raise ValueError(
            f"{str(file)!r} does not say how to build its network: add arch._target_=my.module.Net allow_targets=my"
        )
    if not own_call(dict(stated)):
        return None
    arguments = {key: value for key, value in stated.items() if key != "num_classes"}
    unknown = [target for target in _targets(arguments) if not within(target, allowed)]
    wanted = f"wants to be built by {stated['_target_']}"
    _require_known(unknown, arguments, file, wanted, "network", "arch._target_=mynet.Net")
    return build(OmegaConf.create(arguments), _num_classes(stated))


def _num_classes(stated: Mapping[str, Any]) -> int | None:
    num_classes = stated.get("num_classes")
    return num_classes if isinstance(num_classes, int) else None


def needs_builder(arch: Arch) -> bool:
    """Return true where a user has to say how the network is built, or to allow it: the file does not, or may not."""
    return "_target_" not in arch or bool(own_call(dict(arch)))


def trusted_dataset(config: Any, file: Path, allowed: Sequence[str] = ()) -> dict[str, Any]:
    """The config of a data set as a file has it.

    Raises:
        ValueError: it names other code than the data sets in here and what the user allows.
    """
    wanted = f"wants its images to be read by {config.get('_target_')}"
    return _trusted(dict(config), DATA, file, allowed, wanted, "images", "dataset=…")


def trusted_task(config: Any, file: Path, allowed: Sequence[str] = ()) -> dict[str, Any]:
    """The config of a task as a file has it.

    Raises:
        ValueError: it names other code than the tasks in here and what the user allows.
    """
    settings = {key: value for key, value in dict(config).items() if key != "_partial_"}
    return _trusted(settings, TASKS, file, allowed, f"names the task {settings.get('_target_')}", "task", "task=…")


def _trusted(
    settings: dict[str, Any], room: str, file: Path, allowed: Sequence[str], wanted: str, what: str, mended: str
) -> dict[str, Any]:
    """The settings, if they are values alone and build a class that the room shows, or only call what is allowed."""
    first = str(settings.get("_target_"))
    unknown = [first] if not (_is_shown(room, first) or within(first, allowed)) else []
    nested = list(_targets({name: value for name, value in settings.items() if name != "_target_"}))
    unknown += [target for target in nested if not within(target, allowed)]
    _require_known(unknown, settings, file, wanted, what, mended)
    return settings


def _require_known(
    unknown: Sequence[str], settings: Mapping[str, Any], file: Path, wanted: str, what: str, mended: str
) -> None:
    """Refuse settings of a file that name unknown targets, or that are not values alone.

    Args:
        unknown: targets that are neither of ours nor allowed.
        settings: all that the file says.
        file: for errors.
        wanted: what the file wants, in words.
        what: what its settings describe.
        mended: what says the same on the command line.
    """
    if unknown:
        allow = permission(unknown)
        mended = f"if you trust it, add {allow}" if allow else f"add {mended}"
        raise ValueError(f"{str(file)!r} {wanted}, and no file runs code of your own by itself: {mended}")
    if "${" in str(settings):  # a file's config is resolved already; resolved once more, text can become a target
        raise ValueError(f"{str(file)!r} describes its {what} by interpolations, not by values: add {mended}")


def _targets(settings: Any) -> Iterator[str]:
    """Names of all that plain settings call, however deep, the outermost first."""
    if isinstance(settings, Mapping):
        if "_target_" in settings:
            yield str(settings["_target_"])
        for value in settings.values():
            yield from _targets(value)
    elif isinstance(settings, list | tuple):
        for value in settings:
            yield from _targets(value)


def _is_shown(room: str, target: str) -> bool:
    """True for a class that a room of ours shows."""
    package, _, name = target.rpartition(".")
    module = read(room)
    return package == room and module is not None and module.exports(name)
