"""Stages of channel exploration: at scheduled moments channels are pruned, and others regrown."""

import logging
from collections.abc import Mapping
from typing import Any, Literal, Protocol, cast

import torch
from pytorch_lightning import LightningModule, Trainer
from torch import Tensor, nn
from torch.optim import Optimizer

from pruning_lit.callbacks.execution import by_execution
from pruning_lit.callbacks.masking import finish_execution
from pruning_lit.callbacks.optimizer_state import (
    broadcast_buffers,
    rebuild_ddp,
    require_same_on_all_ranks,
)
from pruning_lit.callbacks.pruning import Pruning, inputs_to_verify, record_cut, test_metrics
from pruning_lit.channels import ChannelGraph, ChannelGroup, cost, cost_of_widths, trace
from pruning_lit.criteria import Criterion, Scoring, timed_scores
from pruning_lit.methods.chex.budgets import (
    ChannelBudgets,
    Decay,
    ExplorationBudget,
    ExplorationSchedule,
    RegrowAllocation,
    require_choice,
)
from pruning_lit.methods.chex.decision import RegrowSampling, Sampling, Stage, StageDecider, mean_scales
from pruning_lit.methods.chex.dormancy import MaskState, NarrowState, PrunedState
from pruning_lit.methods.chex.regrowth import Init, RegrowInit
from pruning_lit.methods.chex.stage_record import TOLD, log_stage, stage_figures, stage_record
from pruning_lit.records.cut import CutRecord
from pruning_lit.sparsity import DenseCost, Sparsity
from pruning_lit.tasks import Task
from pruning_lit.tasks.base import like

log = logging.getLogger(__name__)
Unit = Literal["epochs", "steps"]


class Exploring(Protocol):
    """Phase whose network can be explored.

    Attributes:
        net: the network in training.
        graph: of the whole network, in which what is not explored is protected.
        groups: those that are explored.
        criterion: how much a channel matters.
        removed: share of the channels that goes in the end; where that is to be found out, if all groups lost alike.
        budget: what is asked for.
        budgets: how many channels of each group stay, and come back.
        sparsity: its limits hold.
    """

    net: nn.Module
    view: nn.Module
    graph: ChannelGraph
    groups: list[ChannelGroup]
    criterion: Criterion
    removed: float
    budget: ExplorationBudget
    budgets: ChannelBudgets
    sparsity: Sparsity
    task: Task

    def begin_afresh(self) -> None:
        """Give the network fresh weights, if so asked, once."""

    def format_memory(self) -> None:
        """Put new parameters into the memory format of the phase."""

    def share_by(self, scales: Mapping[str, Tensor]) -> float:
        """Share of the channels that goes at a stage with these batch-norm scales, see ``mean_scales``."""
        ...

    def fresh_values(self, whole: nn.Module) -> dict[str, Tensor]:
        """Tensors of a newly built network like ``whole``, by name."""
        ...


