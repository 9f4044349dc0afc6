"""Every epoch's figures in one table for all phases."""

from pathlib import Path

from pytorch_lightning import LightningModule, Trainer
from pytorch_lightning.callbacks import Checkpoint
from pytorch_lightning.utilities import rank_zero_only

from pruning_lit.records.metrics_table import read_lines, write_lines


class MetricsFile(Checkpoint):
    """Append a line per epoch and figure to ``metrics.csv``: phase, epoch, step, name, value.

    Epochs that are trained again after a resume replace the lines they left before. To Lightning it is a checkpoint, as
    these are called when the module and all other callbacks, those of a phase included, have logged.

    Args:
        path: the file, shared by the phases of a run.
        phase: name of the phase.
    """

    def __init__(self, path: Path, phase: str) -> None:
        self.path, self.phase = path, phase

    @rank_zero_only
    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Runs before the network is saved: an epoch that is not trained again has its lines."""
        before, epoch = read_lines(self.path), trainer.current_epoch
        lines = [line for line in before if not (line[0] == self.phase and int(line[1]) >= epoch)]
        for name, value in sorted(trainer.callback_metrics.items()):
            lines.append([self.phase, str(epoch), str(trainer.global_step), name, repr(float(value))])
        write_lines(self.path, lines)
