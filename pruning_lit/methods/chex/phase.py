"""CHEX's training: one run from scratch in which channels are pruned and regrown, until the network is final."""

import copy
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, ClassVar

from torch import Tensor, nn

from pruning_lit.channels import ChannelGraph, ChannelGroup, trace
from pruning_lit.criteria import Criterion
from pruning_lit.criteria.bn_scale import scale_names, scales_of
from pruning_lit.criteria.producers import is_joined
from pruning_lit.methods.chex.budgets import ChannelBudgets, ExplorationBudget
from pruning_lit.methods.chex.section import ExplorationSection
from pruning_lit.methods.chex.stages import ExplorationStages
from pruning_lit.phases.epoch_steps import EpochSteps
from pruning_lit.phases.training import Training
from pruning_lit.reports.section import Section
from pruning_lit.sparsity import Sparsity
from pruning_lit.tasks.base import like

NO_SCALES = (
    "no batch norm scales its channels, so they have no share of the budget (sparsity=uniform gives all the same)"
)


class Exploration(Training):
    """Train a network while stages prune its channels and regrow others, see ``ExplorationStages``.

    Args:
        criterion: how much a channel matters; by default the leverage of its filters.
        sparsity: how many channels go in the end: ``Global``: those below one threshold on all batch-norm scales;
            ``Uniform``: the same share of every group; ``Macs``: at every stage as large a share as meets the target,
            by one threshold, or with ``scope=layer`` the same in every group.
        streams: explore also channels that several layers make together, by all their filters side by side.
        training: see ``Training``; one of the callbacks is an ``ExplorationStages``.

    Source: Hou et al. 2022, "CHEX: CHannel EXploration for CNN Model Compression" (arXiv 2203.15794). Streams are an
    extension.
    """

    sections: ClassVar[tuple[type[Section], ...]] = (ExplorationSection,)

    def __init__(self, *, criterion: Criterion, sparsity: Sparsity, streams: bool = False, **training: Any) -> None:
        super().__init__(**training)
        if not isinstance(streams, bool):  # "no" would be true
            raise ValueError(f"streams is true or false, got {streams!r}")
        self.budget = ExplorationBudget(sparsity, criterion)
        self.criterion, self.sparsity, self.streams = criterion, self.budget.sparsity, streams
        self.removed = self.budget.amount  # of a target of MACs the share is found once the network is known
        self.stages = self.only_callback(ExplorationStages)
        self.budgets = ChannelBudgets(
            self.budget.allocation, self.stages.regrow_allocation, sparsity.limits.min_channels
        )
        if self.budget.macs is None:
            self.stages.schedule(self.removed)  # refuses what cannot be

    def check(self, name: str, net: nn.Module, graph: ChannelGraph, steps: EpochSteps | None) -> None:
        """Also ValueError for a last stage that never comes, and for networks that cannot be explored so."""
        super().check(name, net, graph, steps)
        explored = self.explored(net, graph)
        self.sparsity.check(explored)
        self.criterion.check(self.sparsity.prunable_groups(explored))
        self._know(explored)
        self.removed = self.budget.initial_share(explored)
        self.budget.require_room(self.removed, self.stages.init_regrow)
        if self.stages.unit == "epochs":
            self.stages.schedule(self.removed).require_epochs(self.epochs)
        elif steps is not None:
            self.stages.schedule(self.removed).require_epochs(self.epochs * steps.steps)

    @classmethod
    def preview(
        cls,
        net: nn.Module,
        graph: ChannelGraph,
        criterion: Criterion,
        sparsity: Sparsity | None,
        recipe: Mapping[str, Any],
    ) -> tuple[ChannelGraph, Sparsity | None, list[str]]:
        """Also protect what is not explored; a budget is met by the same share of every group."""
        budget = None if sparsity is None else ExplorationBudget(sparsity, criterion)
        by_scales = budget is None or budget.allocation == "gamma"
        graph = explored(net, graph, criterion, recipe["streams"], by_scales)
        notes = ["All layers lose the same share here; which lose more is found out in training."]
        return graph, None if budget is None else budget.uniform(), notes

    def explored(self, net: nn.Module, graph: ChannelGraph) -> ChannelGraph:
        """The graph in which all is protected that is not explored."""
        return explored(net, graph, self.criterion, self.streams, self.budget.allocation == "gamma")

    def setup(self, stage: str) -> None:
        """Find out what is explored, before a checkpoint makes the network narrower."""
        if stage == "fit" and self.stages.pruned is None:
            example = like(self.trainer.datamodule.example, next(self.net.parameters()))  # type: ignore[attr-defined]
            self.graph = self.explored(self.net, trace(self.view, example))
            self.groups: list[ChannelGroup] = self.sparsity.prunable_groups(self.graph)
            self._know(self.graph)
            self.removed = self.budget.initial_share(self.graph)
            self.stages.begin(self.net, self.graph)

    def _know(self, graph: ChannelGraph) -> None:
        self.budgets = replace(self.budgets, together={group.name: group.multiplicity for group in graph.groups})

    def on_fit_start(self) -> None:
        """Refuse, now that the number of processes is known, a last stage that never comes."""
        super().on_fit_start()
        if self.stages.unit == "steps":
            self.stages.schedule(self.removed).require_epochs(self.epochs * self.steps_per_epoch())

    def share_by(self, scales: Mapping[str, Tensor]) -> float:
        """Share of the channels that goes at a stage with these batch-norm scales, see ``mean_scales``."""
        total = sum(map(len, scales.values()))
        return self.budget.share(self.graph, lambda share: self.budgets.kept(scales, share), total)

    def fresh_values(self, whole: nn.Module) -> dict[str, Tensor]:
        """Tensors of a newly built network like ``whole``, by name."""
        fresh = copy.deepcopy(whole)
        assert self.renew is not None
        self.renew(fresh)
        return fresh.state_dict()


def explored(net: nn.Module, graph: ChannelGraph, criterion: Criterion, streams: bool, by_scales: bool) -> ChannelGraph:
    """The graph in which all is protected that is not explored.

    Args:
        net: the whole network.
        graph: of it.
        criterion: leaves whole what it cannot judge.
        streams: whether channels that several layers make together are explored.
        by_scales: whether batch-norm scales decide how many channels a group gets.
    """
    names, reasons = scale_names(net), dict(criterion.unsupported(net, graph))
    for group in graph.prunable:
        if not streams and is_joined(graph, group):
            reasons[group.name] = "several layers make its channels; explore.streams=true explores them together"
        elif by_scales and not scales_of(group, names):
            reasons[group.name] = NO_SCALES
    return graph.protect(reasons)
