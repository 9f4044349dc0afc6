"""The network that a config describes: a constructor by its dotted name, and its arguments."""

import inspect
from pkgutil import resolve_name
from typing import Any

from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf
from torch import nn

from pruning_lit.channels.artefact import TRUSTED_BUILDERS


def recipe(arch: DictConfig, num_classes: int | None) -> dict[str, Any]:
    """``_target_`` and arguments as plain data, with ``num_classes`` where the constructor takes it.

    Args:
        arch: the config.
        num_classes: what there is to tell apart; None: as many as the constructor has by default.

    Raises:
        ValueError: there is no such constructor.
    """
    settings = {str(key): value for key, value in OmegaConf.to_container(arch, resolve=True).items()}  # type: ignore[union-attr]
    if num_classes is not None and _takes_classes(_constructor(str(settings.get("_target_")))):
        settings["num_classes"] = num_classes
    return settings


def build(arch: DictConfig, num_classes: int | None) -> nn.Module:
    """Build the network, with fresh weights; arguments and errors are those of ``recipe``."""
    classes = {key: value for key, value in recipe(arch, num_classes).items() if key == "num_classes"}
    net = instantiate(arch, **classes)
    if not isinstance(net, nn.Module):
        raise ValueError(f"arch._target_={arch._target_} makes a {type(net).__name__}, expected a torch.nn.Module")
    return net


def own_call(arch: dict[str, Any]) -> str:
    """The call that builds a network of the user's own, ``mynet.Net(width=32)``; empty for those a file may name."""
    target = str(arch["_target_"])
    if target.startswith(TRUSTED_BUILDERS):
        return ""
    return f"{target}({', '.join(f'{key}={value!r}' for key, value in arch.items() if key != '_target_')})"


def _constructor(target: str) -> Any:
    try:
        return resolve_name(target)
    except (ImportError, AttributeError, ValueError) as error:
        raise ValueError(
            f"arch._target_={target} cannot be imported ({error}); "
            "expected the dotted name of a constructor, its module in the current folder or installed"
        ) from error


def _takes_classes(constructor: Any) -> bool:
    try:
        parameters = inspect.signature(constructor).parameters
    except (TypeError, ValueError):  # not callable, or built in: instantiate says so better
        return False
    kinds = {parameter.kind for parameter in parameters.values()}
    return "num_classes" in parameters or inspect.Parameter.VAR_KEYWORD in kinds
