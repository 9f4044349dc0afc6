"""``python -m pruning_lit.predict path=… images=…``: objects in images, or their classes, by a finished network."""

from pruning_lit.system.preemption import begun_as, leave_when_asked

if begun_as(__name__):
    leave_when_asked("pruning_lit.predict")

from pathlib import Path

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

from pruning_lit.command_line.command import command
from pruning_lit.command_line.paths import as_list
from pruning_lit.command_line.targets import allowed
from pruning_lit.system.loading import loading


def _run(config: DictConfig, folder: Path) -> None:
    with loading():  # late: --help and refusals do without torch
        from pruning_lit.runs.prediction import predict
    predict(config, folder, allowed(config, HydraConfig.get().overrides.task))


def main() -> None:
    """Entry point of the command line."""
    command("predict", _run, lambda words: [as_list(word) for word in words])


if __name__ == "__main__":
    main()
