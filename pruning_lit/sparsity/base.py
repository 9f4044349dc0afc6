"""What all sparsities share: the population, the limits of every budget, and the choice within a group."""

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from fractions import Fraction
from typing import Any, NamedTuple

import torch
from torch import Tensor

from pruning_lit.channels import ChannelGraph, ChannelGroup, Cost, cost, cost_of_widths
from pruning_lit.channels.surgery.cost import Convention
from pruning_lit.criteria import Criterion
from pruning_lit.sparsity.dense import Dense
from pruning_lit.sparsity.emptied import emptied, removed_branches, told
from pruning_lit.sparsity.limits import Limits
from pruning_lit.sparsity.plan import Plan
from pruning_lit.sparsity.rates import width_after

Scores = Mapping[
    str, Tensor
]  # a group's name to one score per position, shape (size,), larger means more worth keeping


TOLD = 3  # groups in a sentence


class Ranking(NamedTuple):
    """In which order channels are kept, and how that was found.

    Attributes:
        scores: of every group, shape ``(size,)``.
        remarks: what a reader has to know, in sentences.
        evidence: by group, plain data and tensors that show why.
    """

    scores: Scores
    remarks: list[str]
    evidence: dict[str, dict[str, Any]]


class Sparsity(ABC):
    """Decides how many channels of each group stay, given their scores.

    Args:
        limits: ``min_channels``, ``min_share``, ``round_to``, ``exclude``, ``overrides``; see ``Limits``.
    """

    takes_any_scores = True  # else only those of one criterion, see ``require_criterion``
    convention: Convention = "true"  # by which the multiply-accumulates of a budget are counted, see ``cost_of_widths``

    def __init__(self, **limits: Any) -> None:
        self.limits = Limits(**limits)

    def population(self, graph: ChannelGraph) -> list[ChannelGroup]:
        """The groups that may lose channels."""
        return self.limits.eligible(graph)

    def require_criterion(self, criterion: Criterion) -> None:  # noqa: B027 - most budgets take any scores
        """ValueError where this budget needs more than the scores of that criterion."""

    def bind(self, criterion: Criterion) -> None:
        """Go by the scores of that criterion; ValueError where they do not do, see ``require_criterion``.

        What a setting leaves to the criterion is settled here; before, as for one whose scores are not comparable.
        """
        self.require_criterion(criterion)

    def ranking(self, graph: ChannelGraph, scores: Scores, dense: Dense, progress: Fraction) -> Ranking:
        """The scores by which channels are counted and chosen: those of the criterion, unless a budget has its own."""
        return Ranking(scores, [], {})

    def check(self, graph: ChannelGraph) -> None:
        """ValueError if this budget cannot be met by the dense network; called before any training."""
        if not self.population(graph):
            raise ValueError(f"nothing can be pruned: {self._why_nothing(graph)}")
        self.limits.rates(graph)
        dense = Dense.of(graph)
        if all(self.limits.fit(group, dense, 0) == group.size for group in self.population(graph)):
            sizes = {group.name: group.size * group.multiplicity for group in self.population(graph)}
            raise ValueError(f"nothing can be pruned with {self.limits}: the groups have {sizes} channels")

    def _why_nothing(self, graph: ChannelGraph) -> str:
        """Each reason once, with the groups that it holds for."""
        groups: dict[str, list[str]] = {}
        for group in graph.groups:
            groups.setdefault(str(self.limits.why_whole(group)), []).append(group.name)
        told = {reason: ", ".join(names[:TOLD]) for reason, names in groups.items()}
        others = {reason: f" and {len(names) - TOLD} others" for reason, names in groups.items() if len(names) > TOLD}
        return "; ".join(f"{names}{others.get(reason, '')}: {reason}" for reason, names in told.items()) or (
            "there is no convolution or linear layer in the network"
        )

    @abstractmethod
    def asked(self, graph: ChannelGraph, scores: Scores, dense: Dense, progress: Fraction) -> dict[str, int]:
        """The widths that the budget alone asks for in the groups without a rate of their own.

        They may be smaller than the limits allow, down to 0, but not larger than the present ones.
        """

    def overridden(self, graph: ChannelGraph, dense: Dense, progress: Fraction) -> dict[str, int]:
        """The widths asked for in the groups that have a rate of their own."""
        rates = self.limits.rates(graph)
        return {
            group.name: min(group.size, width_after(dense.sizes[group.name], rates[group.name] * progress))
            for group in self.population(graph)
            if group.name in rates
        }

    def threshold(self, graph: ChannelGraph, scores: Scores, wanted: Mapping[str, int]) -> float | None:
        """The largest score that is to go, where one threshold holds for all groups; else None."""
        return None

    def require_survivors(self, graph: ChannelGraph, scores: Scores, wanted: Mapping[str, int]) -> None:
        """ValueError, naming them all, where groups would be emptied and the limits forbid it."""
        if self.limits.on_empty == "error" and (empty := emptied(wanted)):
            raise ValueError(
                f"all channels of {', '.join(map(repr, empty))} would go, and sparsity.on_empty=error forbids that"
                f"{self.hint(graph, scores)}"
            )

    def hint(self, graph: ChannelGraph, scores: Scores) -> str:
        """What to ask for so that no group is emptied, in words; empty where nobody knows."""
        return ""

    def widths(self, graph: ChannelGraph, scores: Scores, dense: Dense, progress: Fraction) -> dict[str, int]:
        """Positions that stay in each group of the population, when ``progress`` (0…1] of the way is to be gone."""
        ranking = self.ranking(graph, scores, dense, progress)
        return self.fitted(graph, dense, self.wanted(graph, ranking.scores, dense, progress))

    def plan(
        self, graph: ChannelGraph, scores: Scores, dense: Dense | None = None, progress: Fraction = Fraction(1)
    ) -> Plan:
        """What stays, what that costs, and where the limits give more than the budget asks; nothing is cut.

        Args:
            graph: the network as it is now.
            scores: one score per channel for (at least) every group of the population.
            dense: the network before the first cut; None: as it is now.
            progress: share of the way to the final budget, for a schedule with several cuts.

        Raises:
            ValueError: a score is missing or not finite, no channel would stay at all, or a group would be emptied and
                the limits forbid it.
        """
        population = self.population(graph)
        for group in population:
            require_scores(group, scores)
        dense = dense or Dense.of(graph)
        ranking = self.ranking(graph, scores, dense, progress)
        scores = ranking.scores
        wanted = self.wanted(graph, scores, dense, progress)
        self.require_survivors(graph, scores, wanted)
        branches = removed_branches(graph, wanted, self.limits.on_empty)
        kept = {name: best(scores[name], width) for name, width in self.fitted(graph, dense, wanted).items()}
        kept |= {name: [] for names in branches.values() for name in names}
        cut = [group for group in population if kept[group.name]]
        floored = [group for group in cut if wanted[group.name]]  # of emptied ones more is told
        floors = {g.name: self.limits.why_floored(g, dense, wanted[g.name]) for g in floored}
        unrounded = {g.name: self.limits.why_unrounded(g, dense, wanted[g.name]) for g in cut}
        return Plan(
            kept=kept,
            wanted={g.name: self.limits.floored(g, dense, wanted[g.name]) if g in cut else 0 for g in population},
            threshold=self.threshold(graph, scores, wanted),
            branches=list(branches),
            sizes={group.name: group.size for group in population},
            remarks=[
                *ranking.remarks,
                *self.counted(graph, kept, dense),
                *(told(name, scores[name], len(kept[name])) for name in emptied(wanted) if kept[name]),
            ],
            evidence=ranking.evidence,
            cost=cost(graph, kept),
            dense=Cost(dense.macs, dense.params),
            round_to=self.limits.round_to,
            unrounded={name: reason for name, reason in unrounded.items() if reason},
            floors={name: floor for name, floor in floors.items() if floor},
            multiplicities={group.name: group.multiplicity for group in population},
        )

    def kept(
        self, graph: ChannelGraph, scores: Scores, dense: Dense | None = None, progress: Fraction = Fraction(1)
    ) -> dict[str, list[int]]:
        """``plan(…).kept``."""
        return self.plan(graph, scores, dense, progress).kept

    def wanted(self, graph: ChannelGraph, scores: Scores, dense: Dense, progress: Fraction) -> dict[str, int]:
        """What budget and overrides ask for, in every group of the population; floors and multiples come later.

        ``scores`` are those of the ``ranking``.
        """
        wanted = self.asked(graph, scores, dense, progress) | self.overridden(graph, dense, progress)
        return {group.name: wanted[group.name] for group in self.population(graph)}

    def narrowest(self, graph: ChannelGraph) -> dict[str, int]:
        """What is asked for where everything goes that no rate of its own holds."""
        overridden = self.overridden(graph, Dense.of(graph), Fraction(1))
        return {group.name: overridden.get(group.name, 0) for group in self.population(graph)}

    def meets(self, graph: ChannelGraph, scores: Scores, widths: Mapping[str, int], dense: Dense) -> bool:
        """Whether a network of these widths, one for every group of the population, has nothing more to lose."""
        final = self.widths(graph, scores, dense, Fraction(1))
        return all(widths[name] <= width for name, width in final.items())

    def macs(self, graph: ChannelGraph, wanted: Mapping[str, int], dense: Dense) -> int:
        """Multiply-accumulates of the network that has these widths, within the limits, by the convention."""
        return cost_of_widths(graph, self.fitted(graph, dense, wanted), self.convention).macs

    def target(self, graph: ChannelGraph, scores: Scores, dense: Dense) -> float:
        """The multiply-accumulates that are to be left at most; by these scores, where no number says so."""
        return cost_of_widths(graph, self.widths(graph, scores, dense, Fraction(1))).macs

    def require_reachable(self, graph: ChannelGraph, reduction: Fraction) -> None:
        """ValueError where even the narrowest network within the limits costs more than what is to be left."""
        dense = Dense.of(graph)
        narrowest = self.narrowest(graph)
        least, total = self.macs(graph, narrowest, dense), dense.counted(self.convention)
        if least > total * (1 - reduction):
            most = math.floor(1000 * (1 - least / total)) / 1000
            raise ValueError(
                f"sparsity.reduction={float(reduction)} cannot be met: {least:,} of {total:,} MACs"
                f"{self.truly(cost_of_widths(graph, self.fitted(graph, dense, narrowest)).macs, dense)} remain in "
                f"the narrowest network with {self.limits}, so at most {most} can go"
            )

    def truly(self, macs: int, dense: Dense) -> str:
        """The true multiply-accumulates in brackets, to be told behind those of a budget that counts otherwise."""
        if self.convention == "true":
            return ""
        return f" (strided 1x1 convolutions counted as 2x2; truly {macs:,} of {dense.macs:,})"

    def counted(self, graph: ChannelGraph, kept: Mapping[str, Sequence[int]], dense: Dense) -> list[str]:
        """What stays by the convention of the budget, in a sentence, where that is not the true count."""
        if self.convention == "true":
            return []
        widths = {name: len(positions) for name, positions in kept.items()}
        stay, total = cost_of_widths(graph, widths, self.convention).macs, dense.counted(self.convention)
        return [
            f"With strided 1x1 convolutions counted as 2x2, as sparsity.convention={self.convention} does, {stay:,} of "
            f"{total:,} MACs stay ({100 * (1 - stay / total):.1f} % gone)."
        ]

    def fitted(self, graph: ChannelGraph, dense: Dense, wanted: Mapping[str, int]) -> dict[str, int]:
        """``wanted`` within the limits."""
        return {name: self.limits.fit(graph[name], dense, width) for name, width in wanted.items()}


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
