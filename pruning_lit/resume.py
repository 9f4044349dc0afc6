"""``resume=<folder>``: the command that began a run, or a sweep, once more, in the same folder."""

import re
from pathlib import Path

from omegaconf import OmegaConf

MULTIRUN = ("-m", "--multirun")


def with_resume(arguments: list[str]) -> list[str]:
    """Replace ``resume=<folder>`` by the overrides the run or the sweep was begun with, and its further arguments.

    Of a sweep these are the launcher and whatever else Hydra was told. What is given beside ``resume=`` comes behind.

    Raises:
        FileNotFoundError: there is no such folder.
        ValueError: it is neither the folder of a run nor that of a sweep.
    """
    folders = [Path(word.removeprefix("resume=")) for word in arguments if word.startswith("resume=")]
    if not folders:
        return arguments
    folder = folders[-1]
    rest = [word for word in arguments if not word.startswith("resume=")]
    if not folder.is_dir():
        raise FileNotFoundError(f"resume={folder}: there is no such folder")
    if (run := folder / ".hydra" / "overrides.yaml").is_file():
        return [*_listed(run), *rest, f"hydra.run.dir={quoted(folder)}"]
    if (sweep := folder / "multirun.yaml").is_file():
        further = [word for word in rest if word not in MULTIRUN]
        return ["-m", *_begun_with(sweep), *further, f"hydra.sweep.dir={quoted(folder)}"]
    raise ValueError(
        f"resume={folder} is not the folder of a run or a sweep: it has no .hydra/overrides.yaml and no multirun.yaml"
    )


def _begun_with(sweep: Path) -> list[str]:
    """The overrides of a sweep, but where it is and that it is one."""
    task, hydra = (_listed(sweep, f"hydra.overrides.{each}") for each in ("task", "hydra"))
    return [*task, *(word for word in hydra if not re.match(r"\+*hydra\.(sweep\.dir|mode)=", word))]


def _listed(path: Path, key: str | None = None) -> list[str]:
    """A list of overrides in a file, or under a key of it; as typed, for ``${…}`` is for Hydra."""
    saved = OmegaConf.load(path)
    listed = OmegaConf.to_container(saved if key is None else OmegaConf.select(saved, key), resolve=False)
    assert isinstance(listed, list)
    return [str(word) for word in listed]


def quoted(folder: Path) -> str:
    """The folder as the value of an override: quoted where its name has signs that mean something there."""
    text = str(folder)
    return text if re.fullmatch(r"[\w./:+%@~-]+", text) else "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"
