"""A callback that stops its run at a moment of its own choice, as somebody else might."""

import os
import signal

from pytorch_lightning import Callback

#: Settings that add it; behind them come ``step=…`` and the like.
STOP = ("allow_targets=[tests.stopping]", "+callbacks.stop._target_=tests.stopping.Stop")


class Stop(Callback):
    """Send a signal to this process, if it is the first of its run.

    Args:
        step: at the end of the batch with this optimizer step.
        save: at the so manieth checkpoint that is written; it is not written.
        number: of the signal.
    """

    def __init__(self, step: int | None = None, save: int | None = None, number: int = signal.SIGTERM) -> None:
        self.step, self.save, self.number, self.saves = step, save, number, 0

    def on_train_batch_end(self, trainer, *_: object) -> None:
        if trainer.global_step == self.step and trainer.is_global_zero:
            os.kill(os.getpid(), self.number)

    def on_save_checkpoint(self, trainer, *_: object) -> None:
        self.saves += 1
        if self.saves == self.save and trainer.is_global_zero:
            os.kill(os.getpid(), self.number)


def stop(**when: int) -> list[str]:
    """Settings that stop a run at a moment."""
    return [*STOP, *(f"+callbacks.stop.{name}={int(value)}" for name, value in when.items())]
