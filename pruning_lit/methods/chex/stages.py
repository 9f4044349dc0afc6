"""Stages of channel exploration: at scheduled moments channels are pruned, and others come back."""

import logging
from collections.abc import Mapping
from typing import Any, Literal, Protocol, cast

import torch
from pytorch_lightning import LightningModule, Trainer
from torch import Tensor, nn

from pruning_lit.callbacks.agreement import require_same_on_all_ranks
from pruning_lit.callbacks.optimizer_state import broadcast_buffers, has_averages, rebuild_ddp
from pruning_lit.callbacks.pruning import Pruning, group_states, pictures_to_verify
from pruning_lit.channels import ChannelGraph, ChannelGroup, cost, cost_of_widths, removed_positions, trace
from pruning_lit.channels.modules.scatters import has_scatter
from pruning_lit.criteria import ColumnSubset, Criterion, Scoring
from pruning_lit.methods.chex.budgets import ChannelBudgets, ExplorationSchedule, RegrowSampling
from pruning_lit.methods.chex.decision import Explorer, Stage, mean_scales
from pruning_lit.methods.chex.dormancy import Dormancy, Masked, Narrowed
from pruning_lit.methods.chex.regrowth import Comeback, RegrowInit
from pruning_lit.methods.chex.stage_record import TOLD, log_stage, stage_figures, stage_record
from pruning_lit.sparsity import Dense, Macs, Sparsity
from pruning_lit.tasks import Classification, evaluate

log = logging.getLogger(__name__)
EXECUTIONS: dict[str, type[Dormancy]] = {"narrow": Narrowed, "mask": Masked}