class ExplorationStages(Pruning):
    """Prunes and regrows channels at scheduled moments, on all ranks alike; after the last stage the network is final.

    Args:
        init_regrow: share of the channels that comes back at the first stages; it falls to 0 at the last one.
        interval, last_stage: between two stages, and of the last one, in ``unit``s; see ``ExplorationSchedule``.
        unit: ``epochs``, at whose start stages are; or optimizer ``steps``.
        decay: how the share falls: ``cosine``, ``linear``, ``constant``.
        regrow_allocation, sampling, residual_power: see ``ChannelBudgets`` and ``RegrowSampling``.
        regrow_init, ema_decay: values with which channels come back, see ``RegrowInit``.
        execution: ``narrow``: only what is active is there and computed; ``mask``: pruned channels are zero. With the
            same result.
        seed: of the choice of channels that come back.

    Raises:
        ValueError: a setting is out of its range.

    Source: Hou et al. 2022, "CHEX: CHannel EXploration for CNN Model Compression" (arXiv 2203.15794), algorithm 1.
    """

    def __init__(
        self,
        init_regrow: float = 0.3,
        interval: int = 2,
        last_stage: int = 180,
        unit: Unit = "epochs",
        decay: Decay = "cosine",
        regrow_allocation: RegrowAllocation = "per_layer",
        sampling: Sampling = "projection",
        residual_power: int = 1,
        regrow_init: Init = "mru",
        ema_decay: float = 0.999,
        execution: Literal["narrow", "mask"] = "narrow",
        seed: int = 0,
    ) -> None:
        require_choice("unit", unit, Unit)
        self.init_regrow, self.interval, self.last_stage, self.decay = init_regrow, interval, last_stage, decay
        self.unit, self.regrow_allocation = unit, regrow_allocation
        self.sampling = RegrowSampling(sampling, residual_power)
        self.regrow_init = RegrowInit(regrow_init, ema_decay)
        self.execution, self.seed = execution, seed
        self.state_kind = by_execution(execution, narrow=NarrowState, mask=MaskState)
        self.pruned: PrunedState | None = None
        self.cuts = []
        self.stages: list[dict[str, Any]] = []
        self.spent = {"macs": 0, "dense_macs": 0}
        self.dense_macs = 0  # of the whole network

    def schedule(self, removed: float) -> ExplorationSchedule:
        """The schedule by which so large a share of the channels is removed in the end; ValueError where none is."""
        return ExplorationSchedule(removed, self.init_regrow, self.interval, self.last_stage, self.decay, self.unit)

    def begin(self, net: nn.Module, graph: ChannelGraph) -> None:
        """Begin with the whole network: before training, and before a checkpoint is loaded."""
        self.dense_macs = DenseCost.of(graph).macs
        if self.pruned is None:
            self.pruned = self.state_kind(net, graph)
            self.regrow_init.begin(self.pruned.most_recent)

    @property
    def masks(self) -> bool:
        """True with ``execution=mask``."""
        return self.execution == "mask"

    @property
    def finished(self) -> bool:
        """True behind the last stage."""
        return bool(self.cuts)

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Go on where a checkpoint was written."""
        module = cast(Exploring, pl_module)
        if self.pruned is not None:
            self.pruned.to(next(module.net.parameters()))
            self.pruned.resume(trainer, module.net)

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """The first choice, and stages at epochs; an epoch that is resumed starts twice."""
        if not self.stages:
            self.open(trainer, cast(Exploring, pl_module))
        elif self.unit == "epochs":
            self._stage_if_due(trainer, pl_module, trainer.current_epoch)

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        """Stages at steps; also at epochs: one that is resumed behind the last step before it has no start."""
        self._stage_if_due(trainer, pl_module, trainer.global_step if self.unit == "steps" else trainer.current_epoch)

    def _stage_if_due(self, trainer: Trainer, pl_module: LightningModule, now: int) -> None:
        module = cast(Exploring, pl_module)
        if now > self.stages[-1]["at"] and not self.finished and now in self.schedule(module.removed).stages:
            self.stage(trainer, module, now)

    def on_before_optimizer_step(self, trainer: Trainer, pl_module: LightningModule, optimizer: Optimizer) -> None:
        """Keep what is masked at zero."""
        if self.pruned is not None:
            self.pruned.zero_masked_gradients(cast(Exploring, pl_module).net)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Take the step into averages; add up what was computed."""
        if self.pruned is not None:
            self.regrow_init.update(cast(Exploring, pl_module).net, self.pruned, trainer.global_step)
        self.spent["macs"] += self.stages[-1]["macs"]
        self.spent["dense_macs"] += self.dense_macs

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Log the cost of training so far, and the figures of the latest stage, in every epoch."""
        if self.cuts:
            self.cuts[-1].details["exploration"]["share_of_training"] = self.share_of_training
        figures = stage_figures(self.stages[-1], self.dense_macs) | {"training_macs": self.share_of_training}
        for name, value in figures.items():  # loggers have had them at the stage; this is for the table of metrics
            pl_module.log(f"stage/{name}", value, logger=False)

    @property
    def share_of_training(self) -> float:
        """MACs of all batches so far, as a share of what the dense network would have taken."""
        return self.spent["macs"] / max(1, self.spent["dense_macs"])

    def open(self, trainer: Trainer, module: Exploring) -> None:
        """Choose the channels that the network begins with."""
        assert self.pruned is not None
        module.begin_afresh()  # here, as channels are chosen by what they begin with
        self.pruned.most_recent.load_state_dict(module.net.state_dict())  # should weights have been loaded
        self.regrow_init.begin(self.pruned.most_recent)
        weights = dict(module.net.named_parameters())
        first = self._decider(module).first(module.groups, weights, module.removed, self.init_regrow)
        self._apply(trainer, module, first)
        self._remember(trainer, module, first, 0, self.init_regrow)

    def stage(self, trainer: Trainer, module: Exploring, now: int) -> None:
        """Prune, regrow, and go on with what is active."""
        assert self.pruned is not None
        broadcast_buffers(module.net)  # the most recent values of all ranks are those of one network
        schedule = self.schedule(module.removed)
        masked = self.pruned.restore(trainer, module.net, self.regrow_init.values(self.pruned, module.fresh_values))
        data, scores = trainer.datamodule, None  # type: ignore[attr-defined]
        if not module.criterion.by_width:
            scores = timed_scores(module.criterion, Scoring(masked, module.graph, module.groups, data, module.task))
        stage = self._decider(module).decide(
            module.groups,
            masked,
            dict(module.net.named_parameters()),
            scores,
            module.share_by(mean_scales(masked, module.groups)),
            schedule.share(now),
            torch.Generator().manual_seed(1_000_003 * self.seed + now),
        )
        stage = trainer.strategy.broadcast(stage)
        self._apply(trainer, module, stage)
        self._remember(trainer, module, stage, now, schedule.share(now))
        if now == schedule.last_stage:
            self._close(trainer, module, stage)

    def _decider(self, module: Exploring) -> StageDecider:
        return StageDecider(module.budgets, self.sampling, module.sparsity.limits, DenseCost.of(module.graph))

    def _apply(self, trainer: Trainer, module: Exploring, stage: Stage) -> None:
        assert self.pruned is not None
        require_same_on_all_ranks(trainer, stage.active)
        self.pruned.prune(trainer, module.net, stage.active)
        module.format_memory()
        rebuild_ddp(trainer)

    def _remember(self, trainer: Trainer, module: Exploring, stage: Stage, now: int, share: float) -> None:
        """Tell, log and record a stage."""
        before = self.stages[-1] if self.stages else None
        macs = cost_of_widths(module.graph, {name: len(each) for name, each in stage.active.items()}).macs
        together = {group.name: group.multiplicity for group in module.groups}
        record = stage_record(stage, now, share, macs, before, together)
        self.stages.append(record)
        if before is not None:
            before["active"], before["grown"] = {}, {}  # of earlier stages their sizes are enough
        if trainer.is_global_zero:
            figures = stage_figures(record, self.dense_macs)
            moment = f"after {self.unit.removesuffix('s')} {now}" if before is not None else "the network begins"
            told = "%s: %d channels stay, %d come back; %.1f %% of the dense network's MACs"
            log.info(told, moment, record["num_kept"], record["num_grown"], 100 * figures["macs"])
            for logger in trainer.loggers:
                all_figures = figures | {"training_macs": self.share_of_training}
                log_stage(logger, all_figures, record["widths"], trainer.global_step)

    def _close(self, trainer: Trainer, module: Exploring, stage: Stage) -> None:
        """The network has its final width: record the cut."""
        assert self.pruned is not None
        graph = module.graph
        counted = cost_of_widths(graph, {name: len(each) for name, each in stage.active.items()})
        data = trainer.datamodule  # type: ignore[attr-defined]
        if self.execution == "narrow":
            made = cost(trace(module.view, like(data.example, next(module.net.parameters()))))
            assert made == counted, f"the network that was cut has {made}, planned was {counted}"
        error = self.pruned.difference(module.net, inputs_to_verify(data, module.task, module.net), module.task.view)
        after = test_metrics(trainer, module)
        self.pruned.finalise()
        self.regrow_init.end()
        self.cuts.append(
            record_cut(
                graph,
                stage.active,
                module.sparsity.limits,
                epoch=trainer.current_epoch,
                cost=counted,
                error=error,
                notes=notes_on_widths(module, stage),
                after=after,  # the whole network was never trained
                exploration={
                    "unit": self.unit,
                    "execution": self.execution,
                    "regrow_init": self.regrow_init.init,
                    **module.budget.asked(module.graph),
                    "dense_macs": self.dense_macs,
                    "stages": [{key: record[key] for key in TOLD} for record in self.stages],
                    "sizes": {group.name: group.size * group.multiplicity for group in module.groups},
                    "short": stage.short,
                    "spent": dict(self.spent),
                },
            )
        )

    @staticmethod
    def finish(net: nn.Module, example: Any, state: Mapping[str, Any]) -> None:
        """Remove what an exploration by masks has left dormant."""
        finish_execution(net, state.get("execution", {}), example)

    def state_dict(self) -> dict[str, Any]:
        """All that exploration needs to go on, and the report to tell."""
        masked = self.execution == "mask" and bool(self.cuts)
        return {
            "cuts": [cut.state() for cut in self.cuts],
            "stages": self.stages,
            "spent": self.spent,
            "pruned": self.pruned.state_dict() if self.pruned else None,
            "regrow_init": self.regrow_init.state_dict(),
            "execution": {"cuts": [self.cuts[-1].kept], "sources": {}} if masked else {},
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Continue where the checkpoint was written."""
        self.cuts = [CutRecord.of_state(each) for each in state_dict["cuts"]]
        self.stages, self.spent = state_dict["stages"], state_dict["spent"]
        pruned = state_dict["pruned"] if "pruned" in state_dict else state_dict["dormancy"]  # as it was called
        if self.pruned is not None and pruned is not None:
            self.pruned.load_state_dict(pruned)
        self.regrow_init.load_state_dict(
            state_dict["regrow_init"] if "regrow_init" in state_dict else state_dict["comeback"]
        )


def notes_on_widths(module: Exploring, stage: Stage) -> list[str]:
    """Notes on the number of channels that are left, and why more than were asked for."""
    total = sum(group.size * group.multiplicity for group in module.groups)
    stay = sum(len(stage.active[group.name]) * group.multiplicity for group in module.groups)
    notes = [f"Of {total:,} channels that were explored {stay:,} stay ({100 * stay / total:.2f} %)."]
    if stage.above_budget:
        notes.append(f"{stage.above_budget:,} of these stay for the limits of widths alone ({module.sparsity.limits}).")
    if single := [name for name, positions in stage.active.items() if len(positions) == 1]:
        notes.append(f"One channel is left of {', '.join(single)} (sparsity.min_channels=… keeps more).")
    return notes
