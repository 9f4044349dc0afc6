"""``python -m pruning_lit.hub path=…``: a run's network as a folder for the Hugging Face Hub, and uploaded if asked."""

from pruning_lit.system.preemption import begun_as, leave_when_asked

if begun_as(__name__):
    leave_when_asked("pruning_lit.hub")

from pathlib import Path

from omegaconf import DictConfig

from pruning_lit.command_line.command import command
from pruning_lit.system.loading import loading


def _run(config: DictConfig, folder: Path) -> None:
    """Write the folder that the config names, and upload it where a repository is named."""
    with loading():  # late: --help and refusals do without torch
        from pruning_lit.runs.hub import push, require_repository, write_folder
    if config.repo is not None:
        require_repository(config.repo)
    target = write_folder(
        str(config.path), None if config.to is None else str(config.to), config.license, config.base_model
    )
    print(f"written: {target}: {', '.join(sorted(file.name for file in target.iterdir()))}")
    if config.repo is not None:
        print(f"uploaded: {push(target, config.repo)}")


def main() -> None:
    """Entry point of the command line."""
    command("hub", _run)


if __name__ == "__main__":
    main()
