"""Filters that look alike go: one threshold on their similarity, given, or found for a budget of MACs."""

from abc import abstractmethod
from collections.abc import Mapping
from fnmatch import fnmatchcase
from fractions import Fraction
from typing import Any

import torch

from pruning_lit.channels import ChannelGraph
from pruning_lit.criteria import Criterion, RedundancyGraph, RedundancyScores
from pruning_lit.criteria.redundancy_graph.criterion import Redundancy
from pruning_lit.criteria.redundancy_graph.decomposition import Round, decomposition, require_threshold, survivors
from pruning_lit.sparsity.base import Ranking, Scores, Sparsity
from pruning_lit.sparsity.dense import Dense
from pruning_lit.sparsity.rates import parse_rate

SURVIVES = 4.0  # is added to the scores of what the decomposition keeps, which are below 3
COARSE, FINE = Fraction(1, 50), Fraction(1, 20_000)  # steps of the search for a threshold
LOWEST = Fraction(1, 1000)


class _Decomposing(Sparsity):
    """Keeps what is left of each group's redundancy graph; where the limits keep more, the best of the others."""

    takes_any_scores = False

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
    def common(self, graph: ChannelGraph, layers: Mapping[str, Redundancy], dense: Dense, progress: Fraction) -> float:
        """The threshold of all groups without one of their own."""

    def require_criterion(self, criterion: Criterion) -> None:
        """See ``Sparsity``."""
        if not isinstance(criterion, RedundancyGraph):
            raise ValueError(
                "a similarity threshold goes by the similarities of criterion=redundancy_graph, which "
                f"{type(criterion).__name__} does not know; take that criterion, or another sparsity such as macs_50"
            )

    def check(self, graph: ChannelGraph) -> None:
        """ValueError, also where a pattern of ``thresholds`` matches no group that can be pruned."""
        super().check(graph)
        names = [group.name for group in self.population(graph)]
        for pattern in self.thresholds:
            if not any(fnmatchcase(name, pattern) for name in names):
                raise ValueError(
                    f"sparsity.thresholds: {pattern!r} matches no group that is decided on; these are {names}"
                )

    def of_group(self, name: str, common: float, progress: Fraction) -> float:
        """The threshold of a group: that of the last pattern that matches it, or the common one."""
        own = [each for pattern, each in self.thresholds.items() if fnmatchcase(name, pattern)]
        return on_the_way(own[-1], progress) if own else common

    def ranking(self, graph: ChannelGraph, scores: Scores, dense: Dense, progress: Fraction) -> Ranking:
        """What survives the decomposition comes first; all others by the scores of the criterion."""
        assert isinstance(scores, RedundancyScores), "require_criterion has not been called"
        layers = {group.name: scores.layers[group.name] for group in self.population(graph)}
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
        return Ranking(ranked, [*self.told(common), *blind(layers)], evidence)

    def told(self, threshold: float) -> list[str]:
        """What is to be told of the threshold, in sentences."""
        return []

    def asked(self, graph: ChannelGraph, scores: Scores, dense: Dense, progress: Fraction) -> dict[str, int]:
        """How many channels of each group survive, by the ``ranking``."""
        return {group.name: int((scores[group.name] >= SURVIVES).sum()) for group in self.population(graph)}


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

    def common(self, graph: ChannelGraph, layers: Mapping[str, Redundancy], dense: Dense, progress: Fraction) -> float:
        """The threshold given."""
        return on_the_way(self.threshold_asked, progress)


class SimilarityMacs(_Decomposing):
    """As ``Similarity``, with the threshold that a budget of MACs asks for, found from the same similarities.

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

    def check(self, graph: ChannelGraph) -> None:
        """ValueError where even the narrowest network within the limits costs more than the target."""
        super().check(graph)
        self.require_reachable(graph, self.reduction)

    def common(self, graph: ChannelGraph, layers: Mapping[str, Redundancy], dense: Dense, progress: Fraction) -> float:
        """The threshold that meets the target; ValueError where none does."""
        target = dense.macs * (1 - self.reduction * progress)
        overridden = self.overridden(graph, dense, progress)

        def met(threshold: Fraction) -> bool:
            wanted = {}
            for name, layer in layers.items():
                rounds = decomposition(layer.similarity, layer.norms, self.of_group(name, float(threshold), progress))
                wanted[name] = len(survivors(len(layer.norms), rounds))
            return self.macs(graph, wanted | overridden, dense) <= target

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

    def told(self, threshold: float) -> list[str]:
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
    """Plain data; the precision of the matrix is that of a picture."""
    return {
        "decider": layer.decider,
        "similarity": layer.similarity.to(torch.float16),
        "threshold": threshold,
        "rounds": [each._asdict() for each in rounds],
        "pixels": layer.places,
    }
