"""``resume=<run folder>``: the command that began a run, once more, in the same folder."""

from pathlib import Path

from omegaconf import OmegaConf


def with_resume(arguments: list[str]) -> list[str]:
    """Replace ``resume=<folder>`` by the overrides the run was begun with; further arguments are added behind them.

    Raises:
        FileNotFoundError: there is no such folder.
        ValueError: it is not the folder of a run.
    """
    folders = [Path(word.removeprefix("resume=")) for word in arguments if word.startswith("resume=")]
    if not folders:
        return arguments
    folder = folders[-1]
    rest = [word for word in arguments if not word.startswith("resume=")]
    if not folder.is_dir():
        raise FileNotFoundError(f"resume={folder}: there is no such folder")
    saved = folder / ".hydra" / "overrides.yaml"
    if not saved.is_file():
        raise ValueError(f"resume={folder} is not the folder of a run: it has no .hydra/overrides.yaml")
    begun_with = OmegaConf.to_container(OmegaConf.load(saved), resolve=False)  # ${…} is for Hydra
    assert isinstance(begun_with, list)
    return [*map(str, begun_with), *rest, f"hydra.run.dir={folder}"]