class Exploring(Protocol):
    """What a phase has to offer so that its network can be explored.

    Attributes:
        net: the network in training.
        graph: of the whole network, in which what is not explored is protected.
        groups: those that are explored.
        criterion: which channels matter.
        removed: share of the channels that goes in the end; where that is to be found out, if all groups lost alike.
        budgets: how many channels of each group stay, and come back.
        sparsity: its limits hold.
    """

    net: nn.Module
    graph: ChannelGraph
    groups: list[ChannelGroup]
    criterion: Criterion
    removed: float
    budgets: ChannelBudgets
    sparsity: Sparsity
    task: Classification

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
        regrow_init, ema_decay: values with which channels come back, see ``Comeback``.
        reentry_momentum: ``zero``: they begin without momentum; ``mirror``: with what masks would have left.
        execution: ``narrow``: only what is active is there and computed; ``mask``: dormant channels are zero. With the
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
        unit: Literal["epochs", "steps"] = "epochs",
        decay: Literal["cosine", "linear", "constant"] = "cosine",
        regrow_allocation: Literal["per_layer", "global"] = "per_layer",
        sampling: Literal["projection", "uniform"] = "projection",
        residual_power: int = 1,
        regrow_init: RegrowInit = "mru",
        ema_decay: float = 0.999,
        reentry_momentum: Literal["zero", "mirror"] = "zero",
        execution: Literal["narrow", "mask"] = "narrow",
        seed: int = 0,
    ) -> None:
        for name, value, known in (
            ("unit", unit, ("epochs", "steps")),
            ("reentry_momentum", reentry_momentum, ("zero", "mirror")),
            ("execution", execution, tuple(EXECUTIONS)),
        ):
            if value not in known:
                raise ValueError(f"{name} must be one of {list(known)}, got {value!r}")
        self.init_regrow, self.interval, self.last_stage, self.decay = init_regrow, interval, last_stage, decay
        self.unit, self.regrow_allocation = unit, regrow_allocation
        self.sampling = RegrowSampling(sampling, residual_power)
        self.comeback = Comeback(regrow_init, ema_decay)
        self.reentry_momentum, self.execution, self.seed = reentry_momentum, execution, seed
        self.dormancy: Dormancy | None = None
        self.cuts = []
        self.stages: list[dict[str, Any]] = []
        self.spent = {"macs": 0, "dense_macs": 0}
        self.dense_macs = 0  # of the whole network

    def schedule(self, removed: float) -> ExplorationSchedule:
        """The schedule by which so large a share of the channels is removed in the end; ValueError where none is."""
        return ExplorationSchedule(removed, self.init_regrow, self.interval, self.last_stage, self.decay, self.unit)

    def begin(self, net: nn.Module, graph: ChannelGraph) -> None:
        """Called before training, and before a checkpoint is loaded, with the whole network."""
        self.dense_macs = Dense.of(graph).macs
        if self.dormancy is None:
            self.dormancy = EXECUTIONS[self.execution](net, graph, self.reentry_momentum == "mirror")
            self.comeback.begin(self.dormancy.store)

    @property
    def finished(self) -> bool:
        """Whether the last stage is over."""
        return bool(self.cuts)

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Go on where a checkpoint was written."""
        module = cast(Exploring, pl_module)
        if self.execution == "mask" and has_averages(trainer):
            raise ValueError("averaged weights do not follow masks; explore with execution=narrow")
        if self.execution == "narrow" and self.reentry_momentum == "mirror":
            require_plain_gradients(trainer, module.net)
        if self.dormancy is not None:
            self.dormancy.to(next(module.net.parameters()))
            self.dormancy.resume(module.net)

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

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """What is dormant stays so; add up what was computed."""
        module = cast(Exploring, pl_module)
        if self.dormancy is not None:
            self.dormancy.hold(trainer, module.net)
            self.comeback.update(module.net, self.dormancy, trainer.global_step)
        self.spent["macs"] += self.stages[-1]["macs"]
        self.spent["dense_macs"] += self.dense_macs

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """What training has cost so far, and the figures of the latest stage, in every epoch."""
        if self.cuts:
            self.cuts[-1]["exploration"]["share_of_training"] = self.share_of_training
        figures = stage_figures(self.stages[-1], self.dense_macs) | {"training_macs": self.share_of_training}
        for name, value in figures.items():  # loggers have had them at the stage; this is for the table of metrics
            pl_module.log(f"stage/{name}", value, logger=False)

    @property
    def share_of_training(self) -> float:
        """MACs of all batches so far, as a share of what the dense network would have taken."""
        return self.spent["macs"] / max(1, self.spent["dense_macs"])

    def open(self, trainer: Trainer, module: Exploring) -> None:
        """Choose the channels that the network begins with."""
        assert self.dormancy is not None
        self.dormancy.store.load_state_dict(module.net.state_dict())  # as it is now, should weights have been loaded
        weights = dict(module.net.named_parameters())
        first = self._explorer(module).first(module.groups, weights, module.removed, self.init_regrow)
        self._apply(trainer, module, first)
        self._remember(trainer, module, first, 0, self.init_regrow)

    def stage(self, trainer: Trainer, module: Exploring, now: int) -> None:
        """Prune, regrow, and go on with what is active."""
        assert self.dormancy is not None
        broadcast_buffers(module.net)  # the store of all ranks is that of one network
        schedule = self.schedule(module.removed)
        masked = self.dormancy.wake(trainer, module.net, self.comeback.values(self.dormancy, module.fresh_values))
        data, scores = trainer.datamodule, None  # type: ignore[attr-defined]
        if not isinstance(module.criterion, ColumnSubset):
            scores = module.criterion.scores(Scoring(masked, module.graph, module.groups, data, module.task))
        stage = self._explorer(module).decide(
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

    def _explorer(self, module: Exploring) -> Explorer:
        return Explorer(module.budgets, self.sampling, module.sparsity.limits, Dense.of(module.graph))

    def _apply(self, trainer: Trainer, module: Exploring, stage: Stage) -> None:
        assert self.dormancy is not None
        require_same_on_all_ranks(trainer, stage.active)
        self.dormancy.rest(trainer, module.net, stage.active)
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
            moment = f"{self.unit.removesuffix('s')} {now}" if before is not None else "the network begins"
            told = "%s: %d channels stay, %d come back; %.1f %% of the dense network's MACs"
            log.info(told, moment, record["num_kept"], record["num_grown"], 100 * figures["macs"])
            for logger in trainer.loggers:
                all_figures = figures | {"training_macs": self.share_of_training}
                log_stage(logger, all_figures, record["widths"], trainer.global_step)

    def _close(self, trainer: Trainer, module: Exploring, stage: Stage) -> None:
        """The network has its final width: record the cut."""
        assert self.dormancy is not None
        graph = module.graph
        counted = cost_of_widths(graph, {name: len(each) for name, each in stage.active.items()})
        data = trainer.datamodule  # type: ignore[attr-defined]
        example = data.example.to(next(module.net.parameters()))
        if self.execution == "narrow":
            made = cost(trace(module.net, example))
            assert made == counted, f"the network that was cut has {made}, planned was {counted}"
        error = self.dormancy.difference(module.net, pictures_to_verify(data).to(example))
        accuracy = evaluate(module.net, data, module.task)["accuracy"] if trainer.is_global_zero else None
        self.dormancy.settle()
        self.comeback.end()
        self.cuts.append(
            {
                "epoch": trainer.current_epoch,
                "kept": stage.active,
                "gone": removed_positions(graph, stage.active),
                "groups": group_states(graph, module.sparsity.limits),
                "accuracy_before": None,  # of the whole network, which was never trained
                "accuracy_after": accuracy,
                "macs": counted.macs,
                "params": counted.params,
                "notes": notes_on_widths(module, stage),
                "error": error,
                "exploration": {
                    "unit": self.unit,
                    "execution": self.execution,
                    "regrow_init": self.comeback.init,
                    **asked(module),
                    "dense_macs": self.dense_macs,
                    "stages": [{key: record[key] for key in TOLD} for record in self.stages],
                    "sizes": {group.name: group.size * group.multiplicity for group in module.groups},
                    "spent": dict(self.spent),
                },
            }
        )

    def state_dict(self) -> dict[str, Any]:
        """All that exploration needs to go on, and the report to tell."""
        masked = self.execution == "mask" and bool(self.cuts)
        return {
            "cuts": self.cuts,
            "stages": self.stages,
            "spent": self.spent,
            "dormancy": self.dormancy.state_dict() if self.dormancy else None,
            "comeback": self.comeback.state_dict(),
            "execution": {"cuts": [self.cuts[-1]["kept"]], "sources": {}} if masked else {},
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Continue where the checkpoint was written."""
        self.cuts, self.stages, self.spent = state_dict["cuts"], state_dict["stages"], state_dict["spent"]
        if self.dormancy is not None and state_dict["dormancy"] is not None:
            self.dormancy.load_state_dict(state_dict["dormancy"])
        self.comeback.load_state_dict(state_dict["comeback"])


