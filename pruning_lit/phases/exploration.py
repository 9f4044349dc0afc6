"""CHEX's training: one run from scratch in which channels are pruned and come back, until the network is final."""

import copy
from typing import Any, Literal

from torch import Tensor, nn

from pruning_lit.callbacks.dormant import fading_factors
from pruning_lit.callbacks.exploration_stages import ExplorationStages
from pruning_lit.channels import ChannelGraph, ChannelGroup, trace
from pruning_lit.criteria import Criterion
from pruning_lit.criteria.bn_scale import scale_names, scales_of
from pruning_lit.criteria.makers import made_by_several
from pruning_lit.phases.epoch_steps import EpochSteps
from pruning_lit.phases.training import Training
from pruning_lit.sparsity import Global, Sparsity, Uniform
from pruning_lit.sparsity.exploration import ChannelBudgets

NO_SCALES = (
    "no batch norm scales its channels, so they have no share of the budget (sparsity=uniform gives all the same)"
)


class Exploration(Training):
    """Trains a network while stages prune its channels and let others come back, see ``ExplorationStages``.

    Args:
        criterion: which channels matter; by default the leverage of their filters.
        sparsity: how many channels go in the end: ``Global``: those below one threshold on all batch-norm scales;
            ``Uniform``: the same share of every group.
        streams: explore also channels that several layers make together, by all their filters side by side.
        training: see ``Training``; one of the callbacks is an ``ExplorationStages``.

    Source: Hou et al. 2022, "CHEX: CHannel EXploration for CNN Model Compression" (arXiv 2203.15794). Streams are an
    extension.
    """

    def __init__(self, *, criterion: Criterion, sparsity: Sparsity, streams: bool = False, **training: Any) -> None:
        super().__init__(**training)
        if not isinstance(sparsity, Global | Uniform):
            name = type(sparsity).__name__
            raise ValueError(f"exploration takes a share of channels, sparsity=global or sparsity=uniform, not {name}")
        if sparsity.limits.overrides:
            raise ValueError(
                "sparsity.overrides sets rates of its own, which exploration has not; use sparsity.exclude"
            )
        self.criterion, self.sparsity, self.streams = criterion, sparsity, streams
        self.removed = float(sparsity.rate)
        self.allocation: Literal["gamma", "uniform"] = "gamma" if isinstance(sparsity, Global) else "uniform"
        sparsity.suit(criterion)
        self.stages = self.only_callback(ExplorationStages)
        self.stages.schedule(self.removed)  # they refuse what cannot be
        ChannelBudgets(self.allocation, self.stages.regrow_allocation)

    def check(self, name: str, net: nn.Module, graph: ChannelGraph, steps: EpochSteps | None) -> None:
        """Also ValueError for a last stage that never comes, and for networks that cannot be explored so."""
        super().check(name, net, graph, steps)
        if self.stages.unit == "epochs":
            self.stages.schedule(self.removed).require_epochs(self.epochs)
        elif steps is not None:
            self.stages.schedule(self.removed).require_epochs(self.epochs * steps.steps)
        if self.stages.execution == "narrow":
            require_channelwise(net)
        if self.stages.reentry_momentum == "mirror":
            optimizer = self.build_optimizer()
            fading_factors(optimizer, optimizer.param_groups[0])
        self.sparsity.check(self.explored(net, graph))

    def explored(self, net: nn.Module, graph: ChannelGraph) -> ChannelGraph:
        """The graph in which all is protected that is not explored."""
        names, reasons = scale_names(net), dict(self.criterion.unjudged(net, graph))
        for group in graph.prunable:
            if not self.streams and made_by_several(graph, group):
                reasons[group.name] = "several layers make its channels; streams=true explores them together"
            elif self.allocation == "gamma" and not scales_of(group, names):
                reasons[group.name] = NO_SCALES
        return graph.protect(reasons)

    def setup(self, stage: str) -> None:
        """Find out what is explored, before a checkpoint makes the network narrower."""
        if stage == "fit" and self.stages.dormancy is None:
            example: Tensor = self.trainer.datamodule.example  # type: ignore[attr-defined]
            self.graph = self.explored(self.net, trace(self.net, example.to(next(self.net.parameters()))))
            self.groups: list[ChannelGroup] = self.sparsity.population(self.graph)
            self.stages.begin(self.net, self.graph)

    def fresh_values(self, whole: nn.Module) -> dict[str, Tensor]:
        """Tensors of a newly built network like ``whole``, by name."""
        fresh = copy.deepcopy(whole)
        assert self.renew is not None
        self.renew(fresh)
        return fresh.state_dict()


def require_channelwise(net: nn.Module) -> None:
    """ValueError where a norm mixes channels, so that a narrow network would not compute what the masked one does."""
    for name, module in net.named_modules():
        if isinstance(module, nn.GroupNorm | nn.LayerNorm):
            kind = type(module).__name__
            raise ValueError(
                f"{name!r} is a {kind}, which counts the zeros of dormant channels into its mean: without them the "
                "network is another one; train with zeros (execution=mask), or use batch norms"
            )
