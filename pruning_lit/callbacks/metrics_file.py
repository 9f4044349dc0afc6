"""Every epoch's figures in one table for all phases."""

import csv
import os
from pathlib import Path

from pytorch_lightning import LightningModule, Trainer
from pytorch_lightning.callbacks import Checkpoint
from pytorch_lightning.utilities import rank_zero_only


class MetricsFile(Checkpoint):
    """Append a line per epoch and figure to ``metrics.csv``: phase, epoch, step, name, value.

    Epochs that are trained again after a resume replace the lines they left before. To Lightning it is a checkpoint, as
    these are called when the module and all other callbacks, those of a phase included, have logged.

    Args:
        path: the file, shared by the phases of a run.
        phase: name of the phase.
    """

    HEADER = ("phase", "epoch", "step", "name", "value")

    def __init__(self, path: Path, phase: str) -> None:
        self.path, self.phase = path, phase

    @rank_zero_only
    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Runs before the network is saved: an epoch that is not trained again has its lines."""
        lines = [
            line for line in self._lines() if not (line[0] == self.phase and int(line[1]) >= trainer.current_epoch)
        ]
        for name, value in sorted(trainer.callback_metrics.items()):
            lines.append([self.phase, str(trainer.current_epoch), str(trainer.global_step), name, repr(float(value))])
        draft = self.path.with_name(f"{self.path.name}.part")  # a kill while writing leaves the old lines
        with draft.open("w", newline="") as file:
            csv.writer(file).writerows([self.HEADER, *lines])
        os.replace(draft, self.path)

    def _lines(self) -> list[list[str]]:
        if not self.path.is_file():
            return []
        with self.path.open(newline="") as file:
            return list(csv.reader(file))[1:]
