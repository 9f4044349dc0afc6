"""Narrow the network at scheduled epochs; one-shot pruning is a schedule with one entry."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from fractions import Fraction
from functools import partial
from pathlib import Path
from typing import Any, Literal, Protocol, cast

import torch
from pytorch_lightning import LightningModule, Trainer
from pytorch_lightning.loggers import TensorBoardLogger
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.optim import Optimizer

from pruning_lit.callbacks.execution import Narrowing, by_execution
from pruning_lit.callbacks.masking import Masking, finish_execution
from pruning_lit.callbacks.optimizer_state import broadcast_buffers, rebuild_ddp, require_same_on_all_ranks
from pruning_lit.callbacks.pruning import Pruning, inputs_to_verify, record_cut, test_metrics
from pruning_lit.callbacks.recalibration import Recalibration
from pruning_lit.channels import ChannelGraph, cost, trace
from pruning_lit.criteria import Criterion, Scoring, timed_scores
from pruning_lit.records.cut import CutRecord
from pruning_lit.sparsity import DenseCost, Plan, Scores, Sparsity
from pruning_lit.sparsity.clock import FILE as TABLE
from pruning_lit.sparsity.clock import Clock
from pruning_lit.sparsity.trials import TrialMaker, Trials
from pruning_lit.tasks import Task
from pruning_lit.tasks.base import like

log = logging.getLogger(__name__)
HARDLY_APART = 0.9  # the smallest score over the largest; those of a trained network are decades apart
LARGEST_ERROR = 1e-2  # well above the rounding of half-precision hardware, well below any real difference


class Prunable(Protocol):
    """Phase whose network can be cut on the way."""

    net: nn.Module
    task: Task

    def format_memory(self) -> None:
        """Put new parameters into the memory format of the phase."""


class ScheduledPruning(Pruning):
    """Score the channels, decide, and cut, at the start of the given epochs, on all ranks alike.

    With several epochs the i-th of n cuts goes i/n of the way to the budget.

    Args:
        criterion: how much a channel matters.
        sparsity: how many stay.
        epochs: when, counted from 0, ascending.
        reset_batch_norm: put every batch norm back to its starting values after the cut, as the released CIFAR code of
            CHIP does unintentionally; for comparisons only.
        recalibrate: renews the norms' statistics after every cut, see ``Recalibration``; None: they stay as they were.
        execution: ``narrow``: layers get smaller at once; ``mask``: channels are zero until the phase is over, and
            gone afterwards, with the same result.
    """

    def __init__(
        self,
        criterion: Criterion,
        sparsity: Sparsity,
        epochs: Sequence[int] = (0,),
        reset_batch_norm: bool = False,
        execution: Literal["narrow", "mask"] = "narrow",
        recalibrate: Recalibration | None = None,
    ) -> None:
        self.recalibration = recalibrate
        self.criterion, self.sparsity, self.epochs = criterion, sparsity.bind(criterion), list(epochs)
        self.execution = by_execution(execution, narrow=Narrowing, mask=Masking)()
        self.reset_batch_norm = reset_batch_norm
        if not self.epochs or sorted(set(self.epochs)) != self.epochs or self.epochs[0] < 0:
            raise ValueError(f"pruning epochs must be ascending and not negative, got {self.epochs}")
        self.cuts: list[CutRecord] = []
        self.dense: DenseCost | None = None

    @property
    def finished(self) -> bool:
        """True once all cuts are made."""
        return len(self.cuts) == len(self.epochs)

    def check(self, net: nn.Module, graph: ChannelGraph, num_epochs: int) -> None:
        """ValueError, before any training, where the schedule or the budget cannot be met."""
        if self.epochs[-1] >= num_epochs:
            raise ValueError(
                f"pruning at epoch {self.epochs[-1]} never happens: "
                f"the phase has {num_epochs} epochs (0…{num_epochs - 1})"
            )
        graph = self.criterion.protect(net, graph)
        self.sparsity.check(graph)
        self.criterion.check(self.sparsity.prunable_groups(graph))

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Find out what is masked, where a checkpoint was written behind a cut."""
        module, data = cast(Prunable, pl_module), trainer.datamodule  # type: ignore[attr-defined]
        self.execution.resume(module.task.view(module.net), like(data.example, next(module.net.parameters())))

    @property
    def at_once(self) -> bool:
        """True for a single cut before the first epoch."""
        return max(self.epochs) == 0

    @property
    def masks(self) -> bool:
        """True with ``execution=mask``."""
        return isinstance(self.execution, Masking)

    def weights_renewed(self, module: Any) -> None:
        """Mask again what is masked."""
        self.execution.mask_again(module.task.view(module.net))

    def on_before_optimizer_step(self, trainer: Trainer, pl_module: LightningModule, optimizer: Optimizer) -> None:
        """Zero the gradients of masked channels."""
        module = cast(Prunable, pl_module)
        self.execution.zero_masked_gradients(module.task.view(module.net))

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Cut if this epoch is scheduled and has not been cut already (a resumed epoch starts twice)."""
        if trainer.current_epoch in self.epochs and not any(cut.epoch == trainer.current_epoch for cut in self.cuts):
            self.cut(trainer, pl_module)

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        """An epoch has no start that is resumed behind the last step of the one before."""
        if batch_idx == 0:
            self.on_train_epoch_start(trainer, pl_module)

    def cut(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Cut the network, and let optimizer, memory format and the distributed wrapper follow."""
        module, data = cast(Prunable, pl_module), trainer.datamodule  # type: ignore[attr-defined]
        net, view = module.net, module.task.view
        example = like(data.example, next(net.parameters()))
        broadcast_buffers(net)  # the scores of all ranks belong to one network
        judged = self.execution.network_to_score(net, example, view)
        graph = self.criterion.protect(view(judged), trace(view(judged), example))
        self.dense = self.dense or DenseCost.of(graph)
        norm_channels = num_norm_channels(view(judged))
        before = test_metrics(trainer, module) if not self.cuts else None
        progress = Fraction(len(self.cuts) + 1, len(self.epochs))
        scoring = Scoring(judged, graph, self.sparsity.prunable_groups(graph), data, module.task)
        scores = timed_scores(self.criterion, scoring)
        notes = self.criterion.notes(scoring, scores)
        clock = Clock(view(judged), graph, example, Path(trainer.default_root_dir) / TABLE)
        sparsity = self.sparsity.with_clock(clock).with_trials(self._trials(trainer, scoring, scores))
        plan = sparsity.plan(graph, scores, self.dense, progress)
        require_same_on_all_ranks(trainer, plan.kept)
        if trainer.is_global_zero:
            if plan.threshold is not None:
                warn_if_alike(scores)
            when = f"cut {len(self.cuts) + 1} of {len(self.epochs)}, before epoch {trainer.current_epoch + 1}"
            for line in (str(plan), *notes, *plan.notes):
                log.info("%s/%s: %s", when, trainer.max_epochs, line)
        inputs = inputs_to_verify(data, module.task, net)
        narrow_net, error = self.execution.cut(trainer, view(net), graph, plan.kept, inputs)
        if not error <= LARGEST_ERROR:  # not a number counts as too large, too
            log.warning("the narrowed network differs from the masked one by %.1e of the largest output", error)
        if self.reset_batch_norm:
            _reset_batch_norm(net)
        module.format_memory()
        rebuild_ddp(trainer)
        after, renewed = test_metrics(trainer, module), None
        if self.recalibration is not None and self.recalibration.renew(net, data, module.task):
            renewed = test_metrics(trainer, module)
        narrowed = cost(trace(narrow_net, example))
        assert narrowed == plan.cost, f"the network that was cut has {narrowed}, planned was {plan.cost}"
        self.cuts.append(
            record_cut(
                graph,
                plan.kept,
                self.sparsity.limits,
                epoch=trainer.current_epoch,
                cost=narrowed,
                error=error,
                notes=[*notes, *plan.notes, *share_notes(plan, norm_channels, num_norm_channels(narrow_net))],
                before=before,
                after=after,
                renewed=renewed,
                scores={"scores": dict(scores), "threshold": plan.threshold},
                redundancy=plan.evidence,
            )
        )
        self._show(trainer)

    def _trials(self, trainer: Trainer, scoring: Scoring, scores: Scores) -> TrialMaker:
        """Maker of trial cuts, each remembered in the run's folder."""
        file = Path(trainer.default_root_dir) / "trials.jsonl"
        return partial(Trials, scoring, scores, (self.recalibration or Recalibration()).for_trials(), file)

    @staticmethod
    def finish(net: nn.Module, example: Any, state: Mapping[str, Any]) -> None:
        """Remove what an execution by masks has only masked."""
        finish_execution(net, state.get("execution", {}), example)

    def state_dict(self) -> dict[str, Any]:
        """Everything the schedule needs to go on, and the report to tell."""
        dense = asdict(self.dense) if self.dense else None
        return {"cuts": [cut.state() for cut in self.cuts], "dense": dense, "execution": self.execution.state_dict()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Continue where the checkpoint was written."""
        self.cuts = [CutRecord.of_state(each) for each in state_dict["cuts"]]
        self.dense = DenseCost(**state_dict["dense"]) if state_dict["dense"] else None
        self.execution.load_state_dict(state_dict["execution"])

    def _show(self, trainer: Trainer) -> None:
        """Histograms of the scores, in TensorBoard."""
        for logger in trainer.loggers:
            if isinstance(logger, TensorBoardLogger) and trainer.is_global_zero:
                for name, scores in self.cuts[-1].details["scores"]["scores"].items():
                    logger.experiment.add_histogram(f"scores/{name}", scores, trainer.global_step)


def warn_if_alike(scores: Scores) -> None:
    """A threshold among scores that are nearly equal is chance."""
    smallest, largest = (float(each) for each in torch.cat(list(scores.values())).aminmax())
    if smallest > HARDLY_APART * largest:
        log.warning(
            "the scores hardly differ (%.4g to %.4g), so the choice of channels means little; in Network Slimming a "
            "stronger penalty (sparsify.l1_strength) or a longer sparsity training tells them apart",
            smallest,
            largest,
        )


def num_norm_channels(net: nn.Module) -> int:
    """Channels of all batch norms together."""
    return sum(module.num_features for module in net.modules() if isinstance(module, _BatchNorm))


def share_notes(plan: Plan, norms_before: int, norms_after: int) -> list[str]:
    """Shares of channels removed, in both units of the literature: those that can be pruned, and the batch norms'."""
    sizes, kept = (
        sum(width * plan.multiplicities.get(name, 1) for name, width in widths.items())
        for widths in (plan.sizes, plan.widths)
    )
    notes = []
    if sizes:
        notes.append(
            f"Of {sizes:,} channels that can be pruned {sizes - kept:,} went ({100 * (1 - kept / sizes):.2f} %)."
        )
    if norms_before:
        gone = norms_before - norms_after
        notes.append(f"Of all {norms_before:,} batch-norm channels {gone:,} went ({100 * gone / norms_before:.2f} %).")
    return notes


def _reset_batch_norm(net: Any) -> None:
    for module in net.modules():
        if hasattr(module, "reset_running_stats"):
            module.reset_parameters()
