"""Leaving in good order, within training, when the machine wants its processors back."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pytorch_lightning import LightningModule, Trainer
from pytorch_lightning.callbacks import Checkpoint
from pytorch_lightning.strategies.launchers import _MultiProcessingLauncher

from pruning_lit.system import preemption
from pruning_lit.system.deaths import is_lost, left
from pruning_lit.system.preemption import LEFT, Preempted


class LeaveOnSignal(Checkpoint):
    """Within training, a signal waits for the end of the batch; then the state is saved and all processes leave.

    To Lightning it is a checkpoint, for these are called when all others have seen the batch.

    Args:
        path: where the state is saved.
    """

    def __init__(self, path: Path) -> None:
        self.path, self.asked = path, False
        preemption.begin_run()  # another process trains where Lightning forks

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Keep Lightning from answering signals itself: it would talk to other processes from within one."""
        trainer._signal_connector.register_signal_handlers = lambda: None  # type: ignore[method-assign]

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """From here on a signal waits."""
        self.asked = False
        preemption.answer(self._ask)

    def on_train_batch_end(self, trainer: Trainer, *_: Any) -> None:
        """Leave, if any process was asked to."""
        if trainer.strategy.reduce_boolean_decision(self.asked, all=False):
            trainer.save_checkpoint(self.path, weights_only=False)
            if preemption.is_forked():
                for logger in trainer.loggers:
                    logger.save()
            preemption.leave_together()

    def _ask(self, signum: int) -> None:
        self.asked = True
        if preemption.is_impatient():
            os._exit(LEFT) if preemption.is_forked() else preemption.leave()

    @contextmanager
    def until_left(self, trainer: Trainer) -> Iterator[None]:
        """Meanwhile hand signals on to the processes that the launcher forks, which train.

        Args:
            trainer: that is about to train.

        Raises:
            Preempted: when all is over, if a signal has come; what goes wrong among processes that leave is no error.
        """
        forks = isinstance(trainer.strategy.launcher, _MultiProcessingLauncher) and preemption.is_answered()
        try:
            with preemption.answering(preemption.pass_on if forks else None):
                yield
        except Exception as error:
            if left(error) or (preemption.asked() and is_lost(error)):
                raise Preempted from None
            raise
        # behind the last batch: the phase is finished and saved, and no process may wait for one that leaves
        if trainer.strategy.reduce_boolean_decision(preemption.asked(), all=False):
            raise Preempted
