"""One stage of channel exploration: which channels stay, which come back, and so which the network has next."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from pruning_lit.channels import ChannelGroup
from pruning_lit.criteria.bn_scale import scale_names, scales_of
from pruning_lit.criteria.column_subset import filters_of, leverage, projection_residual
from pruning_lit.methods.chex.budgets import ChannelBudgets, RegrowSampling
from pruning_lit.sparsity.base import best
from pruning_lit.sparsity.dense import Dense
from pruning_lit.sparsity.limits import Limits


@dataclass(frozen=True)
class Stage:
    """The decision of one stage; positions are ascending, in the numbering of the whole network.

    Attributes:
        kept: by group, the channels that stay because they matter most.
        grown: by group, those of the others that come back.
        beyond: channels that stay because of floors and multiples, beyond what the budget asks for.
    """

    kept: dict[str, list[int]]
    grown: dict[str, list[int]] = field(default_factory=dict)
    beyond: int = 0

    @property
    def active(self) -> dict[str, list[int]]:
        """By group, the channels that the network has until the next stage."""
        return {name: sorted([*kept, *self.grown.get(name, ())]) for name, kept in self.kept.items()}


@dataclass(frozen=True)
class Explorer:
    """Decides at stages.

    Attributes:
        budgets: how many channels of each group stay, and come back.
        sampling: which of the others come back.
        limits: multiples of widths; floors are those of the budgets.
        dense: of the whole network.
    """

    budgets: ChannelBudgets
    sampling: RegrowSampling
    limits: Limits
    dense: Dense

    def first(
        self, groups: Sequence[ChannelGroup], weights: Mapping[str, Tensor], sparsity: float, init_regrow: float
    ) -> Stage:
        """The channels that a network begins with: the largest filters, the same share of every group.

        Args:
            groups: those that may lose channels.
            weights: parameters by name, of the network as it is built.
            sparsity: share of the channels that goes in the end.
            init_regrow: share of the channels that is there nonetheless at first.
        """
        widths = self.budgets.initial({group.name: group.size for group in groups}, sparsity, init_regrow)
        sizes = {group.name: filters_of(group, weights).abs().sum(1).cpu() for group in groups}
        return Stage({g.name: best(sizes[g.name], self.limits.fit(g, self.dense, widths[g.name])) for g in groups})

    def decide(
        self,
        groups: Sequence[ChannelGroup],
        masked: nn.Module,
        restored: Mapping[str, Tensor],
        scores: Mapping[str, Tensor] | None,
        sparsity: float,
        share: float,
        generator: torch.Generator,
    ) -> Stage:
        """What a stage decides.

        Args:
            groups: those that may lose channels.
            masked: the whole network, zero where channels are dormant.
            restored: parameters by name, where dormant channels have the values with which they would come back.
            scores: how much channels matter, by group; None: the leverage of their filters, with as many singular
                vectors as channels stay.
            sparsity: share of the channels that is removed in the end.
            share: of the channels that comes back now.
            generator: of what is random; on the CPU.
        """
        scales = mean_scales(masked, groups)
        counts = self.budgets.kept(scales, sparsity)
        comebacks = self.budgets.regrown(scales, counts, sparsity, share)
        weights, kept, grown, beyond = dict(masked.named_parameters()), {}, {}, 0
        for group in groups:
            name, stays = group.name, counts[group.name]
            if share <= 0:  # nothing is drawn any more; what a multiple or a floor asks for is chosen, too
                stays = self.limits.fit(group, self.dense, stays)
                beyond += stays - counts[name]
            found = leverage(filters_of(group, weights), stays).cpu() if scores is None else scores[name]
            kept[name] = best(found, stays)
            others = sorted({*range(group.size)} - {*kept[name]})
            residuals = projection_residual(filters_of(group, restored), kept[name], others)
            width = self.limits.fit(group, self.dense, stays + comebacks[name])
            drawn = self.sampling.draw(residuals, width - stays, generator)
            grown[name] = [others[number] for number in drawn]
        return Stage(kept, grown, beyond)


def mean_scales(net: nn.Module, groups: Sequence[ChannelGroup]) -> dict[str, Tensor]:
    """By group, the mean of the absolute batch-norm scales of each channel, float32, on the CPU.

    A group without any, where budgets are the same for every group, has ones.
    """
    names, parameters = scale_names(net), dict(net.named_parameters())
    scales = {}
    for group in groups:
        pieces = scales_of(group, names)
        each = [parameters[piece.parameter].detach().cpu().float().abs()[piece.positions].mean(1) for piece in pieces]
        scales[group.name] = torch.stack(each).mean(0) if each else torch.ones(group.size)
    return scales
