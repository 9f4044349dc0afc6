"""Budgets of channel exploration: the schedule of its stages, and how many channels stay and come back at each.

Source: Hou et al. 2022, "CHEX: CHannel EXploration for CNN Model Compression" (arXiv 2203.15794), with the thresholds
and roundings of its release.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any, Literal, get_args

from torch import Tensor

from pruning_lit.channels import ChannelGraph
from pruning_lit.criteria import Criterion
from pruning_lit.sparsity import DenseCost, Global, Macs, Sparsity, Uniform
from pruning_lit.sparsity.rates import parse_share, width_after
from pruning_lit.sparsity.threshold import widths_above

Decay = Literal["cosine", "linear", "constant"]
Allocation = Literal["gamma", "uniform"]
RegrowAllocation = Literal["per_layer", "global"]


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
    """Numbers of channels of each group: at the start, those that stay at a stage, and those that come back.

    The latter two go by one batch-norm scale per channel, 0 for a pruned one; in a tied group by the mean of the
    absolute scales, see ``BatchNormScale`` with ``tied="mean"``.

    Attributes:
        allocation: what stays: ``gamma``: the channels above one threshold on all absolute scales; ``uniform``: the
            same share of every group.
        regrow_allocation: what comes back: ``per_layer``: the same share of every group; ``global``: what is between
            the threshold and a lower one, so that no group gets wider than it was, as released for classification.
        min_channels: output channels that stay in every group, after the count; the other groups do not give what these
            keep.
        together: by group, output channels that can only leave together, see ``ChannelGroup.multiplicity``; by default
            each leaves alone.

    Raises:
        ValueError: a choice does not exist, or both thresholds would have to come from different rules.
    """

    allocation: Allocation = "gamma"
    regrow_allocation: RegrowAllocation = "per_layer"
    min_channels: int = 1
    together: Mapping[str, int] = field(default_factory=dict)

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
        return self._floored({name: width_after(size, removed) for name, size in sizes.items()}, sizes)

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
        return self._floored(counts, sizes)

    def _floored(self, widths: Mapping[str, int], sizes: Mapping[str, int]) -> dict[str, int]:
        """Widths of at least ``min_channels``, where a group has so many."""
        least = {name: math.ceil(self.min_channels / self.together.get(name, 1)) for name in widths}
        return {name: min(sizes[name], max(width, least[name])) for name, width in widths.items()}

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


class ExplorationBudget:
    """Share of the channels that an exploration removes, as a sparsity asks for it.

    Args:
        sparsity: ``Global``: those below one threshold on all batch-norm scales; ``Uniform``: the same share of every
            group; ``Macs``: at every stage as large a share as meets the target.
        criterion: to which it is bound.

    Attributes:
        sparsity: bound to the criterion.
        allocation: see ``ChannelBudgets``.
        macs: the sparsity, where it is a target of multiply-accumulates; else None.
        amount: what the sparsity asks for: a share of the channels, or of the multiply-accumulates.

    Raises:
        ValueError: another sparsity, or a setting of it that exploration does not look at.
    """

    def __init__(self, sparsity: Sparsity, criterion: Criterion) -> None:
        if not isinstance(sparsity, Global | Uniform | Macs):
            name = type(sparsity).__name__
            raise ValueError(f"exploration takes sparsity=global, sparsity=uniform or sparsity=macs, not {name}")
        require_plain(sparsity)
        self.sparsity = sparsity = sparsity.bind(criterion)
        self.macs = sparsity if isinstance(sparsity, Macs) else None
        self.amount = float(sparsity.reduction if isinstance(sparsity, Macs) else sparsity.rate)
        even = isinstance(sparsity, Uniform) or (isinstance(sparsity, Macs) and sparsity.asked_scope == "layer")
        self.allocation: Allocation = "uniform" if even else "gamma"

    def share(self, graph: ChannelGraph, widths: Callable[[float], Mapping[str, int]], num_channels: int) -> float:
        """The share of the channels that goes; arguments as for ``share_for_macs``."""
        return self.amount if self.macs is None else share_for_macs(self.macs, graph, widths, num_channels)

    def initial_share(self, graph: ChannelGraph) -> float:
        """The share of the channels that would go if all groups lost the same."""
        sizes = {group.name: group.size for group in self.sparsity.prunable_groups(graph)}
        widths = lambda share: {name: width_after(size, Fraction(share)) for name, size in sizes.items()}  # noqa: E731
        return self.share(graph, widths, sum(sizes.values()))

    def require_room(self, removed: float, init_regrow: float) -> None:
        """ValueError where more channels would come back than a target of MACs takes away."""
        if self.macs is not None and init_regrow > removed:
            room = math.floor(100 * removed) / 100
            raise ValueError(
                f"sparsity.reduction={self.amount:g} takes away {100 * removed:.1f} % of the channels, and "
                f"init_regrow={init_regrow} would bring more back; set {room} or less"
            )

    def asked(self, graph: ChannelGraph) -> dict[str, float | int | None]:
        """Request, for the report: a share ``sparsity`` of the channels, or all but ``target_macs``."""
        if self.macs is None:
            return {"sparsity": self.amount, "target_macs": None}
        dense, part = DenseCost.of(graph), self.macs.limits.part
        whole, counted = (dense.counted(self.macs.macs_convention, each) for each in (None, part))
        return {"sparsity": None, "target_macs": int(whole - counted * self.macs.reduction)}

    def uniform(self) -> Sparsity:
        """The budget as it would be met if all groups lost the same share: only training tells who loses more."""
        limits = vars(self.sparsity.limits)  # as its constructor takes them
        if self.macs is None:
            return Uniform(self.amount, **limits)
        return Macs(self.amount, "layer", macs_convention=self.macs.macs_convention, **limits)


def require_plain(sparsity: Global | Uniform | Macs) -> None:
    """ValueError for settings of a budget that exploration does not look at."""
    if sparsity.limits.overrides:
        raise ValueError("sparsity.overrides sets rates of its own, which exploration has not; use sparsity.exclude")
    if sparsity.limits.on_empty != "floor":
        raise ValueError(
            f"sparsity.on_empty={sparsity.limits.on_empty} is not for exploration, where no group empties; set it to "
            "floor"
        )
    if isinstance(sparsity, Macs) and sparsity.asked_scope == "knapsack":
        raise ValueError("exploration finds out in training which layers lose more; leave out sparsity.scope=knapsack")
    if isinstance(sparsity, Macs) and sparsity.asked_normalise:
        raise ValueError("exploration compares batch-norm scales as they are; leave out sparsity.normalise=true")
    if isinstance(sparsity, Global) and (
        sparsity.scope != "global" or (sparsity.normalise and sparsity.rule != "exact")
    ):
        raise ValueError(
            "exploration has one threshold on all batch-norm scales as they are; set sparsity.scope=global and "
            "sparsity.normalise=null (sparsity=uniform takes the same share of every group)"
        )


def share_for_macs(
    budget: Macs, graph: ChannelGraph, widths: Callable[[float], Mapping[str, int]], num_channels: int
) -> float:
    """The smallest share of the channels without which the network costs no more than the target.

    Args:
        budget: the target, with its limits.
        graph: of the whole network.
        widths: a share in (0, 1) to the widths that are asked for then, of every group of the population; they do not
            grow with the share.
        num_channels: of all these groups.

    Returns:
        Midway between two numbers of channels, so that no rounding takes one of them for the other.
    """
    dense, least, most = DenseCost.of(graph), 0, num_channels - 1
    while least < most:
        middle = (least + most) // 2
        if budget.is_met(graph, widths((middle + 0.5) / num_channels), dense, Fraction(1)):
            most = middle
        else:
            least = middle + 1
    return (least + 0.5) / num_channels


def require_choice(name: str, value: Any, choices: Any) -> None:
    """ValueError unless the value is one of a ``Literal``."""
    if value not in get_args(choices):
        raise ValueError(f"{name} must be one of {list(get_args(choices))}, got {value!r}")


def require_count(name: str, value: Any) -> None:
    """ValueError unless the value is a whole number of at least 1."""
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise ValueError(f"{name} must be a whole number of at least 1, got {value!r}")
