"""Channel exploration: when channels are pruned and others regrown, how many of each group, and which come back.

Source: Hou et al. 2022, "CHEX: CHannel EXploration for CNN Model Compression" (arXiv 2203.15794), with the thresholds
and roundings of its release.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, Literal, get_args

import torch
from torch import Tensor

from pruning_lit.sparsity.rates import parse_share, width_after
from pruning_lit.sparsity.threshold import widths_above

Decay = Literal["cosine", "linear", "constant"]
Allocation = Literal["gamma", "uniform"]
RegrowAllocation = Literal["per_layer", "global"]
Sampling = Literal["projection", "uniform"]


@dataclass(frozen=True)
class ExplorationSchedule:
    """The epochs at whose start a stage prunes and regrows, and the share that it regrows.

    Attributes:
        sparsity: share of the channels, of all groups together, that is removed in the end, in (0, 1).
        init_regrow: share of the channels that comes back at first, from 0 to ``sparsity``.
        interval: epochs from one stage to the next; the first is at the start of epoch ``interval``, counted from 0.
        last_stage: epoch of the last stage, a multiple of ``interval``; it only prunes.
        decay: how the share that comes back falls, see ``regrow_share``.
        unit: what is counted: ``epochs``, or optimizer ``steps``.

    Raises:
        ValueError: a value is outside its range, or the last stage is no multiple of the interval, so that the last
            one to happen would still regrow, and the network would stay above its budget.
    """

    sparsity: float
    init_regrow: float
    interval: int
    last_stage: int
    decay: Decay = "cosine"
    unit: str = "epochs"

    def __post_init__(self) -> None:
        removed = parse_share(self.sparsity, "sparsity", "the share of the channels that is removed in the end")
        if not removed:
            raise ValueError("sparsity.rate must lie between 0 and 1, got 0: nothing would be removed")
        if not 0 <= parse_share(self.init_regrow, "init_regrow", "the share that comes back at first") <= removed:
            raise ValueError(
                f"init_regrow must not exceed sparsity.rate={self.sparsity}, got {self.init_regrow}: no more channels "
                "can come back than are removed"
            )
        require_choice("decay", self.decay, Decay)
        require_count("interval", self.interval)
        require_count("last_stage", self.last_stage)
        if self.last_stage % self.interval:
            last = self.last_stage // self.interval * self.interval
            problem = f"the stage at {self.unit.removesuffix('s')} {last} would be the last and still regrow channels"
            raise ValueError(
                f"last_stage must be a multiple of interval={self.interval}, got {self.last_stage}: "
                f"{problem if last else 'it comes before the first stage'}; set last_stage={last or self.interval}"
            )

    def require_epochs(self, num_epochs: int) -> None:
        """ValueError unless the last stage is at the start of one of so many epochs."""
        if self.last_stage >= num_epochs:
            raise ValueError(
                f"last_stage={self.last_stage} lies beyond the training, whose {self.unit} are 0 to {num_epochs - 1}: "
                "the network would never reach its budget; set an earlier last_stage or train for more epochs"
            )

    @property
    def stages(self) -> range:
        """The epochs with a stage."""
        return range(self.interval, self.last_stage + 1, self.interval)

    def share(self, epoch: int) -> float:
        """The share of the channels that comes back at a stage."""
        return regrow_share(epoch, self.init_regrow, self.last_stage, self.decay)


def regrow_share(epoch: int, init_regrow: float, last_stage: int, decay: Decay = "cosine") -> float:
    """Share of the channels that comes back at the start of an epoch: ``init_regrow`` at 0, and 0 from the last stage.

    Args:
        epoch: counted from 0.
        init_regrow: at epoch 0.
        last_stage: epoch from which on nothing comes back.
        decay: ``cosine``: half a period, as published; ``linear``; ``constant``: the same until the last stage.
    """
    if epoch >= last_stage:
        return 0.0
    if decay == "linear":
        return init_regrow * ((last_stage - epoch) / last_stage)
    if decay == "constant":
        return init_regrow
    return init_regrow * (1 + math.cos(math.pi * epoch / last_stage)) / 2


@dataclass(frozen=True)
class ChannelBudgets:
    """How many channels each group starts with; how many stay at a stage, and how many come back on top of them.

    The latter two go by one batch-norm scale per channel, 0 for a dormant one; in a tied group by the mean of the
    absolute scales, see ``BatchNormScale`` with ``tied="mean"``.

    Attributes:
        allocation: what stays: ``gamma``: the channels above one threshold on all absolute scales; ``uniform``: the
            same share of every group.
        regrow_allocation: what comes back: ``per_layer``: the same share of every group; ``global``: what is between
            the threshold and a lower one, so that no group gets wider than it was, as released for classification.
        min_channels: that stay in every group, after the count; the other groups do not give what these keep.

    Raises:
        ValueError: a choice does not exist, or both thresholds would have to come from different rules.
    """

    allocation: Allocation = "gamma"
    regrow_allocation: RegrowAllocation = "per_layer"
    min_channels: int = 1

    def __post_init__(self) -> None:
        require_choice("allocation", self.allocation, Allocation)
        require_choice("regrow_allocation", self.regrow_allocation, RegrowAllocation)
        require_count("min_channels", self.min_channels)
        if (self.allocation, self.regrow_allocation) == ("uniform", "global"):
            raise ValueError(
                "regrow_allocation=global lowers the one threshold on all scales, and sparsity=uniform has none; "
                "set regrow_allocation=per_layer"
            )

    def initial(self, sizes: Mapping[str, int], sparsity: float, init_regrow: float) -> dict[str, int]:
        """Channels that each group starts with: the same share everywhere, what stays and what comes back at first.

        Args:
            sizes: channels of each group in the dense network.
            sparsity: share of the channels that goes in the end, in (0, 1).
            init_regrow: share of the channels that comes back at first, from 0 to ``sparsity``.
        """
        removed = Fraction(str(sparsity)) - Fraction(str(init_regrow))
        return floored({name: width_after(size, removed) for name, size in sizes.items()}, sizes, self.min_channels)

    def kept(self, scales: Mapping[str, Tensor], sparsity: float) -> dict[str, int]:
        """Channels that stay in each group.

        With ``gamma`` one more goes than ``int(count * sparsity)``, and with equal scales possibly many more; see
        ``global_threshold``.

        Args:
            scales: of every group, of both signs, shape ``(size,)``.
            sparsity: share of the channels that goes, in (0, 1).
        """
        sizes = {name: len(each) for name, each in scales.items()}
        if self.allocation == "uniform":
            counts = {name: width_after(size, Fraction(str(sparsity))) for name, size in sizes.items()}
        else:
            counts = widths_above(scales, sparsity, together=True)
        return floored(counts, sizes, self.min_channels)

    def regrown(
        self, scales: Mapping[str, Tensor], kept: Mapping[str, int], sparsity: float, share: float
    ) -> dict[str, int]:
        """Channels that come back in each group, from 0 to those that do not stay.

        Args:
            scales: of every group, of both signs, shape ``(size,)``.
            kept: channels that stay in each group.
            sparsity: share of the channels that goes in the end, in (0, 1).
            share: of the channels that comes back, see ``regrow_share``; 0: none, anywhere.
        """
        if share <= 0:
            return dict.fromkeys(scales, 0)
        if self.regrow_allocation == "per_layer":
            active = {name: kept[name] + int(share * len(each)) for name, each in scales.items()}
        else:
            active = widths_above(scales, max(0.0, sparsity - share), together=True)
        return {name: max(0, min(active[name], len(each)) - kept[name]) for name, each in scales.items()}


@dataclass(frozen=True)
class RegrowSampling:
    """Which of the channels that do not stay come back: some at random.

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
        """Which candidates come back: ascending numbers of residuals, equal for equal states of the generator.

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


def floored(widths: Mapping[str, int], sizes: Mapping[str, int], min_channels: int) -> dict[str, int]:
    """Widths of at least ``min_channels``, where a group has so many."""
    return {name: min(sizes[name], max(width, min_channels)) for name, width in widths.items()}


def require_choice(name: str, value: Any, choices: Any) -> None:
    """ValueError unless the value is one of a ``Literal``."""
    if value not in get_args(choices):
        raise ValueError(f"{name} must be one of {list(get_args(choices))}, got {value!r}")


def require_count(name: str, value: Any) -> None:
    """ValueError unless the value is a whole number of at least 1."""
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise ValueError(f"{name} must be a whole number of at least 1, got {value!r}")
