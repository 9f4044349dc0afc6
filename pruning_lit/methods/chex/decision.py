"""Decision of one stage of channel exploration: the channels that stay, and those that come back."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import Tensor, nn

from pruning_lit.channels import ChannelGroup
from pruning_lit.criteria.bn_scale import scale_names, scales_of
from pruning_lit.criteria.column_subset import are_short, filters_of, leverage, projection_residual
from pruning_lit.methods.chex.budgets import ChannelBudgets, require_choice
from pruning_lit.sparsity.base import best
from pruning_lit.sparsity.dense import DenseCost
from pruning_lit.sparsity.limits import Limits

Sampling = Literal["projection", "uniform"]


@dataclass(frozen=True)
class Stage:
    """The decision of one stage; positions are ascending, in the numbering of the whole network.

    Attributes:
        kept: by group, the channels that stay because they matter most.
        regrown: by group, those of the others that come back.
        above_budget: channels that stay because of floors and multiples, beyond what the budget asks for.
        short: groups whose filters are too short for leverage, so that sums of absolute weights decided.
    """

    kept: dict[str, list[int]]
    regrown: dict[str, list[int]] = field(default_factory=dict)
    above_budget: int = 0
    short: list[str] = field(default_factory=list)

    @property
    def active(self) -> dict[str, list[int]]:
        """Channels that the network has until the next stage, by group."""
        return {name: sorted([*kept, *self.regrown.get(name, ())]) for name, kept in self.kept.items()}


@dataclass(frozen=True)
class RegrowSampling:
    """Random choice of the channels that come back, of those that do not stay.

    Attributes:
        sampling: ``projection``: rather those that the kept filters cannot express, with the softmax of their
            residuals as probabilities; ``uniform``: all alike.
        residual_power: 1, as released, or 2, as in the paper: the power of the residuals in the softmax.

    Raises:
        ValueError: a choice does not exist.
    """

    sampling: Sampling = "projection"
    residual_power: int = 1

    def __post_init__(self) -> None:
        require_choice("sampling", self.sampling, Sampling)
        if self.residual_power not in (1, 2):
            raise ValueError(f"residual_power must be 1 or 2, got {self.residual_power!r}")

    def log_weights(self, residuals: Tensor) -> Tensor:
        """Logarithms of the candidates' probabilities, up to a constant; see ``projection_residual`` for residuals."""
        residuals = residuals.detach().cpu().double()
        return torch.zeros_like(residuals) if self.sampling == "uniform" else residuals.pow(self.residual_power)

    def draw(self, residuals: Tensor, count: int, generator: torch.Generator) -> list[int]:
        """Draw the candidates that come back: ascending numbers of residuals, equal for equal states of the generator.

        Args:
            residuals: one per candidate, shape ``(candidates,)``.
            count: how many come back; at most all, and none if it is not positive.
            generator: on the CPU; it moves on by one number per candidate, whatever ``count`` is.
        """
        return sample(self.log_weights(residuals), count, generator)


def sample(log_weights: Tensor, count: int, generator: torch.Generator) -> list[int]:
    """Draw without replacement, each time in proportion to the weights of what is left; ascending positions.

    Weights too small for a probability above zero are still drawn once nothing else is left.

    Args:
        log_weights: logarithms of the weights, finite, shape ``(n,)``, on the CPU.
        count: number of draws, from 0; below it and above n as 0 and n.
        generator: on the CPU.

    Source: Kool et al. 2019, "Stochastic Beams and Where to Find Them" (arXiv 1903.06059): the largest of the sums with
    Gumbel noise are such draws.
    """
    uniform = torch.rand(len(log_weights), dtype=torch.float64, generator=generator)
    noisy = log_weights - uniform.log().neg().log()
    return sorted(noisy.topk(max(0, min(count, len(noisy)))).indices.tolist())


@dataclass(frozen=True)
class StageDecider:
    """Choose the channels that stay, and those that come back, at a stage.

    Attributes:
        budgets: how many channels of each group stay, and come back.
        sampling: which of the others come back.
        limits: multiples of widths; floors are those of the budgets.
        dense: of the whole network.
    """

    budgets: ChannelBudgets
    sampling: RegrowSampling
    limits: Limits
    dense: DenseCost

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
        """Decide a stage.

        Args:
            groups: those that may lose channels.
            masked: the whole network, zero where channels are pruned.
            restored: parameters by name, where pruned channels have the values with which they would come back.
            scores: how much channels matter, by group; None: the leverage of their filters, with as many singular
                vectors as channels stay.
            sparsity: share of the channels that is removed in the end.
            share: of the channels that comes back now.
            generator: of what is random; on the CPU.
        """
        scales = mean_scales(masked, groups)
        counts = self.budgets.kept(scales, sparsity)
        regrown_counts = self.budgets.regrown(scales, counts, sparsity, share)
        weights, kept, regrown, above_budget, short = dict(masked.named_parameters()), {}, {}, 0, []
        for group in groups:
            name, stays = group.name, counts[group.name]
            if share <= 0:  # nothing is drawn any more; what a multiple or a floor asks for is chosen, too
                stays = self.limits.fit(group, self.dense, stays)
                above_budget += stays - counts[name]
            if scores is None:
                filters = filters_of(group, weights)
                short += [name] * are_short(filters)
                kept[name] = best(leverage(filters, stays).cpu(), stays)
            else:
                kept[name] = best(scores[name], stays)
            others = sorted({*range(group.size)} - {*kept[name]})
            residuals = projection_residual(filters_of(group, restored), kept[name], others)
            width = self.limits.fit(group, self.dense, stays + regrown_counts[name])
            drawn = self.sampling.draw(residuals, width - stays, generator)
            regrown[name] = [others[number] for number in drawn]
        return Stage(kept, regrown, above_budget, short)


def mean_scales(net: nn.Module, groups: Sequence[ChannelGroup]) -> dict[str, Tensor]:
    """Mean of the absolute batch-norm scales of each channel, by group, float32, on the CPU.

    A group without any, where budgets are the same for every group, has ones.
    """
    names, parameters = scale_names(net), dict(net.named_parameters())
    scales = {}
    for group in groups:
        pieces = scales_of(group, names)
        each = [parameters[piece.parameter].detach().cpu().float().abs()[piece.positions].mean(1) for piece in pieces]
        scales[group.name] = torch.stack(each).mean(0) if each else torch.ones(group.size)
    return scales
