"""``python -m pruning_lit.inspect``: look before you prune. Config -> network -> channel groups -> what a cut would do.

Nothing is trained and no images are read. The command line is that of a run, so that ``.inspect`` can be put into it.
"""

from pruning_lit.system.preemption import begun_as, leave_when_asked

if begun_as(__name__):
    leave_when_asked("pruning_lit.inspect")

from pathlib import Path

from omegaconf import DictConfig

from pruning_lit.command_line.command import command
from pruning_lit.system.loading import loading


def _run(config: DictConfig, folder: Path) -> None:
    with loading():  # late: --help and refusals do without torch
        from pruning_lit.runs.inspection import inspect
    inspect(config, folder)


def main() -> None:
    """Entry point of the command line."""
    command("inspect", _run)


if __name__ == "__main__":
    main()
