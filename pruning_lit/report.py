"""``python -m pruning_lit.report path=…``: the summary of a sweep, or of any runs, at any time."""

from pruning_lit.system.preemption import begun_as, leave_when_asked

if begun_as(__name__):
    leave_when_asked("pruning_lit.report")

from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

from omegaconf import DictConfig

from pruning_lit.command_line.command import command
from pruning_lit.command_line.paths import as_list, named_paths
from pruning_lit.reports.record import JSON_NAME
from pruning_lit.sweeps.jobs import collect
from pruning_lit.sweeps.sweep import print_rows, write_rows


def report(folders: Sequence[Path], out: Path | None) -> Path:
    """Write and print the summary of the runs in ``folders``.

    Args:
        folders: of sweeps, or any with runs in them.
        out: where it goes; by default the one folder, unless it is that of a run, else a new one.

    Returns:
        The path of ``summary.md``.

    Raises:
        FileNotFoundError: one of the folders does not exist.
        ValueError: there are no runs in one of them, or ``out`` is the folder of a run.
    """
    rows = collect(folders)
    path = write_rows(rows, out or _default(folders))
    print_rows(rows, path)
    return path


def _default(folders: Sequence[Path]) -> Path:
    if len(folders) == 1 and not (folders[0] / JSON_NAME).is_file():  # a run keeps its own pictures
        return folders[0]
    return Path("outputs") / "report" / f"{datetime.now():%Y-%m-%d_%H-%M-%S}"


def run(config: DictConfig, folder: Path) -> None:
    """Summarise the runs in the folders that the config names."""
    folders = named_paths(config.path, "the folder of a sweep, or one with runs in it")
    if config.out is not None and Path(str(config.out)).is_file():
        raise ValueError(f"out={config.out} is a file; the summary needs a folder")
    report([Path(each) for each in folders], Path(str(config.out)) if config.out else None)


def main() -> None:
    """Entry point of the command line."""
    command("report", run, lambda words: [as_list(word) for word in words])


if __name__ == "__main__":
    main()
