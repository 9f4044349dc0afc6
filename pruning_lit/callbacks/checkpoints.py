"""Checkpoints of a phase: the last state for resuming, and the best epoch among those that count."""

import os
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
from lightning_fabric.plugins import TorchCheckpointIO
from pytorch_lightning import LightningModule, Trainer
from pytorch_lightning.callbacks import ModelCheckpoint

from pruning_lit.callbacks.pruning import Pruning
from pruning_lit.system.deaths import is_dead_worker
from pruning_lit.system.disk import reason
from pruning_lit.tasks import Primary

LAST = "last.ckpt"


class LastCheckpoint(ModelCheckpoint):
    """``last.ckpt``, written over at the end of every epoch, and every ``steps`` steps when asked.

    Args:
        folder: where.
        steps: optimizer steps between two writes within an epoch; None: only at its end.
    """

    def __init__(self, folder: Path, steps: int | None = None) -> None:
        timing: dict[str, Any] = {"every_n_train_steps": steps} if steps else {"save_on_train_epoch_end": True}
        super().__init__(folder, filename="last", auto_insert_metric_name=False, enable_version_counter=False, **timing)
        self.path = folder / LAST


class BestCheckpoint(ModelCheckpoint):
    """``best.ckpt``: the epoch that is best on the validation part, counted only once the network has its final width.

    Before that an epoch belongs to another, larger network.

    Args:
        folder: where.
        primary: the metric that is looked at.
        so_far: what it was in the epoch whose checkpoint is there; None: there is none.
    """

    def __init__(self, folder: Path, primary: Primary, so_far: float | None = None) -> None:
        super().__init__(
            folder,
            filename="best",
            monitor=f"val/{primary.name}",
            mode=primary.mode,
            auto_insert_metric_name=False,
            enable_version_counter=False,
        )
        self.so_far = so_far

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Go by the checkpoint that is there; the state that was restored may be older, or from another folder."""
        super().on_train_start(trainer, pl_module)
        path = self.format_checkpoint_name({})
        self.best_k_models = {} if self.so_far is None else {path: torch.tensor(self.so_far)}
        self.kth_best_model_path = self.best_model_path = "" if self.so_far is None else path
        self.kth_value = self.best_model_score = self.best_k_models.get(path)  # type: ignore[assignment]

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
    """Writes beside the checkpoint and renames, so that a kill at any moment leaves a whole file.

    The checkpoint before is kept beside it, see ``previous``, should a disk lose the new one.
    """

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:
        """Replace ``path`` in one step.

        Raises:
            OSError: it cannot be written; what was there is still there.
        """
        path = Path(path)
        draft = path.with_name(f"{path.name}.part")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            torch.save(checkpoint, draft)
        except (OSError, RuntimeError) as error:  # torch tells a full disk by a RuntimeError
            told = unwritable(path, error)
            with suppress(OSError):
                draft.unlink(missing_ok=True)
            if is_dead_worker(error):
                raise
            raise told from error
        if path.name == LAST and path.is_file():
            _keep(path)
        os.replace(draft, path)


def _keep(path: Path) -> None:
    """Give the checkpoint its second name first, so that at no moment there is none."""
    second = path.with_name(f"{previous(path).name}.part")
    second.unlink(missing_ok=True)
    try:
        os.link(path, second)
        os.replace(second, previous(path))
    except OSError:  # a file system without second names
        os.replace(path, previous(path))


def previous(path: Path) -> Path:
    """Path of the checkpoint before this one."""
    return path.with_name("previous.ckpt")


def unwritable(path: Path, error: Exception) -> OSError:
    """Error for a checkpoint that cannot be written, in one sentence; to be made while its draft is still there."""
    before = "; the one before it is still there" if path.is_file() else ""
    return OSError(f"the checkpoint {str(path)!r} cannot be written: {reason(path.parent, error)}{before}")
