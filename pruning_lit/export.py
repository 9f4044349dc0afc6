"""``python -m pruning_lit.export path=…``: a network in the formats that other programs run."""

from pruning_lit.system.preemption import begun_as, leave_when_asked

if begun_as(__name__):
    leave_when_asked("pruning_lit.export")

from pathlib import Path

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

from pruning_lit.command_line.command import command
from pruning_lit.command_line.paths import as_list, named_paths
from pruning_lit.command_line.targets import allowed
from pruning_lit.system.loading import loading


def _run(config: DictConfig, folder: Path) -> None:
    """Export the network that the config names, and tell how exact the files are and how fast they run."""
    with loading():  # late: --help and refusals do without torch
        from pruning_lit.runs.deployment import export_and_measure
    paths = named_paths(config.path, "the folder of a run or a network file")
    if len(paths) > 1:
        raise ValueError(f"path= takes one network to export, got {', '.join(paths)}")
    export_and_measure(config, paths[0], allowed(config, HydraConfig.get().overrides.task))


def in_hydras_words(words: list[str]) -> list[str]:
    """Turn ``path=a`` and ``format=onnx,pt2`` into lists; ``dataset.root=…`` alone changes the data set of the run."""
    chosen = any(word.startswith(("dataset=", "+dataset=")) for word in words)
    words = [f"++{word}" if word.startswith("dataset.") and not chosen else word for word in words]
    return [as_list(as_list(as_list(word), "format"), "keep_float") for word in words]


def main() -> None:
    """Entry point of the command line."""
    command("export", _run, in_hydras_words)


if __name__ == "__main__":
    main()
