"""``python -m pruning_lit``: run an experiment composed on the command line."""

from pathlib import Path

from omegaconf import DictConfig

from pruning_lit.command import command
from pruning_lit.resume import with_resume


def _run(config: DictConfig, folder: Path) -> None:
    from pruning_lit.experiment import run  # late: --help and shell completion need not load torch

    run(config, folder)


def main() -> None:
    """Entry point of the command line: what a user can mend ends in one sentence and exit code 1."""
    command("config", _run, with_resume)


if __name__ == "__main__":
    main()
