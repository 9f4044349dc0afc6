"""Leaving in good order when the machine wants its processors back."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

from pytorch_lightning import LightningModule, Trainer
from pytorch_lightning.callbacks import Checkpoint

from pruning_lit.system.preemption import Preempted, listen, listening


class LeaveOnSignal(Checkpoint):
    """Within training, a signal waits for the end of the batch; then the state is saved and all processes leave.

    To Lightning it is a checkpoint, for these are called when all others have seen the batch.

    Args:
        path: where the state is saved.
    """

    def __init__(self, path: Path) -> None:
        self.path, self.asked = path, False
        self.mark = path.with_name("preempted")  # for a process that has forked those that train

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """From here on a signal waits."""
        self.asked = False
        listen(self._ask)  # in place of Lightning's, which talks to the other processes from within the signal

    def on_train_batch_end(self, trainer: Trainer, *_: Any) -> None:
        """Leave, if any process was asked to."""
        if trainer.strategy.reduce_boolean_decision(self.asked, all=False):
            trainer.save_checkpoint(self.path, weights_only=False)
            if trainer.is_global_zero:
                self.mark.touch()
            raise Preempted

    def _ask(self, signum: int, _frame: FrameType | None) -> None:
        self.asked = True

    @contextmanager
    def forwarded(self, trainer: Trainer) -> Iterator[None]:
        """Meanwhile hand signals on to processes that were forked to train; Preempted when all is over, if so."""
        self.mark.unlink(missing_ok=True)
        try:
            with listening(lambda signum, frame: self._hand_on(trainer, signum)):
                yield
        except Preempted:
            raise
        except Exception:
            if not self.mark.exists():
                raise
            raise Preempted from None  # from a process of its own it comes as somebody's traceback
        finally:
            self.mark.unlink(missing_ok=True)
        if self.asked:  # behind the last batch: the phase is finished and saved
            raise Preempted

    def _hand_on(self, trainer: Trainer, signum: int) -> None:
        children = [child.pid for child in getattr(trainer.strategy.launcher, "procs", []) if child.pid is not None]
        if not children:
            raise Preempted
        for child in children:
            os.kill(child, signum)
