"""The network that a config describes: a constructor by its dotted name, and its arguments."""

import inspect
from collections.abc import Mapping
from pkgutil import resolve_name
from types import ModuleType
from typing import Any

from hydra.errors import HydraException, InstantiationException
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from torch import nn

from pruning_lit.system.one_line import in_one_line
from pruning_lit.system.trusted import trusted_builder

CLASSES = ("num_classes", "num_parts")  # how a constructor may call the number of what there is to tell apart


def constructor_call(arch: DictConfig, num_classes: int | None) -> dict[str, Any]:
    """``_target_`` and arguments as plain data, with the number of classes where the constructor takes it.

    Args:
        arch: the config.
        num_classes: what there is to tell apart; None: as many as the constructor has by default.

    Raises:
        ValueError: there is no such constructor.
    """
    settings = {str(key): value for key, value in OmegaConf.to_container(arch, resolve=True).items()}  # type: ignore[union-attr]
    constructor = _constructor(str(settings.get("_target_")))
    if num_classes is not None:
        settings |= dict.fromkeys(_names_of_classes(constructor), num_classes)
    return settings


def build(arch: DictConfig, num_classes: int | None) -> nn.Module:
    """Build the network, with fresh weights; arguments and errors are those of ``constructor_call``.

    Raises:
        ValueError: also where the constructor fails, or makes no network.
    """
    settings = constructor_call(arch, num_classes)
    try:
        net = instantiate(arch, **{key: value for key, value in settings.items() if key in CLASSES})
    except InstantiationException as error:
        cause = error.__cause__
        if cause is None or isinstance(cause, HydraException | OmegaConfBaseException):
            raise
        if not own_call(settings) and not isinstance(cause, TypeError):  # those tell themselves what does not fit
            raise
        taken = _signature(_constructor(str(settings["_target_"])))
        raise ValueError(f"arch: {_call(settings)} cannot be built{taken}: {in_one_line(cause)}") from error
    if not isinstance(net, nn.Module):
        raise ValueError(f"arch._target_={arch._target_} makes a {type(net).__name__}, expected a torch.nn.Module")
    return net


def own_call(arch: dict[str, Any]) -> str:
    """The call that builds a network of the user's own, ``mynet.Net(width=32)``; empty for those a file may name."""
    return _call(arch) if trusted_builder(str(arch["_target_"])) is None else ""


def _call(arch: Mapping[str, Any]) -> str:
    arguments = ", ".join(f"{key}={value!r}" for key, value in arch.items() if key != "_target_")
    return f"{arch['_target_']}({arguments})"


def _constructor(target: str) -> Any:
    try:
        constructor = resolve_name(target)
        if isinstance(constructor, ModuleType) and "." in target:  # a function may be called like the module it is in
            package, _, name = target.rpartition(".")
            constructor = getattr(resolve_name(package), name, constructor)
    except Exception as error:  # whatever the user's module raises while it is imported
        raise ValueError(
            f"arch._target_={target} cannot be imported: {in_one_line(error)}; "
            "expected the dotted name of a constructor, its module in the current folder or installed"
        ) from error
    if isinstance(constructor, ModuleType):
        example = f"{target}.{_network_in(constructor)}"
        raise ValueError(f"arch._target_={target} is a module; expected a constructor in it, such as {example}")
    if not callable(constructor):
        raise ValueError(
            f"arch._target_={target} is of type {type(constructor).__name__}; expected a class or a function"
        )
    return constructor


def _network_in(module: ModuleType) -> str:
    """The name of a network that is written in the module."""
    classes = [each for each in vars(module).values() if isinstance(each, type) and issubclass(each, nn.Module)]
    return next((each.__name__ for each in classes if each.__module__ == module.__name__), "Net")


def _signature(constructor: Any) -> str:
    try:
        return f" (it takes {inspect.signature(constructor)})"
    except (TypeError, ValueError):  # built in
        return ""


def _names_of_classes(constructor: Any) -> set[str]:
    """The one of ``CLASSES`` that the constructor takes, if any; of one that takes whatever comes, the first."""
    try:
        parameters = inspect.signature(constructor).parameters
    except (TypeError, ValueError):  # built in
        return set()
    named = parameters.keys() & set(CLASSES)
    kinds = {parameter.kind for parameter in parameters.values()}
    return named or ({CLASSES[0]} if inspect.Parameter.VAR_KEYWORD in kinds else set())
