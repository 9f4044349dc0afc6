"""TensorBoard's event files of a phase, on a disk that may be full."""

from contextlib import suppress
from typing import Any

from pytorch_lightning.loggers import TensorBoardLogger
from torch.utils.tensorboard import SummaryWriter

from pruning_lit.disk import naming


class EventFiles(TensorBoardLogger):
    """Lightning's logger; what the disk refuses is told with the folder, and never in place of an earlier failure."""

    @property
    def experiment(self) -> SummaryWriter:
        """See Lightning."""
        with naming(self.log_dir):
            return super().experiment

    def log_metrics(self, *arguments: Any, **named: Any) -> None:
        """See Lightning, which takes a full disk for a value that cannot be logged."""
        try:
            super().log_metrics(*arguments, **named)
        except ValueError as error:
            if not isinstance(error.__cause__, OSError):
                raise
            with naming(self.log_dir):
                raise error.__cause__ from None

    def save(self) -> None:
        """See Lightning."""
        with naming(self.log_dir):
            super().save()

    def finalize(self, status: str) -> None:
        """See Lightning."""
        with naming(self.log_dir), suppress(*[OSError] if status == "failed" else []):
            super().finalize(status)
