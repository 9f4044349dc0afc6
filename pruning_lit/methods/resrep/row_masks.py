"""Row masks of ResRep: they grow every so many steps; in the end dead rows are removed with their channels."""

import logging
from collections.abc import Mapping
from typing import Any, cast

import torch
from pytorch_lightning import LightningModule, Trainer
from pytorch_lightning.loggers import TensorBoardLogger
from torch import nn
from torch.optim import Optimizer

from pruning_lit.callbacks.checkpoints import LastCheckpoint
from pruning_lit.callbacks.optimizer_state import broadcast_buffers, require_same_on_all_ranks
from pruning_lit.callbacks.pruning import Pruning
from pruning_lit.methods.resrep.conversion import Conversion, FoldNorms, require_fold_norms
from pruning_lit.methods.resrep.gradual import next_masked
from pruning_lit.methods.resrep.outcome import RowOutcome
from pruning_lit.methods.resrep.rows import HasCompactors, MaskingProgress, masked, row_norms, write_masks
from pruning_lit.records.cut import CutRecord
from pruning_lit.sparsity import DenseCost

log = logging.getLogger(__name__)


class RowMasks(Pruning):
    """Mask rows of compactors, the smallest first, until a budget is met; fold the compactors away in the end.

    Every ``interval`` optimizer steps the rows are chosen anew from all, ``granularity`` more than before; once the
    budget is met, those that meet it now. At the end of the last epoch the rows with norms below ``threshold`` are
    removed, whether they are masked or not, and layers and compactors become single, narrower layers: what the network
    computes stays. All state is in the masks, which are buffers of the compactors, and in the number of steps.

    Args:
        start: epochs before masks, not necessarily whole ones; the first update comes ``interval`` steps later.
        interval: optimizer steps between two updates.
        granularity: rows by which the masks grow at each.
        threshold: norm below which a row is dead.
        remove_masked: remove masked rows that are not dead, too, which changes what the network computes.
        fold_norms: what becomes of the batch norms in front of compactors, see ``Conversion``.

    Attributes:
        history: of every update the ``steps`` done, the rows ``masked``, the MACs of the network without the masked
            rows (``macs_by_mask``) and without the dead ones (``macs_by_norm``), and by group the ``rows`` not masked.

    Raises:
        ValueError: a setting is out of its range.

    Source: Ding et al. 2021, "ResRep: Lossless CNN Pruning via Decoupling Remembering and Forgetting", section 3.3.
    """

    def __init__(
        self,
        start: float = 5,
        interval: int = 200,
        granularity: int = 4,
        threshold: float = 1e-5,
        remove_masked: bool = False,
        fold_norms: FoldNorms = "compacted",
    ) -> None:
        if not isinstance(start, int | float) or not 0 <= start < float("inf"):
            raise ValueError(f"start is the number of epochs before masks, at least 0, got {start!r}")
        for name, value in (("interval", interval), ("granularity", granularity)):
            if not isinstance(value, int) or value < 1:
                raise ValueError(f"{name} must be a whole number of at least 1, got {value!r}")
        if not isinstance(threshold, float) or not 0 < threshold < 1:
            raise ValueError(f"threshold is a norm between 0 and the 1 that rows start with, got {threshold!r}")
        require_fold_norms(fold_norms)
        self.start, self.interval, self.granularity = start, interval, granularity
        self.threshold, self.remove_masked, self.fold_norms = threshold, remove_masked, fold_norms
        self.cuts = []
        self.conversion: Conversion | None = None
        self.history: dict[str, Any] = {"steps": [], "masked": [], "macs_by_mask": [], "macs_by_norm": [], "rows": {}}

    @property
    def masks(self) -> bool:
        """True: rows of compactors are."""
        return True

    @property
    def finished(self) -> bool:
        """True where it is decided which rows go."""
        return bool(self.cuts)

    def on_before_optimizer_step(self, trainer: Trainer, pl_module: LightningModule, optimizer: Optimizer) -> None:
        """Update the masks when it is time: once per optimizer step, in front of the edit that goes by them."""
        module = cast(HasCompactors, pl_module)
        assert module.pace is not None
        if module.pace.is_update(trainer.global_step):
            self.update(trainer, module, module.pace.granularity)

    def update(self, trainer: Trainer, module: HasCompactors, granularity: int) -> None:
        """Choose the rows anew, so many more of them, and write all masks."""
        norms = row_norms(module)
        dense = DenseCost.of(module.graph)
        positions = next_masked(module.sparsity, module.graph, norms, dense, masked(module), granularity)
        require_same_on_all_ranks(trainer, positions)
        write_masks(module, positions)
        progress = MaskingProgress.of(module, norms, self.threshold)
        for key, value in progress.counts(trainer.global_step).items():
            self.history[key].append(value)
        for name, rows in progress.left.items():
            self.history["rows"].setdefault(name, []).append(rows)
        for logger in trainer.loggers if trainer.is_global_zero else ():
            logger.log_metrics(progress.figures(dense.macs), trainer.global_step)
            if isinstance(logger, TensorBoardLogger):
                logger.experiment.add_histogram("rows/norms", torch.cat([*norms.values()]), trainer.global_step)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Log the progress of masking; after the last epoch decide what goes, so that the checkpoint knows it."""
        module = cast(HasCompactors, pl_module)
        progress = MaskingProgress.of(module, row_norms(module), self.threshold)
        pl_module.log_dict(progress.figures(DenseCost.of(module.graph).macs), rank_zero_only=True)
        if trainer.current_epoch + 1 == trainer.max_epochs:
            self.conclude(trainer, module)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """A run that is resumed between its last step and the end of that epoch has no such end: make up for it."""
        if not self.finished and trainer.max_epochs is not None and trainer.current_epoch >= trainer.max_epochs:
            self.conclude(trainer, cast(HasCompactors, pl_module))
            for callback in trainer.checkpoint_callbacks:
                if isinstance(callback, LastCheckpoint):
                    trainer.save_checkpoint(callback.path, weights_only=False)

    def conclude(self, trainer: Trainer, module: HasCompactors) -> None:
        """Decide what goes, and record what comes of it; the network itself is trained no more."""
        if self.finished:
            return
        broadcast_buffers(module.net)
        data = trainer.datamodule  # type: ignore[attr-defined]
        outcome, pace = RowOutcome(module, self.threshold, self.remove_masked), module.pace
        self.conversion = Conversion(module.placements, outcome.kept, self.fold_norms)
        record: CutRecord | None = None
        if trainer.is_global_zero:
            record = outcome.record(self.conversion, data, trainer.max_epochs or 0, self.history)
            assert pace is not None
            record.notes.append(
                f"Every row was pulled by {pace.lasso_strength:g}; after {pace.start:,} steps masks began to grow by "
                f"{pace.granularity} row(s) every {pace.interval} steps."
            )
        record = trainer.strategy.broadcast(record)
        assert record is not None
        self.cuts.append(record)
        if not trainer.is_global_zero:
            return
        log.info("%s", outcome)
        if outcome.num_spared:
            log.warning(
                "not dead, and so not removed: %d masked row(s); train longer or raise the lasso strength, or remove "
                "them all the same by gradient_reset.callbacks.masks.remove_masked=true",
                outcome.num_spared,
            )

    @staticmethod
    def finish(net: nn.Module, example: Any, state: Mapping[str, Any]) -> None:
        """Fold the compactors away, without the rows that go."""
        if conversion := state.get("conversion"):
            Conversion.from_state(conversion).convert(net, example)

    def state_dict(self) -> dict[str, Any]:
        """Records for the report, and the conversion that makes the network an ordinary one."""
        conversion = self.conversion.state_dict() if self.conversion else None
        return {"cuts": [cut.state() for cut in self.cuts], "history": self.history, "conversion": conversion}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Continue from ``state_dict``."""
        self.cuts = [CutRecord.of_state(each) for each in state_dict["cuts"]]
        self.history = state_dict["history"]
        state = state_dict["conversion"]
        self.conversion = Conversion.from_state(state) if state else None
