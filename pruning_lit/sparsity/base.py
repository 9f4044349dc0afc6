"""What all sparsities share: the population, the reference to the dense network, and the choice within a group."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from fractions import Fraction

import torch
from torch import Tensor

from pruning_lit.channels import ChannelGraph, ChannelGroup, cost

Scores = Mapping[str, Tensor]  # a group's name to one score per channel, larger means more worth keeping


@dataclass(frozen=True)
class Dense:
    """The network before the first cut: shares are shares of this one, also when it is cut in several steps."""

    sizes: dict[str, int]
    macs: int

    @classmethod
    def of(cls, graph: ChannelGraph) -> "Dense":
        """The widths and the multiply-accumulates of ``graph``."""
        return cls({group.name: group.size for group in graph.groups}, cost(graph).macs)


class Sparsity(ABC):
    """Decides how many channels of each group stay, given their scores.

    Args:
        exclude: patterns (``layer3.*``) of group names that are left whole.
    """

    def __init__(self, exclude: Sequence[str] = ()) -> None:
        self.exclude = list(exclude)

    def population(self, graph: ChannelGraph) -> list[ChannelGroup]:
        """The groups that may lose channels."""
        names = [group.name for group in graph.groups]
        for pattern in self.exclude:
            if not any(fnmatchcase(name, pattern) for name in names):
                raise ValueError(f"sparsity.exclude: no group is called {pattern!r}; the groups are {names}")
        return [g for g in graph.prunable if not any(fnmatchcase(g.name, pattern) for pattern in self.exclude)]

    def check(self, graph: ChannelGraph) -> None:
        """ValueError if this budget cannot be met by the dense network; called before any training."""
        if not self.population(graph):
            reasons = {group.name: group.protected or "excluded" for group in graph.groups}
            raise ValueError(f"nothing can be pruned: {reasons}")

    @abstractmethod
    def widths(self, graph: ChannelGraph, scores: Scores, dense: Dense, progress: Fraction) -> dict[str, int]:
        """Channels that stay in each group of the population, when ``progress`` (0…1] of the way is to be gone."""

    def kept(
        self, graph: ChannelGraph, scores: Scores, dense: Dense | None = None, progress: Fraction = Fraction(1)
    ) -> dict[str, list[int]]:
        """The positions that stay, ascending, for every group of the population.

        Args:
            graph: the network as it is now.
            scores: one score per channel for (at least) every group of the population.
            dense: the network before the first cut; None: as it is now.
            progress: share of the way to the final budget, for a schedule with several cuts.

        Raises:
            ValueError: a score is missing or not finite.
        """
        for group in self.population(graph):
            _require_finite(group, scores)
        widths = self.widths(graph, scores, dense or Dense.of(graph), progress)
        return {name: best(scores[name], width) for name, width in widths.items()}


def best(scores: Tensor, count: int) -> list[int]:
    """Positions of the ``count`` largest scores, ascending; of equal scores the lower position is preferred."""
    order = torch.sort(scores, descending=True, stable=True).indices
    return sorted(order[:count].tolist())


def _require_finite(group: ChannelGroup, scores: Scores) -> None:
    if group.name not in scores:
        raise ValueError(f"group {group.name!r} has no scores; the criterion does not cover it")
    bad = (~torch.isfinite(scores[group.name])).nonzero().flatten().tolist()
    if bad:
        raise ValueError(f"group {group.name!r}: the scores of channels {bad} are not finite")
    if len(scores[group.name]) != group.size:
        raise ValueError(f"group {group.name!r} has {group.size} channels, but {len(scores[group.name])} scores")
