"""Record of the command by which a run was begun, ``.hydra``: the settings of a command that is refused stay out of it.

Hydra writes the files anew at every start, before anybody can look at the old ones; data and task of a finished network
are read from there.
"""

from pathlib import Path

from hydra.core.hydra_config import HydraConfig

from pruning_lit.system.atomic import write_text

FOLDER = ".hydra"
FILES = ("config.yaml", "hydra.yaml", "overrides.yaml")
ACCEPTED = "accepted"  # in the folder: the files of the last command that was accepted

_held_back: dict[Path, dict[str, str]] = {}


def hold_back(folder: Path) -> None:
    """Put the record of the last command that was accepted in a run's folder back, where there is one."""
    record = folder / FOLDER
    if HydraConfig.get().output_subdir is None or not (accepted := _texts(record / ACCEPTED)):
        return
    _held_back[folder] = _texts(record)
    _write(record, accepted)


def accept(folder: Path) -> None:
    """Let the present command be the one by which the run goes on, see ``hold_back``."""
    record = folder / FOLDER
    if held := _held_back.pop(folder, None):
        _write(record, held)
    if HydraConfig.initialized() and HydraConfig.get().output_subdir is not None and (present := _texts(record)):
        _write(record / ACCEPTED, present)


def _texts(folder: Path) -> dict[str, str]:
    files = [folder / name for name in FILES]
    return {file.name: file.read_text(encoding="utf-8") for file in files if file.is_file()}


def _write(folder: Path, texts: dict[str, str]) -> None:
    folder.mkdir(exist_ok=True)
    for name, text in texts.items():
        write_text(folder / name, text)
