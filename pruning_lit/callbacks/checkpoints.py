"""What is saved when: the last state for resuming, and the best epoch among those that count."""

import os
from pathlib import Path
from typing import Any

import torch
from lightning_fabric.plugins import TorchCheckpointIO
from pytorch_lightning import LightningModule, Trainer
from pytorch_lightning.callbacks import ModelCheckpoint

from pruning_lit.callbacks.pruning import Pruning


class LastCheckpoint(ModelCheckpoint):
    """``last.ckpt``, written over at the end of every epoch, and every ``steps`` steps when asked.

    Args:
        folder: where.
        steps: optimizer steps between two writes within an epoch; None: only at its end.
    """

    def __init__(self, folder: Path, steps: int | None = None) -> None:
        timing: dict[str, Any] = {"every_n_train_steps": steps} if steps else {"save_on_train_epoch_end": True}
        super().__init__(folder, filename="last", auto_insert_metric_name=False, enable_version_counter=False, **timing)
        self.path = folder / "last.ckpt"


class BestCheckpoint(ModelCheckpoint):
    """``best.ckpt``: the epoch with the best validation accuracy, counted only once the network has its final width.

    Before that an epoch belongs to another, larger network.
    """

    def __init__(self, folder: Path) -> None:
        super().__init__(
            folder,
            filename="best",
            monitor="val/accuracy",
            mode="max",
            auto_insert_metric_name=False,
            enable_version_counter=False,
        )

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Look at the epoch only if nothing is to be cut any more."""
        if self._final_width(trainer):
            super().on_validation_end(trainer, pl_module)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Look at the epoch only if nothing is to be cut any more."""
        if self._final_width(trainer):
            super().on_train_epoch_end(trainer, pl_module)

    @staticmethod
    def _final_width(trainer: Trainer) -> bool:
        prunings = [callback for callback in trainer.callbacks if isinstance(callback, Pruning)]  # type: ignore[attr-defined]
        return all(callback.finished for callback in prunings)


class AtomicCheckpointIO(TorchCheckpointIO):
    """Writes beside the checkpoint and renames, so that a kill at any moment leaves a whole file."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:
        """Replace ``path`` in one step."""
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        draft = Path(f"{path}.part")
        torch.save(checkpoint, draft)
        os.replace(draft, path)
