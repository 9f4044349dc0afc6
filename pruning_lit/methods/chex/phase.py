"""CHEX's training: one run from scratch in which channels are pruned and come back, until the network is final."""

import copy
import math
from collections.abc import Mapping
from fractions import Fraction
from typing import Any, ClassVar, Literal

from torch import Tensor, nn

from pruning_lit.channels import ChannelGraph, ChannelGroup, trace
from pruning_lit.criteria import Criterion
from pruning_lit.criteria.bn_scale import scale_names, scales_of
from pruning_lit.criteria.producers import is_joined
from pruning_lit.methods.chex.budgets import ChannelBudgets
from pruning_lit.methods.chex.momentum import memories
from pruning_lit.methods.chex.section import ExplorationSection
from pruning_lit.methods.chex.share_for_macs import share_for_macs
from pruning_lit.methods.chex.stages import ExplorationStages
from pruning_lit.methods.resrep.criterion import CompactorNorm
from pruning_lit.phases.epoch_steps import EpochSteps
from pruning_lit.phases.training import Training
from pruning_lit.reports.section import Section
from pruning_lit.sparsity import Global, Macs, Sparsity, Uniform
from pruning_lit.sparsity.rates import width_after

NO_SCALES = (
    "no batch norm scales its channels, so they have no share of the budget (sparsity=uniform gives all the same)"
)


