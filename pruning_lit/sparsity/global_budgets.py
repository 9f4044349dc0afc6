"""Budgets for the network as a whole: channels are put in the order in which they would go, and enough of them go."""

import copy
import math
from abc import abstractmethod
from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from fractions import Fraction
from typing import Any, ClassVar, Literal, Self, get_args

from torch import Tensor

from pruning_lit.channels import ChannelGraph, ChannelGroup
from pruning_lit.channels.surgery.cost import MacsConvention
from pruning_lit.criteria import Criterion
from pruning_lit.sparsity.base import Scores, Sparsity
from pruning_lit.sparsity.cost_target import CostTarget
from pruning_lit.sparsity.dense import DenseCost
from pruning_lit.sparsity.knapsack import Knapsack
from pruning_lit.sparsity.layout import is_stream
from pruning_lit.sparsity.macs_target import MacsTarget
from pruning_lit.sparsity.params_target import ParamsTarget, require_whole
from pruning_lit.sparsity.rates import parse_rate
from pruning_lit.sparsity.threshold import largest_share, widths_above

# a channel that goes: its point in the order, its score, place and name of its group
Event = tuple[float, float, int, str]
Scope = Literal["layer", "global"]
CostScope = Literal["layer", "global", "knapsack"]
Rule = Literal["exact", "slimming"]
Streams = Literal["last", "alike"]
WIDTHS_BY: dict[str, str] = {
    "layer": "Every layer was to lose the same share of its channels",
    "global": "The channels with the lowest scores went, in whatever layer",
    "knapsack": "Those channels stay whose scores add up to most for what they cost",
}
STREAMS_START = 0.8  # share that all other layers have lost when residual streams begin to lose channels


class RankedBudget(Sparsity):
    """A budget that goes along the order in which channels would go to the first point where it is met.

    Groups with a rate of their own are included.
    """

    scopes: ClassVar[tuple[str, ...]] = get_args(Scope)

    def __init__(self, scope: str, normalise: bool, **limits: Any) -> None:
        super().__init__(**limits)
        if scope not in self.scopes:
            raise ValueError(f"sparsity.scope must be one of {list(self.scopes)}, got {scope!r}")
        self.scope, self.normalise = scope, normalise

    @abstractmethod
    def is_met(self, graph: ChannelGraph, target: Mapping[str, int], dense: DenseCost, progress: Fraction) -> bool:
        """True where these widths, within the limits, meet the budget; once met, it is met by all narrower ones."""

    def meets(self, graph: ChannelGraph, scores: Scores, widths: Mapping[str, int], dense: DenseCost) -> bool:
        """True for any widths within the budget if the smallest scores go first, wherever; else as in ``Sparsity``."""
        if self.scope != "layer" and not self.normalise:
            return self.is_met(graph, widths, dense, Fraction(1))
        return super().meets(graph, scores, widths, dense)

    def removal_order(self, graph: ChannelGraph, scores: Scores, dense: DenseCost | None = None) -> list[str]:
        """For every position without a rate of its own, the name of its group, in the order in which they go.

        With scope ``layer`` all groups lose the same share at every point of the order, with ``global`` the lowest
        scores of the whole network come first; but for groups that have a ``start``.

        Args:
            graph: the network as it is now.
            scores: one per channel.
            dense: the network before the first cut, of which shares are; None: as it is.
        """
        rates, sizes = self.limits.rates(graph), (dense or DenseCost.of(graph)).sizes
        events = []
        for place, group in enumerate(self.prunable_groups(graph)):
            if group.name not in rates:
                ascending = _comparable(scores[group.name], self.normalise).sort().values.tolist()
                size, start = sizes[group.name], self.start(graph, group)
                for gone, score in enumerate(ascending, start=1 + size - group.size):
                    share = start + (1 - start) * gone / size if self.scope == "layer" else start
                    events.append((share, score, place, group.name))
        events.sort()
        if self.scope == "global":
            events = self._merged(events, {name: sizes[name] for *_, name in events})
        return [name for *_, name in events]

    def _merged(self, events: list[Event], sizes: Mapping[str, int]) -> list[Event]:
        """In scope ``global``: those that start late wait until so many others have gone, and are among them then."""
        prompt, late = ([each for each in events if (each[0] > 0) == waits] for waits in (False, True))
        if not late:
            return events
        total = sum(sizes[name] for name in {name for *_, name in prompt})
        ahead = math.ceil(late[0][0] * total) - (total - len(prompt))  # some may be gone already
        return prompt[: max(0, ahead)] + sorted(prompt[max(0, ahead) :] + late, key=lambda each: each[1:])

    def start(self, graph: ChannelGraph, group: ChannelGroup) -> float:
        """Share that other groups have lost when this one begins to lose channels."""
        return 0.0

    def budget_widths(
        self, graph: ChannelGraph, scores: Scores, dense: DenseCost, progress: Fraction
    ) -> dict[str, int]:
        """Widths after the fewest removals, in the ``removal_order``, that meet the budget."""
        order, overridden = self.removal_order(graph, scores, dense), self.override_widths(graph, dense, progress)
        sizes = {group.name: group.size for group in self.prunable_groups(graph)}

        def after(gone: int) -> dict[str, int]:
            lost = Counter(order[:gone])
            return {name: size - lost[name] for name, size in sizes.items()} | overridden

        return after(
            bisect_left(range(len(order)), True, key=lambda gone: self.is_met(graph, after(gone), dense, progress))
        )


