"""Which rows of compactors are to be forgotten: masks that grow every so many steps, until what is dead is removed."""

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
from pruning_lit.callbacks.pruning import CutRecord, Pruning
from pruning_lit.methods.resrep.conversion import Conversion, Norms, require_norms
from pruning_lit.methods.resrep.gradual import updated
from pruning_lit.methods.resrep.outcome import DeadRows
from pruning_lit.methods.resrep.rows import Forgetting, Standing, masked, row_norms, write_masks
from pruning_lit.sparsity import DenseCost

log = logging.getLogger(__name__)


class RowMasks(Pruning):
    """Masks rows of compactors, the shortest first, until a budget is met; folds the compactors away in the end.

    Every ``interval`` optimizer steps the rows are chosen anew from all, ``granularity`` more than before; once the
    budget is met, those that meet it now. At the end of the last epoch the rows that are shorter than ``threshold`` are
    removed, whether they are masked or not, and layers and compactors become single, narrower layers: what the network
    computes stays. All state is in the masks, which are buffers of the compactors, and in the number of steps.

    Args:
        start: epochs before masks, not necessarily whole ones; the first update comes ``interval`` steps later.
        interval: optimizer steps between two updates.
        granularity: rows by which the list grows at each.
        threshold: length below which a row is dead.
        force_masked: remove masked rows that are not dead, too, which changes what the network computes.
        norms: what becomes of the batch norms in front of compactors, see ``Conversion``.

    Attributes:
        start_step: optimizer steps before masks, set by the phase once the length of an epoch is known.
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
        force_masked: bool = False,
        norms: Norms = "fold",
    ) -> None:
        if not isinstance(start, int | float) or not 0 <= start < float("inf"):
            raise ValueError(f"start is the number of epochs before masks, at least 0, got {start!r}")
        for name, value in (("interval", interval), ("granularity", granularity)):
            if not isinstance(value, int) or value < 1:
                raise ValueError(f"{name} must be a whole number of at least 1, got {value!r}")
        if not isinstance(threshold, float) or not 0 < threshold < 1:
            raise ValueError(f"threshold is a length between 0 and the 1 that rows start with, got {threshold!r}")
        require_norms(norms)
        self.start, self.interval, self.granularity = start, interval, granularity
        self.threshold, self.force_masked, self.norms = threshold, force_masked, norms
        self.start_step = 0
        self.cuts = []
        self.conversion: Conversion | None = None
        self.history: dict[str, Any] = {"steps": [], "masked": [], "macs_by_mask": [], "macs_by_norm": [], "rows": {}}

    @property
    def finished(self) -> bool:
        """Whether it is decided which rows go."""
        return bool(self.cuts)

    def is_due(self, step: int) -> bool:
        """Whether masks are updated when so many optimizer steps have been done."""
        since = step - self.start_step
        return since > 0 and since % self.interval == 0

    def on_before_optimizer_step(self, trainer: Trainer, pl_module: LightningModule, optimizer: Optimizer) -> None:
        """Update the masks when it is time: once per optimizer step, in front of the edit that goes by them."""
        if self.is_due(trainer.global_step):
            self.update(trainer, cast(Forgetting, pl_module))

    def update(self, trainer: Trainer, module: Forgetting) -> None:
        """Choose the rows anew, and write all masks."""
        norms = row_norms(module)
        dense = DenseCost.of(module.graph)
        listed = updated(module.sparsity, module.graph, norms, dense, masked(module), self.granularity)
        require_same_on_all_ranks(trainer, listed)
        write_masks(module, listed)
        standing = Standing.of(module, norms, self.threshold)
        for key, value in standing.counts(trainer.global_step).items():
            self.history[key].append(value)
        for name, rows in standing.left.items():
            self.history["rows"].setdefault(name, []).append(rows)
        for logger in trainer.loggers if trainer.is_global_zero else ():
            logger.log_metrics(standing.figures(dense.macs), trainer.global_step)
            if isinstance(logger, TensorBoardLogger):
                logger.experiment.add_histogram("rows/norms", torch.cat([*norms.values()]), trainer.global_step)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Log how far forgetting is; after the last epoch decide what goes, so that the checkpoint knows it."""
        module = cast(Forgetting, pl_module)
        standing = Standing.of(module, row_norms(module), self.threshold)
        pl_module.log_dict(standing.figures(DenseCost.of(module.graph).macs), rank_zero_only=True)
        if trainer.current_epoch + 1 == trainer.max_epochs:
            self.conclude(trainer, module)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """A run that is resumed between its last step and the end of that epoch has no such end: make up for it."""
        if not self.finished and trainer.max_epochs is not None and trainer.current_epoch >= trainer.max_epochs:
            self.conclude(trainer, cast(Forgetting, pl_module))
            for callback in trainer.checkpoint_callbacks:
                if isinstance(callback, LastCheckpoint):
                    trainer.save_checkpoint(callback.path)

    def conclude(self, trainer: Trainer, module: Forgetting) -> None:
        """Decide what goes, and record what comes of it; the network itself is trained no more."""
        if self.finished:
            return
        broadcast_buffers(module.net)
        data = trainer.datamodule  # type: ignore[attr-defined]
        dead = DeadRows(module, self.threshold, self.force_masked)
        self.conversion = Conversion(module.placements, dead.kept, self.norms)
        record: CutRecord | None = None
        if trainer.is_global_zero:
            record = dead.record(self.conversion, data, trainer.max_epochs or 0, self.history)
            record.notes.append(
                f"Every row was pulled by {module.pull:g}; after {self.start_step:,} steps masks began to grow by "
                f"{self.granularity} row(s) every {self.interval} steps."
            )
        record = trainer.strategy.broadcast(record)
        assert record is not None
        self.cuts.append(record)
        if not trainer.is_global_zero:
            return
        log.info("%s", dead)
        if dead.num_spared:
            log.warning(
                "not dead, and so not removed: %d masked row(s); train longer or pull harder, or remove them all the "
                "same by force_masked=true",
                dead.num_spared,
            )

    @staticmethod
    def finish(net: nn.Module, example: Any, state: Mapping[str, Any]) -> None:
        """Fold the compactors away, without the rows that go."""
        if state["conversion"]:
            Conversion.from_state(state["conversion"]).convert(net, example)

    def state_dict(self) -> dict[str, Any]:
        """What the report tells, and what makes the network an ordinary one."""
        conversion = self.conversion.state_dict() if self.conversion else None
        return {"cuts": [cut.state() for cut in self.cuts], "history": self.history, "conversion": conversion}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Continue where the checkpoint was written."""
        self.cuts = [CutRecord.of_state(each) for each in state_dict["cuts"]]
        self.history = state_dict["history"]
        state = state_dict["conversion"]
        self.conversion = Conversion.from_state(state) if state else None
