"""Loggers of a phase: any number of them, by names of one's own, each with a place in the folder of the run."""

import inspect
import re
from pathlib import Path
from typing import Any

from hydra.errors import InstantiationException
from hydra.utils import instantiate
from omegaconf import DictConfig
from pytorch_lightning.loggers import CSVLogger, Logger, TensorBoardLogger

EVENT_FILES = "pruning_lit.callbacks.event_files.EventFiles"  # named, for not all runs have TensorBoard


def build_loggers(
    config: DictConfig, folder: Path, phase: str, primary: str, first_step: int = 0, begun_step: int = 0
) -> list[Logger]:
    """The loggers of a phase; none of them writes anything yet.

    Args:
        config: of the run.
        folder: of the run.
        phase: number and name.
        primary: name of the primary metric.
        first_step: optimizer steps of the phases before.
        begun_step: optimizer steps of this phase that are behind it already, where it goes on.

    Raises:
        ValueError: one of them cannot be built, or is none.
    """
    return [
        _built(name, item, _place(item, name, folder, f"{config.name} {phase}", phase, primary, first_step, begun_step))
        for name, item in (config.logger or {}).items()
        if item is not None  # logger.tensorboard=null leaves it out
    ]


def has_event_files(config: DictConfig) -> bool:
    """True if the run writes TensorBoard's files of its own."""
    return any(item and item.get("_target_") == EVENT_FILES for item in (config.logger or {}).values())


def _place(
    item: DictConfig, name: str, folder: Path, title: str, phase: str, primary: str, first_step: int, begun_step: int
) -> dict[str, Any]:
    """Arguments that tell a logger of the run, as far as its constructor takes them and the config does not."""
    make = instantiate(item, _partial_=True)
    kind = getattr(make, "func", None)
    if item.get("_target_") == EVENT_FILES:  # one curve over all phases
        told = {"save_dir": folder, "name": "", "version": "tensorboard", "primary": primary}
        return told | {"first_step": first_step, "begun_step": begun_step}
    if isinstance(kind, type) and issubclass(kind, CSVLogger | TensorBoardLogger):  # folders; what is there stays
        version = f"{phase}_from_{begun_step}" if begun_step else phase
        told = {"save_dir": folder, "name": name, "version": version}
    else:
        told = {"save_dir": folder, "root_dir": folder, "name": title, "run_name": title}
    taken = inspect.signature(kind or make).parameters
    return {key: value for key, value in told.items() if key in taken and key not in item}


def _built(name: str, item: DictConfig, told: dict[str, Any]) -> Logger:
    try:
        logger = instantiate(item, **told)
    except InstantiationException as error:
        if not isinstance(error.__cause__, ImportError):
            raise
        required = re.search(r"Requirement '([\w-]+)", str(error.__cause__))  # in Lightning's words
        package = required[1] if required else error.__cause__.name
        raise ValueError(f"logger.{name} needs a package that is not installed: pip install {package}") from error
    if not isinstance(logger, Logger):
        raise ValueError(f"logger.{name} makes a {type(logger).__name__}, expected a logger of Lightning's")
    return logger
