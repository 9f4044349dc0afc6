"""Filters that look alike go: one threshold on their similarity, given, or found for a budget of MACs."""

from abc import abstractmethod
from collections.abc import Mapping
from fnmatch import fnmatchcase
from fractions import Fraction
from typing import Any, Self

import torch

from pruning_lit.channels import ChannelGraph
from pruning_lit.criteria import Criterion, RedundancyGraph
from pruning_lit.criteria.redundancy_graph.criterion import Redundancy, redundancies
from pruning_lit.criteria.redundancy_graph.decomposition import Round, decomposition, require_threshold, survivors
from pruning_lit.sparsity.base import Ranking, Scores, Sparsity
from pruning_lit.sparsity.dense import DenseCost
from pruning_lit.sparsity.macs_target import MacsTarget
from pruning_lit.sparsity.rates import parse_rate

SURVIVES = 4.0  # is added to the scores of what the decomposition keeps, which are below 3
COARSE, FINE = Fraction(1, 50), Fraction(1, 20_000)  # steps of the search for a threshold
LOWEST = Fraction(1, 1000)


class _Decomposing(Sparsity):
    """Keeps what is left of each group's redundancy graph; where the limits keep more, the best of the others."""

    def __init__(self, thresholds: Mapping[str, float] | None, **limits: Any) -> None:
        super().__init__(**limits)
        if not isinstance(thresholds, Mapping | None):
            raise ValueError(
                f"sparsity.thresholds must map patterns to similarities such as {{layer1.*: 0.8}}, got {thresholds!r}"
            )
        self.thresholds = {
            str(pattern): require_threshold(each, f"sparsity.thresholds: the threshold of {str(pattern)!r}")
            for pattern, each in (thresholds or {}).items()
        }

    @abstractmethod
    def common(
        self, graph: ChannelGraph, layers: Mapping[str, Redundancy], dense: DenseCost, progress: Fraction
    ) -> float:
        """The threshold of all groups without one of their own."""

    def bind(self, criterion: Criterion) -> Self:
        """Require a criterion that finds similarities; ValueError for any other."""
        if not isinstance(criterion, RedundancyGraph):
            raise ValueError(
                "a similarity threshold goes by the similarities of criterion=redundancy_graph, which "
                f"{type(criterion).__name__} does not know; take that criterion, or another sparsity such as macs_50"
            )
        return self

    def check(self, graph: ChannelGraph) -> None:
        """ValueError, also where a pattern of ``thresholds`` matches no group that can be pruned."""
        super().check(graph)
        names = [group.name for group in self.prunable_groups(graph)]
        for pattern in self.thresholds:
            if not any(fnmatchcase(name, pattern) for name in names):
                raise ValueError(
                    f"sparsity.thresholds: {pattern!r} matches no group that is decided on; these are {names}"
                )

    def of_group(self, name: str, common: float, progress: Fraction) -> float:
        """The threshold of a group: that of the last pattern that matches it, or the common one."""
        own = [each for pattern, each in self.thresholds.items() if fnmatchcase(name, pattern)]
        return on_the_way(own[-1], progress) if own else common

    def ranking(self, graph: ChannelGraph, scores: Scores, dense: DenseCost, progress: Fraction) -> Ranking:
        """Scores of the criterion, raised for the survivors of the decomposition, so that these are kept first."""
        found = redundancies(scores)
        layers = {group.name: found[group.name] for group in self.prunable_groups(graph)}
        common = self.common(graph, layers, dense, progress)
        thresholds = {name: self.of_group(name, common, progress) for name in layers}
        rounds = {
            name: decomposition(layer.similarity, layer.norms, thresholds[name]) for name, layer in layers.items()
        }
        ranked = dict(scores)
        for name, layer in layers.items():
            ranked[name] = scores[name].clone()
            ranked[name][survivors(len(layer.norms), rounds[name])] += SURVIVES
        evidence = {name: _evidence(layer, thresholds[name], rounds[name]) for name, layer in layers.items()}
        return Ranking(ranked, [*self.threshold_notes(common), *blind(layers)], evidence)

    def threshold_notes(self, threshold: float) -> list[str]:
        """Sentences for the report on the common threshold."""
        return []

    def budget_widths(
        self, graph: ChannelGraph, scores: Scores, dense: DenseCost, progress: Fraction
    ) -> dict[str, int]:
        """Number of survivors of the decomposition in each group, as marked by ``ranking``."""
        return {group.name: int((scores[group.name] >= SURVIVES).sum()) for group in self.prunable_groups(graph)}