def _sizes(graph: ChannelGraph) -> dict[str, int]:
    return {group.name: group.size for group in graph.groups}


def _comparable(scores: Tensor, normalise: bool) -> Tensor:
    mean = scores.mean()
    return scores / mean if normalise and mean > 0 else scores


class Global(RankedBudget):
    """Remove one share of all channels of the network, the lowest scores first, wherever they are.

    The share is one of all groups that are not excluded. With the rule ``exact`` it is met with floors and overrides:
    where these keep channels, others go instead, and what overrides remove counts. Rounding comes afterwards, and may
    keep more. With ``slimming`` one threshold is read from the sorted scores and all that is not above it goes (see
    ``criteria.global_threshold``): usually one channel more, with equal scores more than that; what floors keep, and
    what overrides do, is not made up for elsewhere.

    Args:
        rate: share of the channels removed, in [0, 1).
        normalise: divide the scores of each group by their mean first, for criteria whose unit differs from layer to
            layer; None: only with the rule ``exact``.
        rule: ``exact``, or ``slimming``: that of Network Slimming's release.
        scope: ``global``; or ``layer``: the same share, or a threshold of its own, in every group.
        limits: see ``Limits``.
    """

    def __init__(
        self,
        rate: float | str,
        normalise: bool | None = None,
        rule: Rule = "exact",
        scope: Scope = "global",
        **limits: Any,
    ) -> None:
        super().__init__(scope, rule == "exact" if normalise is None else normalise, **limits)
        if rule not in get_args(Rule):
            raise ValueError(f"sparsity.rule must be one of {list(get_args(Rule))}, got {rule!r}")
        self.rule = rule
        self.rate = parse_rate(rate, "sparsity.rate")

    def budget_widths(
        self, graph: ChannelGraph, scores: Scores, dense: DenseCost, progress: Fraction
    ) -> dict[str, int]:
        """Widths above Network Slimming's threshold, or, with the rule ``exact``, as for any ranked budget."""
        if self.rule == "exact":
            return super().budget_widths(graph, scores, dense, progress)
        judged = self._judged(graph, scores)
        if not judged:  # all have a rate of their own
            return {}
        total, present = (sum(sizes[name] for name in judged) for sizes in (dense.sizes, _sizes(graph)))
        share = 1 - (1 - self.rate * progress) * Fraction(total, present)  # of what there is now
        return widths_above(judged, max(0.0, float(share)), together=self.scope == "global")

    def threshold(self, graph: ChannelGraph, scores: Scores, target: Mapping[str, int]) -> float | None:
        """The largest score that is to go; None where the scores of different groups are not compared, or none goes."""
        if self.rule == "exact" or self.scope == "layer" or self.normalise:
            return None
        gone = [each.sort().values[len(each) - target[name] - 1] for name, each in self._judged(graph, scores).items()
                if target[name] < len(each)]  # fmt: skip
        return max(map(float, gone), default=None)

    def require_survivors(self, graph: ChannelGraph, scores: Scores, target: Mapping[str, int], hint: str = "") -> None:
        """ValueError also where a threshold takes every channel, which floors would not make a sensible network."""
        judged = self._judged(graph, scores)
        if self.rule == "slimming" and judged and not any(target[name] for name in judged):
            total, largest = sum(map(len, judged.values())), max(float(each.max()) for each in judged.values())
            raise ValueError(
                f"sparsity.rate={float(self.rate)} would take all {total} channels, none scores above {largest:g}; "
                "they do not tell them apart, as in a network that was never trained, or the rate is too large"
            )
        if self.limits.on_empty == "error" and judged and self.rule == "slimming" and self.scope == "global":
            hint = f"; the largest sparsity.rate that empties no group is {largest_share(judged)}"
        super().require_survivors(graph, scores, target, hint)

    def _judged(self, graph: ChannelGraph, scores: Scores) -> dict[str, Tensor]:
        """The scores, to be compared, of the groups without a rate of their own."""
        rates = self.limits.rates(graph)
        names = [group.name for group in self.prunable_groups(graph) if group.name not in rates]
        return {name: _comparable(scores[name], self.normalise) for name in names}

    def check(self, graph: ChannelGraph) -> None:
        """ValueError where, with the rule ``exact``, floors and overrides leave more channels than may stay."""
        super().check(graph)
        if self.rule == "slimming":
            return
        dense, narrowest = DenseCost.of(graph), self.min_widths(graph)
        if not self.is_met(graph, narrowest, dense, Fraction(1)):
            total = self._total(graph, narrowest, dense)
            most = total - self._staying(graph, narrowest, dense)
            raise ValueError(
                f"sparsity.rate={float(self.rate)} cannot be met: of {total} channels at most {most} can go, "
                f"a share of {most / total:.3f}, with {self.limits}"
            )

    def is_met(self, graph: ChannelGraph, target: Mapping[str, int], dense: DenseCost, progress: Fraction) -> bool:
        """True where the share of channels has gone."""
        total = self._total(graph, target, dense)
        return self._staying(graph, target, dense) <= total - math.floor(total * self.rate * progress)

    def _staying(self, graph: ChannelGraph, target: Mapping[str, int], dense: DenseCost) -> int:
        groups = {group.name: group for group in graph.groups}
        return sum(
            self.limits.floored(groups[name], dense, width) * groups[name].multiplicity
            for name, width in target.items()
        )

    def _total(self, graph: ChannelGraph, names: Iterable[str], dense: DenseCost) -> int:
        return sum(dense.sizes[name] * graph[name].multiplicity for name in names)


