"""Folder of the configs, and their composition outside of a command."""

import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import hydra
from hydra._internal.hydra import Hydra
from omegaconf import DictConfig

from pruning_lit.command_line.quoting import readable
from pruning_lit.command_line.replaced import without_what_was_replaced

_HERE = Path(__file__).parents[1]
#: In a checkout they lie beside the package; in a wheel they are inside it.
CONF = _HERE / "conf" if (_HERE / "conf").is_dir() else _HERE.parent / "conf"


def choices(group: str) -> list[str]:
    """Names that can be chosen in a group, those in its folders included: ``chip/resnet56_cifar10_47``."""
    folder = CONF / group
    return sorted(path.relative_to(folder).with_suffix("").as_posix() for path in folder.rglob("*.yaml"))


def groups() -> list[str]:
    """Names of the groups from which a run chooses by name alone, in the order of ``conf/config.yaml``."""
    return re.findall(r"^  - (\w+):", (CONF / "config.yaml").read_text(encoding="utf-8"), re.MULTILINE)


def compose(*overrides: str) -> DictConfig:
    """Compose the config of a run in Python: ``compose("experiment=demo", "seed=2")``."""
    with hydra.initialize_config_dir(str(CONF), version_base="1.3"):
        words = [readable(word) for word in overrides]
        config = hydra.compose("config", words, return_hydra_config=True)
    without_what_was_replaced(config, words, [CONF], config.hydra.runtime.choices)
    return config


@contextmanager
def composed_once() -> Iterator[None]:
    """Let Hydra compose the package's configs once, which takes a part of a second.

    Before a run it composes them another time, only to find out whether a file sets ``hydra.mode``. None of ours does;
    where others may be in play, Hydra looks.
    """
    whole = Hydra.get_mode
    if not any(word.startswith(("--conf", "-c")) or "hydra.mode" in word or "searchpath" in word for word in sys.argv):
        Hydra.get_mode = lambda *_, **__: None  # type: ignore[method-assign]
    try:
        yield
    finally:
        Hydra.get_mode = whole  # type: ignore[method-assign]