class Similarity(_Decomposing):
    """Filters are neighbours from a threshold on; redundancy graphs are decomposed until no two neighbours are left.

    The widths are not chosen, but found. With several cuts the threshold falls evenly from 1.

    Args:
        threshold: similarity in (0, 1]; smaller means fewer filters, on the whole.
        thresholds: a pattern of group names (``layer1.*``) to a threshold of its own; the last that matches counts.
        limits: see ``Limits``; what floors and multiples keep beyond that are the filters that would go last.

    Source: Li et al. 2024, "Filter Pruning via Decomposition of Redundancy Graphs", Neurocomputing,
    doi 10.1016/j.neucom.2024.128108.
    """

    def __init__(self, threshold: float, thresholds: Mapping[str, float] | None = None, **limits: Any) -> None:
        super().__init__(thresholds, **limits)
        self.threshold_asked = require_threshold(threshold, "sparsity.threshold")

    def common(
        self, graph: ChannelGraph, layers: Mapping[str, Redundancy], dense: DenseCost, progress: Fraction
    ) -> float:
        """The threshold given."""
        return on_the_way(self.threshold_asked, progress)


class SimilarityMacs(_Decomposing):
    """Decomposition as by ``Similarity``, at the similarity threshold that meets a budget of MACs.

    Since a lower threshold may keep more, the first threshold of a grid that meets the target is looked for from above,
    and refined between it and the step before, where it is bisected.

    Args:
        reduction: share of the dense network's multiply-accumulates that goes, in [0, 1).
        thresholds, limits: as for ``Similarity``; groups with a threshold or a rate of their own keep it, and the
            others make up for that.
    """

    def __init__(self, reduction: float | str, thresholds: Mapping[str, float] | None = None, **limits: Any) -> None:
        super().__init__(thresholds, **limits)
        self.reduction = parse_rate(reduction, "sparsity.reduction")
        self.goal = MacsTarget(self.reduction, part=self.limits.part)

    def check(self, graph: ChannelGraph) -> None:
        """ValueError where even the narrowest network within the limits costs more than the target."""
        super().check(graph)
        self.goal.require_reachable(self, graph)

    def common(
        self, graph: ChannelGraph, layers: Mapping[str, Redundancy], dense: DenseCost, progress: Fraction
    ) -> float:
        """The threshold that meets the target; ValueError where none does."""
        overridden = self.override_widths(graph, dense, progress)

        def met(threshold: Fraction) -> bool:
            target = {}
            for name, layer in layers.items():
                rounds = decomposition(layer.similarity, layer.norms, self.of_group(name, float(threshold), progress))
                target[name] = len(survivors(len(layer.norms), rounds))
            return self.goal.met(graph, self.allowed_widths(graph, dense, target | overridden), dense, progress)

        above, below = Fraction(1), Fraction(1)
        while not met(below):
            if below == LOWEST:
                raise ValueError(
                    f"no similarity threshold meets sparsity.reduction={float(self.reduction)}: filters that are not "
                    "alike at all stay; ask for less, or go by scores (sparsity=macs)"
                )
            above, below = below, max(LOWEST, below - COARSE)
        while above - below > FINE:
            middle = (above + below) / 2
            above, below = (above, middle) if met(middle) else (middle, below)
        return float(below)

    def threshold_notes(self, threshold: float) -> list[str]:
        """The threshold that was found."""
        return [f"The similarity threshold that meets the target is {threshold:.4f}."]


def on_the_way(threshold: float, progress: Fraction) -> float:
    """The threshold when ``progress`` of the way from 1 is gone; the very one at the end of it."""
    return threshold if progress == 1 else 1 - (1 - threshold) * float(progress)


def blind(layers: Mapping[str, Redundancy]) -> list[str]:
    """A sentence where maps of one pixel make all filters equal."""
    names = [f"`{name}`" for name, layer in layers.items() if layer.places == 1]
    if not names:
        return []
    return [
        f"All filters of {', '.join(names)} look equal, since their maps have one pixel and so one bit; the one with "
        "the largest norm stays. criterion.min_pixels=2 leaves such layers whole."
    ]


def _evidence(layer: Redundancy, threshold: float, rounds: list[Round]) -> dict[str, Any]:
    """Plain data; the precision of the matrix is that of an image."""
    return {
        "reference_layer": layer.reference_layer,
        "similarity": layer.similarity.to(torch.float16),
        "threshold": threshold,
        "rounds": [each._asdict() for each in rounds],
        "pixels": layer.places,
    }