TOLD_BEYOND = 0.05  # of the cost, by which more goes than was asked for


class CostBudget(RankedBudget):
    """Remove channels until what the network costs meets a target: the first network, from above, that costs no more.

    The target is met by the network that is really made, with floors, overrides and rounding: where these keep
    channels, others go instead. A budget of one's own says what is counted, by its ``goal``.

    Args:
        scope: ``layer``: all layers lose the same share of channels; ``global``: the lowest scores go first, wherever
            they are; ``knapsack``: those channels stay whose scores add up to most for what they cost, so that of equal
            scores the more costly goes first, and no group is emptied. None: ``knapsack`` for a criterion whose scores
            add up (see ``Criterion``), ``global`` where they are comparable, else ``layer``.
        normalise: as for ``Global``; None: unless comparable scores are compared.
        streams: ``last``: residual streams stay whole until all other layers have lost 80 % of their channels. From
            there on they lose, too: with scope ``layer`` so that all would end together, with ``global`` by their
            scores. ``alike``: as everywhere.
        limits: as for ``Global``.
    """

    scopes = get_args(CostScope)
    goal: CostTarget

    def __init__(
        self,
        scope: CostScope | None = None,
        normalise: bool | None = None,
        streams: Streams = "last",
        **limits: Any,
    ) -> None:
        super().__init__("layer" if scope is None else scope, True if normalise is None else normalise, **limits)
        if streams not in get_args(Streams):
            raise ValueError(f"sparsity.streams must be 'last' or 'alike', got {streams!r}")
        self.streams = streams
        self._set = scope, normalise

    @property
    def asked_scope(self) -> CostScope | None:
        """The scope that was set, whatever the criterion makes of it."""
        return self._set[0]

    @property
    def asked_normalise(self) -> bool | None:
        """``normalise`` as it was set, whatever the criterion makes of it."""
        return self._set[1]

    def bind(self, criterion: Criterion) -> Self:
        """Bind a copy to the criterion, which settles ``scope`` and ``normalise`` where they are not set.

        Raises:
            ValueError: a knapsack is asked for, and scores do not add up.
        """
        bound, (scope, normalise) = copy.copy(self), self._set
        if scope == "knapsack" and not criterion.additive:
            name = type(criterion).__name__
            raise ValueError(
                f"sparsity.scope=knapsack adds scores up, and those of {name} do not add up to what is lost: choose "
                "criterion=taylor, lamp or hessian, or sparsity.scope=layer"
            )
        bound.scope = scope or ("knapsack" if criterion.additive else "global" if criterion.comparable else "layer")
        needless = criterion.comparable and bound.scope != "layer"
        bound.normalise = not needless if normalise is None else normalise
        return bound

    def check(self, graph: ChannelGraph) -> None:
        """ValueError where even the narrowest network within the limits costs more than the target."""
        super().check(graph)
        self.goal.require_reachable(self, graph)

    def scope_notes(self) -> list[str]:
        """Sentence on how much each layer was to lose."""
        return [f"{WIDTHS_BY[self.scope]} (sparsity.scope={self.scope})."]

    def notes(self, graph: ChannelGraph, kept: Mapping[str, Sequence[int]], dense: DenseCost) -> list[str]:
        """Sentences on how much each layer was to lose, and where far more went than was asked for."""
        total = self.goal.total(dense)
        gone = 1 - self.goal.counted(graph, {name: len(positions) for name, positions in kept.items()}) / total
        if gone - self.goal.reduction < TOLD_BEYOND:
            return self.scope_notes()
        beyond = (
            f"{100 * gone:.1f} % of the {self.goal.unit} went where {100 * float(self.goal.reduction):g} % were asked "
            "for: channels leave many at a time, and the network before this one is above the target."
        )
        return [*self.scope_notes(), beyond]

    def start(self, graph: ChannelGraph, group: ChannelGroup) -> float:
        """Residual streams begin late, where they come last."""
        return STREAMS_START if self.streams == "last" and is_stream(graph, group) else 0.0

    def budget_widths(
        self, graph: ChannelGraph, scores: Scores, dense: DenseCost, progress: Fraction
    ) -> dict[str, int]:
        """Widths that meet the target: of the largest sum of scores, with scope ``knapsack``, or by their order."""
        if self.scope != "knapsack":
            return super().budget_widths(graph, scores, dense, progress)
        overridden = self.override_widths(graph, dense, progress)
        groups = [group for group in self.prunable_groups(graph) if group.name not in overridden]
        packed = Knapsack(
            {group.name: _comparable(scores[group.name], self.normalise).tolist() for group in groups},
            {each.name: sorted({self.limits.fit(each, dense, n) for n in range(each.size + 1)}) for each in groups},
            lambda widths: self.goal.counted(graph, self.allowed_widths(graph, dense, {**overridden, **widths})),
        )
        late = [group.name for group in groups if self.start(graph, group)]
        least = (1 - STREAMS_START) * sum(dense.sizes[group.name] for group in groups if group.name not in late)
        present = {group.name: group.size for group in groups}
        return packed.within(present, float(self.goal.left(dense, progress)), late, least) | overridden

    def is_met(self, graph: ChannelGraph, target: Mapping[str, int], dense: DenseCost, progress: Fraction) -> bool:
        """True where the network costs no more than the target."""
        return self.goal.met(graph, self.allowed_widths(graph, dense, target), dense, progress)


