"""TensorBoard's event files of a phase, on a disk that may be full."""

from contextlib import suppress
from typing import Any

from pytorch_lightning.loggers import TensorBoardLogger
from torch.utils.tensorboard import SummaryWriter

from pruning_lit.system.deaths import is_dead_worker
from pruning_lit.system.disk import naming


class EventFiles(TensorBoardLogger):
    """Lightning's logger; what the disk refuses is told with the folder, and never in place of an earlier failure."""

    @property
    def experiment(self) -> SummaryWriter:
        """Lightning's summary writer; an error of the disk names the folder."""
        with naming(self.log_dir):
            return super().experiment

    def log_metrics(self, *arguments: Any, **named: Any) -> None:
        """Log metrics; raise a failure of the disk or of a worker, which Lightning takes for a bad value."""
        try:
            super().log_metrics(*arguments, **named)
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
