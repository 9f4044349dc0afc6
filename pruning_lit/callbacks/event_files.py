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
        """See Lightning."""
        with naming(self.log_dir):
            return super().experiment

    def log_metrics(self, *arguments: Any, **named: Any) -> None:
        """See Lightning, which takes whatever happens meanwhile for a value that cannot be logged."""
        try:
            super().log_metrics(*arguments, **named)
        except ValueError as error:
            cause = error.__cause__
            if cause is None or not (isinstance(cause, OSError) or is_dead_worker(cause)):
                raise
            with naming(self.log_dir):
                raise cause from None

    def save(self) -> None:
        """See Lightning."""
        with naming(self.log_dir):
            super().save()

    def finalize(self, status: str) -> None:
        """See Lightning."""
        with naming(self.log_dir), suppress(*[OSError] if status == "failed" else []):
            super().finalize(status)