class Macs(CostBudget):
    """Remove channels until the counted MACs meet a target, see ``CostBudget``.

    Args:
        reduction: share of the dense network's multiply-accumulates removed, in [0, 1).
        scope, normalise, streams, limits: as for ``CostBudget``.
        macs_convention: ``exact``; or ``published``, to stop where released code did: strided 1x1 convolutions count as
            2x2, in the target as well, see ``cost_of_widths``. Reports tell exact MACs.
    """

    goal: MacsTarget

    def __init__(
        self,
        reduction: float | str,
        scope: CostScope | None = None,
        normalise: bool | None = None,
        macs_convention: MacsConvention = "exact",
        streams: Streams = "last",
        **limits: Any,
    ) -> None:
        super().__init__(scope, normalise, streams, **limits)
        if macs_convention not in get_args(MacsConvention):
            raise ValueError(f"sparsity.macs_convention must be 'exact' or 'published', got {macs_convention!r}")
        self.reduction, self.macs_convention = parse_rate(reduction, "sparsity.reduction"), macs_convention
        if self.limits.part and macs_convention != "exact":
            raise ValueError(
                f"sparsity.macs_convention={macs_convention} is of whole networks: leave out sparsity.part"
            )
        self.goal = MacsTarget(self.reduction, macs_convention, self.limits.part)

    def macs_target(self, graph: ChannelGraph, scores: Scores, dense: DenseCost) -> float:
        """MACs that the reduction leaves; those of the chosen widths where the convention is not ``exact``."""
        if self.macs_convention != "exact" or self.limits.part:
            return super().macs_target(graph, scores, dense)
        return float(dense.macs * (1 - self.reduction))

    def notes(self, graph: ChannelGraph, kept: Mapping[str, Sequence[int]], dense: DenseCost) -> list[str]:
        """Sentences on the MACs that stay by the convention, where that is not ``exact``, and on the scope."""
        return [*self.goal.notes(graph, kept, dense), *super().notes(graph, kept, dense)]


class Params(CostBudget):
    """Remove channels until the number of parameters meets a target, see ``CostBudget``.

    Args:
        reduction: share of the dense network's parameters removed, in [0, 1).
        scope, normalise, streams, limits: as for ``CostBudget``; ``part`` is refused, for all parameters count.
    """

    def __init__(
        self,
        reduction: float | str,
        scope: CostScope | None = None,
        normalise: bool | None = None,
        streams: Streams = "last",
        **limits: Any,
    ) -> None:
        super().__init__(scope, normalise, streams, **limits)
        self.reduction = parse_rate(reduction, "sparsity.reduction")
        require_whole(self.limits.part)
        self.goal = ParamsTarget(self.reduction)