class Exploration(Training):
    """Trains a network while stages prune its channels and let others come back, see ``ExplorationStages``.

    Args:
        criterion: which channels matter; by default the leverage of their filters.
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
        if not isinstance(sparsity, Global | Uniform | Macs):
            name = type(sparsity).__name__
            raise ValueError(f"exploration takes sparsity=global, sparsity=uniform or sparsity=macs, not {name}")
        require_plain(sparsity)
        if not isinstance(streams, bool):  # "no" would be true
            raise ValueError(f"streams is true or false, got {streams!r}")
        if isinstance(criterion, CompactorNorm):
            raise ValueError("criterion=compactor_norm goes by matrices that only method=resrep trains; choose another")
        self.criterion, self.sparsity, self.streams = criterion, sparsity, streams
        self.removed = float(sparsity.reduction if isinstance(sparsity, Macs) else sparsity.rate)
        alike = isinstance(sparsity, Uniform) or (isinstance(sparsity, Macs) and sparsity.asked_scope == "layer")
        self.allocation: Literal["gamma", "uniform"] = "uniform" if alike else "gamma"
        sparsity.bind(criterion)
        self.stages = self.only_callback(ExplorationStages)
        self.budgets = ChannelBudgets(self.allocation, self.stages.regrow_allocation, sparsity.limits.min_channels)
        if not isinstance(sparsity, Macs):  # of its share nobody knows before the network
            self.stages.schedule(self.removed)  # they refuse what cannot be

    def check(self, name: str, net: nn.Module, graph: ChannelGraph, steps: EpochSteps | None) -> None:
        """Also ValueError for a last stage that never comes, and for networks that cannot be explored so."""
        super().check(name, net, graph, steps)
        explored = self.explored(net, graph)
        self.sparsity.check(explored)
        self.removed = self.share_at_first(explored)
        self.require_room()
        if self.stages.unit == "epochs":
            self.stages.schedule(self.removed).require_epochs(self.epochs)
        elif steps is not None:
            self.stages.schedule(self.removed).require_epochs(self.epochs * steps.steps)
        if self.stages.execution == "narrow":
            require_channelwise(net, explored)
        if self.stages.reentry_momentum == "mirror":
            optimizer = self.build_optimizer()
            memories(optimizer, optimizer.param_groups[0])

    def require_room(self) -> None:
        """ValueError where more channels would come back than a target of MACs takes away."""
        if isinstance(self.sparsity, Macs) and self.stages.init_regrow > self.removed:
            room = math.floor(100 * self.removed) / 100
            raise ValueError(
                f"sparsity.reduction={float(self.sparsity.reduction):g} takes away {100 * self.removed:.1f} % of the "
                f"channels, and init_regrow={self.stages.init_regrow} would bring more back; set {room} or less"
            )

    def explored(self, net: nn.Module, graph: ChannelGraph) -> ChannelGraph:
        """The graph in which all is protected that is not explored."""
        return explored(net, graph, self.criterion, self.streams, self.allocation == "gamma")

    def setup(self, stage: str) -> None:
        """Find out what is explored, before a checkpoint makes the network narrower."""
        if stage == "fit" and self.stages.dormancy is None:
            example: Tensor = self.trainer.datamodule.example  # type: ignore[attr-defined]
            self.graph = self.explored(self.net, trace(self.net, example.to(next(self.net.parameters()))))
            self.groups: list[ChannelGroup] = self.sparsity.population(self.graph)
            self.removed = self.share_at_first(self.graph)
            self.stages.begin(self.net, self.graph)

    def share_at_first(self, graph: ChannelGraph) -> float:
        """Share of the channels that would go if all groups lost the same: the network begins with such widths."""
        if not isinstance(self.sparsity, Macs):
            return self.removed
        sizes = {group.name: group.size for group in self.sparsity.population(graph)}

        def alike(share: float) -> dict[str, int]:
            return {name: width_after(size, Fraction(share)) for name, size in sizes.items()}

        return share_for_macs(self.sparsity, graph, alike, sum(sizes.values()))

    def share_by(self, scales: Mapping[str, Tensor]) -> float:
        """Share of the channels that goes at a stage with these batch-norm scales, see ``mean_scales``."""
        if not isinstance(self.sparsity, Macs):
            return self.removed
        total = sum(map(len, scales.values()))
        return share_for_macs(self.sparsity, self.graph, lambda share: self.budgets.kept(scales, share), total)

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
            reasons[group.name] = "several layers make its channels; streams=true explores them together"
        elif by_scales and not scales_of(group, names):
            reasons[group.name] = NO_SCALES
    return graph.protect(reasons)


def alike(sparsity: Sparsity) -> Sparsity:
    """A budget as it would be met if all groups lost the same share: only training tells who loses more.

    Args:
        sparsity: of an exploration.
    """
    even: Sparsity = sparsity
    if isinstance(sparsity, Global):
        even = Uniform(float(sparsity.rate))
    elif isinstance(sparsity, Macs):
        even = Macs(float(sparsity.reduction), scope="layer", convention=sparsity.convention)
    even.limits = sparsity.limits
    return even


def require_plain(sparsity: Global | Uniform | Macs) -> None:
    """ValueError for settings of a budget that exploration does not look at."""
    if sparsity.limits.overrides:
        raise ValueError("sparsity.overrides sets rates of its own, which exploration has not; use sparsity.exclude")
    if sparsity.limits.on_empty != "floor":
        raise ValueError(
            f"sparsity.on_empty={sparsity.limits.on_empty} is not for exploration, where no group empties; set floor"
        )
    if isinstance(sparsity, Global) and (
        sparsity.scope != "global" or (sparsity.normalise and sparsity.rule != "exact")
    ):
        raise ValueError(
            "exploration has one threshold on all batch-norm scales as they are; set sparsity.scope=global and "
            "sparsity.normalise=null (sparsity=uniform takes the same share of every group)"
        )


def require_channelwise(net: nn.Module, graph: ChannelGraph) -> None:
    """ValueError where a norm mixes what is explored: a narrow network would not compute what the masked one does."""
    tensors = {piece.tensor for group in graph.prunable for piece in group.slices}
    for name, module in net.named_modules():
        if not isinstance(module, nn.GroupNorm | nn.LayerNorm):
            continue
        if module.weight is None or f"{name}.weight" in tensors:  # of one without weights nobody knows what it mixes
            kind = type(module).__name__
            raise ValueError(
                f"{name!r} is a {kind}, which counts the zeros of dormant channels into its mean: without them the "
                "network is another one; train with zeros (execution=mask), or use batch norms"
            )
