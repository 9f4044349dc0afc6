"""``python -m pruning_lit.export path=…``: a network in the formats that other programs run."""

from pruning_lit.system.preemption import begun_as, leave_when_asked

if begun_as(__name__):
    leave_when_asked("pruning_lit.export")

from pathlib import Path

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf

from pruning_lit.command_line.command import command
from pruning_lit.command_line.paths import as_list, named_paths
from pruning_lit.command_line.targets import allowed
from pruning_lit.system.loading import loading


def _run(config: DictConfig, folder: Path) -> None:
    """Export the network that the config names, and tell how exact the files are."""
    with loading():  # late: --help and refusals do without torch
        from pruning_lit.runs.export import BATCHES, export
    paths = named_paths(config.path, "the folder of a run or a network file")
    if len(paths) > 1:
        raise ValueError(f"path= takes one network to export, got {', '.join(paths)}")
    formats = [config.format] if isinstance(config.format, str) else config.format
    plain = OmegaConf.to_container(config, resolve=True)
    assert isinstance(plain, dict)
    names = allowed(config, HydraConfig.get().overrides.task)
    for file, difference in export(paths[0], formats, plain["input_shape"], plain.get("arch"), names).items():
        sizes = " and ".join(map(str, BATCHES))
        kilobytes = file.stat().st_size // 1000
        print(f"{file}: {kilobytes} kB, differs by {difference:.1e} of the largest output (batches of {sizes})")


def in_hydras_words(words: list[str]) -> list[str]:
    """Turn ``path=a`` and ``format=onnx,pt2`` into lists."""
    return [as_list(as_list(word), "format") for word in words]


def main() -> None:
    """Entry point of the command line."""
    command("export", _run, in_hydras_words)


if __name__ == "__main__":
    main()