def notes_on_widths(module: Exploring, stage: Stage) -> list[str]:
    """How many channels are left of those that were explored, and why more than were asked for."""
    total = sum(group.size * group.multiplicity for group in module.groups)
    stay = sum(len(stage.active[group.name]) * group.multiplicity for group in module.groups)
    notes = [f"Of {total:,} channels that were explored {stay:,} stay ({100 * stay / total:.2f} %)."]
    if stage.beyond:
        notes.append(f"{stage.beyond:,} of these stay for the limits of widths alone ({module.sparsity.limits}).")
    if single := [name for name, positions in stage.active.items() if len(positions) == 1]:
        notes.append(f"One channel is left of {', '.join(single)} (sparsity.min_channels=… keeps more).")
    return notes


def asked(module: Exploring) -> dict[str, float | int | None]:
    """What was to be removed: a share ``sparsity`` of the channels, or all but ``target_macs``."""
    budget = module.sparsity
    if not isinstance(budget, Macs):
        return {"sparsity": module.removed, "target_macs": None}
    dense = Dense.of(module.graph).counted(budget.convention)
    return {"sparsity": None, "target_macs": int(dense * (1 - budget.reduction))}


def require_plain_gradients(trainer: Trainer, net: nn.Module) -> None:
    """ValueError where the gradients of what is dormant on a shortcut would change the others, or are scaled."""
    if not any(has_scatter(module) for module in net.modules()):
        return
    if trainer.gradient_clip_val or trainer.precision == "16-mixed":
        setting = "trainer.gradient_clip_val" if trainer.gradient_clip_val else "trainer.precision=16-mixed"
        raise ValueError(
            f"reentry_momentum=mirror cannot tell what {setting} would do to shortcut channels that are not there; "
            "choose reentry_momentum=zero or execution=mask"
        )
