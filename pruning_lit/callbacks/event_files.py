"""TensorBoard's event files: one curve over all phases of a run, on a disk that may be full."""

import re
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from pytorch_lightning.loggers import TensorBoardLogger
from pytorch_lightning.loggers.logger import rank_zero_experiment
from torch.utils.tensorboard import SummaryWriter

from pruning_lit.records.primary import Primary
from pruning_lit.system.deaths import is_dead_worker
from pruning_lit.system.disk import naming

MARK = ".from_step_"  # and the first step of the phase: the end of a file's name


class EventFiles(TensorBoardLogger):
    """Logger of a phase into the one folder of its run, with steps that go on from phase to phase.

    TensorBoard reads the files by their names, which begin with the second they were begun in, and takes a step back
    for a new beginning: all that it has read of later steps is dropped. So the files of later phases are moved behind
    that of a phase that begins again.

    Metrics are grouped by their name, ``loss/train`` beside ``loss/val``; the name of the primary one has a capital,
    for which TensorBoard shows it first. What the disk refuses is told with the folder, and never in place of an
    earlier failure.

    Args:
        first_step: optimizer steps of the phases before.
        begun_step: optimizer steps of this phase that are behind it already, where it goes on; what was logged beyond
            them before it was interrupted is not shown.
        primary: name of the metric to be shown first.
        named: further arguments of Lightning's logger.
    """

    def __init__(self, *, first_step: int = 0, begun_step: int = 0, primary: str = "", **named: Any) -> None:
        super().__init__(**named)
        self.first_step, self.begun_step, self.primary = first_step, begun_step, primary

    @property
    @rank_zero_experiment
    def experiment(self) -> SummaryWriter:
        """Summary writer that counts steps on; an error of the disk names the folder."""
        if self._experiment is None:
            with naming(self.log_dir):
                behind = self.first_step + self.begun_step + 1  # at an epoch's end its last step is logged with 1 more
                named = self._kwargs | {
                    "filename_suffix": f"{self._kwargs.get('filename_suffix', '')}{MARK}{self.first_step}"
                }
                self._experiment = _LaterSteps(self.first_step, log_dir=self.log_dir, purge_step=behind, **named)
                _move_later_phases_behind(Path(self.log_dir), self.first_step)
        return self._experiment

    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Log metrics; raise a failure of the disk or of a worker, which Lightning takes for a bad value."""
        try:
            super().log_metrics({self._tag(name): value for name, value in metrics.items()}, step)
        except ValueError as error:
            cause = error.__cause__
            if cause is None or not (isinstance(cause, OSError) or is_dead_worker(cause)):
                raise
            with naming(self.log_dir):
                raise cause from None

    def save(self) -> None:
        """Save the logger's files; an error of the disk names the folder."""
        with naming(self.log_dir):
            super().save()

    def finalize(self, status: str) -> None:
        """Close the event files; after a failure an error of the disk is left out."""
        with naming(self.log_dir), suppress(*[OSError] if status == "failed" else []):
            super().finalize(status)

    def _tag(self, name: str) -> str:
        part, _, metric = name.partition("/")
        if part not in ("train", "val"):
            return name
        title = Primary(metric).title
        return f"{title[0].upper() + title[1:] if metric == self.primary else metric}/{part}"


def _move_later_phases_behind(folder: Path, first_step: int) -> None:
    """Rename the event files of later phases so that they come behind the newest one, that of this phase."""
    files = sorted(folder.glob("events.out.tfevents.*"))
    later = [file for file in files if (found := re.search(rf"{MARK}(\d+)$", file.name)) and int(found[1]) > first_step]
    newest = max(_begun(file).partition("~")[0] for file in files)
    for number, file in enumerate(later):  # "~" comes behind "." and ahead of the next second
        file.rename(folder / file.name.replace(_begun(file), f"{newest}~{number:06d}", 1))


def _begun(file: Path) -> str:
    """The second in the name of an event file."""
    return file.name.split(".")[3]


class _LaterSteps(SummaryWriter):
    """Summary writer whose steps are counted from the first of the run."""

    def __init__(self, first_step: int, **named: Any) -> None:
        self.first_step = first_step
        super().__init__(**named)

    def _get_file_writer(self) -> Any:
        return _Shifted(super()._get_file_writer(), self.first_step)


class _Shifted:
    """TensorBoard's file writer, through which all that has a step goes."""

    def __init__(self, writer: Any, first_step: int) -> None:
        self.writer, self.first_step = writer, first_step

    def add_summary(self, summary: Any, global_step: int | None = None, walltime: float | None = None) -> None:
        step = None if global_step is None else self.first_step + int(global_step)
        self.writer.add_summary(summary, step, walltime)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.writer, name)
