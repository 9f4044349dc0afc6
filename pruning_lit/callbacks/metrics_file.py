"""Every epoch's figures in one table for all phases."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from pytorch_lightning import LightningModule, Trainer
from pytorch_lightning.callbacks import Checkpoint
from torch import Tensor

from pruning_lit.records.metrics_table import replace_lines

LOGGED = "logged_figures"  # in a checkpoint


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
        self.so_far: dict[str, float] = {}  # in the sitting before

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Save the figures that were logged so far: some are not logged again before the epoch ends."""
        checkpoint[LOGGED] = {name: float(value) for name, value in trainer.callback_metrics.items()}

    def on_load_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Take the figures that were logged."""
        self.so_far = checkpoint.get(LOGGED, {})

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Go on from the figures that were logged."""
        trainer.callback_metrics.update({name: torch.tensor(value) for name, value in self.so_far.items()})

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Runs before the network is saved: an epoch that is not trained again has its lines."""
        metrics = trainer.callback_metrics  # on all ranks, as they are computed together
        if trainer.is_global_zero:
            self._write(trainer, metrics)

    def _write(self, trainer: Trainer, metrics: Mapping[str, Tensor]) -> None:
        epoch, step = trainer.current_epoch, str(trainer.global_step)
        lines = [[self.phase, str(epoch), step, name, repr(float(value))] for name, value in sorted(metrics.items())]
        replace_lines(self.path, self.phase, lines, first_epoch=epoch)
