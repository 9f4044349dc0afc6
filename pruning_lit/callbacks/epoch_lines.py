"""A line in the log at the end of every epoch."""

import logging
import time
from collections.abc import Callable
from typing import Any, Protocol, cast

from pytorch_lightning import LightningModule, Trainer
from pytorch_lightning.callbacks import Checkpoint

from pruning_lit.system.console_log import IN_FILE_ONLY
from pruning_lit.system.durations import in_words
from pruning_lit.tasks import Task

log = logging.getLogger(__name__)


class Timed(Protocol):
    """Phase whose epochs are told.

    Attributes:
        task: with the metric that is told.
        later_epochs: of the phases that come after it in the run.
    """

    task: Task
    later_epochs: int


class EpochLines(Checkpoint):
    """Log loss, primary metric, seconds and time left at the end of every epoch; beside a bar in the file only.

    What is left is counted in epochs as long as those of this sitting, on average. The time before its first batch, in
    which a network may be scored and cut, belongs to none. To Lightning it is a checkpoint, as these are called behind
    the module, which logs.

    Args:
        clock: seconds that go on.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self.clock = clock
        self.began: tuple[float, float] | None = None  # seconds and epochs at the first batch of this sitting
        self.ended = 0.0  # seconds at the end of the epoch before
        self.validated = False  # in this epoch, for there may be epochs without

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """A sitting begins."""
        self.began, self.validated = None, False

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        """A resumed sitting begins within an epoch."""
        if self.began is None:
            self.ended = self.clock()
            self.began = self.ended, trainer.current_epoch + batch_idx / trainer.num_training_batches

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """From here on there are figures of this epoch."""
        self.validated = not trainer.sanity_checking

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """All figures are there; all ranks ask for them, as they are computed together."""
        module, metrics = cast(Timed, pl_module), trainer.callback_metrics
        primary, part = module.task.primary, "validation" if self.validated else "training"
        told = []
        if (loss := metrics.get("train/loss")) is not None:
            told.append(f"loss {float(loss):#.3g}")
        if (value := metrics.get(f"{'val' if self.validated else 'train'}/{primary.name}")) is not None:
            told.append(f"{part} {primary.title} {primary.format(float(value))}")
        told += self._times(trainer.current_epoch + 1, trainer.max_epochs or 0, module.later_epochs)
        self.validated = False
        if trainer.is_global_zero:
            extra = IN_FILE_ONLY if trainer.progress_bar_callback is not None else None
            log.info("epoch %d/%s: %s", trainer.current_epoch + 1, trainer.max_epochs, ", ".join(told), extra=extra)

    def _times(self, done: int, epochs: int, later: int) -> list[str]:
        """Seconds of the epoch, and what is left of the phase and of the run; nothing for an epoch without a batch."""
        if self.began is None:
            return []
        before, self.ended = self.ended, self.clock()
        told, each = [in_words(self.ended - before)], (self.ended - self.began[0]) / (done - self.began[1])
        if left := epochs - done:
            told.append(f"{in_words(left * each)} left in this phase")
        if later:
            told.append(f"{in_words((left + later) * each)} of training left in the run at this pace")
        return told
