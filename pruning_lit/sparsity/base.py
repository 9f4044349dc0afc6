"""The interface of a budget: prunable groups, widths from scores, and the choice within a group."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from fractions import Fraction
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple, Self

import torch
from torch import Tensor

from pruning_lit.channels import ChannelGraph, ChannelGroup, Cost, cost, cost_of_widths
from pruning_lit.criteria import Criterion
from pruning_lit.sparsity.dense import DenseCost
from pruning_lit.sparsity.limits import Limits, emptied, removed_branches
from pruning_lit.sparsity.plan import Plan
from pruning_lit.sparsity.rates import width_after

if TYPE_CHECKING:
    from pruning_lit.sparsity.clock import Clock
    from pruning_lit.sparsity.trials import TrialMaker

# a group's name to one score per position, shape (size,), larger means more worth keeping
Scores = Mapping[str, Tensor]
TOLD = 3  # groups in a sentence


class Ranking(NamedTuple):
    """The order in which channels are kept, and how that was found.

    Attributes:
        scores: of every group, shape ``(size,)``.
        notes: sentences for the report.
        evidence: by group, plain data and tensors that show why.
    """

    scores: Scores
    notes: list[str]
    evidence: dict[str, dict[str, Any]]


class Sparsity(ABC):
    """A budget: how many channels of each group stay, given their scores.

    A budget of one's own defines ``budget_widths``. Rates of single groups, floors and multiples need nothing from it:
    ``target_widths`` are those of the budget with ``overrides``, ``allowed_widths`` what the limits make of them.

    Attributes:
        at_the_cut: whether it decides by looks at the very network that is to be cut, and so with scheduled cuts alone.

    Args:
        limits: ``min_channels``, ``min_share``, ``round_to``, ``exclude``, ``overrides``; see ``Limits``.
    """

    at_the_cut: ClassVar[bool] = False

    def __init__(self, **limits: Any) -> None:
        self.limits = Limits(**limits)

    def prunable_groups(self, graph: ChannelGraph) -> list[ChannelGroup]:
        """The groups that may lose channels."""
        return self.limits.eligible(graph)

    def bind(self, criterion: Criterion) -> Self:
        """This budget, going by the scores of that criterion, which settles what was left to it.

        Without that, it is as for a criterion whose scores are not comparable.

        Raises:
            ValueError: it needs more than the scores of that criterion.
        """
        return self

    def with_trials(self, make: "TrialMaker") -> Self:
        """This budget, able to try cuts of the network that is to be cut; most go by scores alone and try none."""
        return self

    def with_clock(self, clock: "Clock") -> Self:
        """This budget, able to time the network that is to be cut; most count, and need none."""
        return self

    def ranking(self, graph: ChannelGraph, scores: Scores, dense: DenseCost, progress: Fraction) -> Ranking:
        """The scores by which channels are counted and chosen: those of the criterion, unless a budget has its own."""
        return Ranking(scores, [], {})

    def check(self, graph: ChannelGraph) -> None:
        """ValueError if this budget cannot be met by the dense network; called before any training."""
        if not self.prunable_groups(graph):
            raise ValueError(f"nothing can be pruned: {self._why_nothing(graph)}")
        self.limits.rates(graph)
        dense = DenseCost.of(graph)
        if all(self.limits.fit(group, dense, 0) == group.size for group in self.prunable_groups(graph)):
            sizes = {group.name: group.size * group.multiplicity for group in self.prunable_groups(graph)}
            raise ValueError(f"nothing can be pruned with {self.limits}: the groups have {sizes} channels")

    def _why_nothing(self, graph: ChannelGraph) -> str:
        """Each reason once, with the groups that it holds for."""
        groups: dict[str, list[str]] = {}
        for group in graph.groups:
            groups.setdefault(str(self.limits.why_whole(group)), []).append(group.name)
        first = {reason: ", ".join(names[:TOLD]) for reason, names in groups.items()}
        others = {reason: f" and {len(names) - TOLD} others" for reason, names in groups.items() if len(names) > TOLD}
        return "; ".join(f"{names}{others.get(reason, '')}: {reason}" for reason, names in first.items()) or (
            "there is no convolution or linear layer in the network"
        )

    @abstractmethod
    def budget_widths(
        self, graph: ChannelGraph, scores: Scores, dense: DenseCost, progress: Fraction
    ) -> dict[str, int]:
        """The widths that the budget alone asks for in the groups without a rate of their own.

        They may be smaller than the limits allow, down to 0, but not larger than the present ones.

        Args:
            graph: the network as it is now.
            scores: those of the ``ranking``.
            dense: the network before the first cut, which shares refer to.
            progress: share of the way to the budget that is gone after this cut, in (0, 1].
        """

    def override_widths(self, graph: ChannelGraph, dense: DenseCost, progress: Fraction) -> dict[str, int]:
        """The widths asked for in the groups that have a rate of their own."""
        rates = self.limits.rates(graph)
        return {
            group.name: min(group.size, width_after(dense.sizes[group.name], rates[group.name] * progress))
            for group in self.prunable_groups(graph)
            if group.name in rates
        }

    def target_widths(
        self, graph: ChannelGraph, scores: Scores, dense: DenseCost, progress: Fraction
    ) -> dict[str, int]:
        """Widths that budget and overrides ask for in every prunable group; arguments as for ``budget_widths``."""
        widths = self.budget_widths(graph, scores, dense, progress) | self.override_widths(graph, dense, progress)
        return {group.name: widths[group.name] for group in self.prunable_groups(graph)}

    def allowed_widths(self, graph: ChannelGraph, dense: DenseCost, target: Mapping[str, int]) -> dict[str, int]:
        """The target widths within the limits: not below the floors, multiples where possible."""
        return {name: self.limits.fit(graph[name], dense, width) for name, width in target.items()}

    def widths(
        self, graph: ChannelGraph, scores: Scores, dense: DenseCost, progress: Fraction = Fraction(1)
    ) -> dict[str, int]:
        """Positions that stay in each prunable group: the allowed widths by the criterion's scores."""
        ranking = self.ranking(graph, scores, dense, progress)
        return self.allowed_widths(graph, dense, self.target_widths(graph, ranking.scores, dense, progress))

    def min_widths(self, graph: ChannelGraph) -> dict[str, int]:
        """Target widths where everything goes that has no rate of its own."""
        overridden = self.override_widths(graph, DenseCost.of(graph), Fraction(1))
        return {group.name: overridden.get(group.name, 0) for group in self.prunable_groups(graph)}

    def threshold(self, graph: ChannelGraph, scores: Scores, target: Mapping[str, int]) -> float | None:
        """The largest score that is to go, where one threshold holds for all groups; else None."""
        return None

    def require_survivors(self, graph: ChannelGraph, scores: Scores, target: Mapping[str, int], hint: str = "") -> None:
        """ValueError, naming them all and with a hint, where groups would be emptied and the limits forbid it."""
        if self.limits.on_empty == "error" and (empty := emptied(target)):
            raise ValueError(
                f"all channels of {', '.join(map(repr, empty))} would go, and sparsity.on_empty=error forbids "
                f"that{hint}"
            )

    def meets(self, graph: ChannelGraph, scores: Scores, widths: Mapping[str, int], dense: DenseCost) -> bool:
        """True where a network of these widths, one for every prunable group, has nothing more to lose."""
        return all(widths[name] <= width for name, width in self.widths(graph, scores, dense).items())

    def macs_target(self, graph: ChannelGraph, scores: Scores, dense: DenseCost) -> float:
        """The multiply-accumulates that are to be left at most; by these scores, where no number says so."""
        return cost_of_widths(graph, self.widths(graph, scores, dense)).macs

    def notes(self, graph: ChannelGraph, kept: Mapping[str, Sequence[int]], dense: DenseCost) -> list[str]:
        """Sentences for the report on what this budget has kept."""
        return []

    def plan(
        self, graph: ChannelGraph, scores: Scores, dense: DenseCost | None = None, progress: Fraction = Fraction(1)
    ) -> Plan:
        """Choose what stays; nothing is cut yet.

        Args:
            graph: the network as it is now.
            scores: one score per channel for (at least) every prunable group.
            dense: the network before the first cut; None: as it is now.
            progress: share of the way to the final budget, for a schedule with several cuts.

        Raises:
            ValueError: a score is missing or not finite, no channel would stay at all, or a group would be emptied and
                the limits forbid it.
        """
        groups = self.prunable_groups(graph)
        for group in groups:
            require_scores(group, scores)
        dense = dense or DenseCost.of(graph)
        ranking = self.ranking(graph, scores, dense, progress)
        scores = ranking.scores
        target = self.target_widths(graph, scores, dense, progress)
        self.require_survivors(graph, scores, target)
        branches = removed_branches(graph, target, self.limits.on_empty)
        kept = {name: best(scores[name], width) for name, width in self.allowed_widths(graph, dense, target).items()}
        kept |= {name: [] for names in branches.values() for name in names}
        cut = [group for group in groups if kept[group.name]]
        floors = {g.name: self.limits.why_floored(g, dense, target[g.name]) for g in cut if target[g.name]}
        unrounded = {g.name: self.limits.why_unrounded(g, dense, target[g.name]) for g in cut}
        spared = [  # of which the floors above say nothing
            f"All channels of `{name}` ({len(scores[name])}) would go, the largest score is "
            f"{float(scores[name].max()):.3g}; the best {len(kept[name])} stay."
            for name in emptied(target)
            if kept[name]
        ]
        return Plan(
            kept=kept,
            target={g.name: self.limits.floored(g, dense, target[g.name]) if g in cut else 0 for g in groups},
            threshold=self.threshold(graph, scores, target),
            branches=list(branches),
            sizes={group.name: group.size for group in groups},
            remarks=[*ranking.notes, *self.notes(graph, kept, dense), *spared],
            evidence=ranking.evidence,
            cost=cost(graph, kept),
            dense=Cost(dense.macs, dense.params),
            round_to=self.limits.round_to,
            unrounded={name: reason for name, reason in unrounded.items() if reason},
            floors={name: floor for name, floor in floors.items() if floor},
            multiplicities={group.name: group.multiplicity for group in groups},
        )

    def kept(
        self, graph: ChannelGraph, scores: Scores, dense: DenseCost | None = None, progress: Fraction = Fraction(1)
    ) -> dict[str, list[int]]:
        """``plan(…).kept``."""
        return self.plan(graph, scores, dense, progress).kept


def best(scores: Tensor, count: int) -> list[int]:
    """Positions of the ``count`` largest scores, ascending; of equal scores the lower position is preferred."""
    order = torch.sort(scores, descending=True, stable=True).indices
    return sorted(order[:count].tolist())


def require_scores(group: ChannelGroup, scores: Scores) -> None:
    """ValueError unless there is one finite score for every channel of the group."""
    if group.name not in scores:
        raise ValueError(f"group {group.name!r} has no scores; the criterion does not cover it")
    bad = (~torch.isfinite(scores[group.name])).nonzero().flatten().tolist()
    if bad:
        raise ValueError(f"group {group.name!r}: the scores at positions {bad} are not finite")
    if len(scores[group.name]) != group.size:
        raise ValueError(f"group {group.name!r} takes {group.size} scores, but has {len(scores[group.name])}")
