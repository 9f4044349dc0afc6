"""``python -m pruning_lit.sensitivity weights=…``: what is lost when a group of channels gets narrower.

Nothing is trained. The command line is that of a run, so that ``.sensitivity`` can be put into it.
"""

from pruning_lit.system.preemption import begun_as, leave_when_asked

if begun_as(__name__):
    leave_when_asked("pruning_lit.sensitivity")

from pathlib import Path

from omegaconf import DictConfig

from pruning_lit.command_line.command import command
from pruning_lit.system.loading import loading


def _run(config: DictConfig, folder: Path) -> None:
    with loading():  # late: --help and refusals do without torch
        from pruning_lit.runs.sensitivity import measure
    measure(config, folder)


def main() -> None:
    """Entry point of the command line."""
    command("sensitivity", _run)


if __name__ == "__main__":
    main()
