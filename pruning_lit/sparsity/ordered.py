"""Budgets for the network as a whole: channels are put in the order in which they would go, and enough of them go."""

import math
from collections import Counter
from collections.abc import Sequence
from fractions import Fraction
from typing import Literal

from torch import Tensor

from pruning_lit.channels import ChannelGraph, cost_of_widths
from pruning_lit.sparsity.base import Dense, Scores, Sparsity
from pruning_lit.sparsity.rates import parse_rate

Scope = Literal["layer", "global"]


class _Ordered(Sparsity):
    def __init__(self, scope: Scope, normalise: bool, min_channels: int, exclude: Sequence[str]) -> None:
        super().__init__(exclude)
        if scope not in ("layer", "global"):
            raise ValueError(f"sparsity.scope must be 'layer' or 'global', got {scope!r}")
        if min_channels < 1:
            raise ValueError(f"sparsity.min_channels must be at least 1, got {min_channels}: a layer cannot be emptied")
        self.scope, self.normalise, self.min_channels = scope, normalise, min_channels

    def floor(self, graph: ChannelGraph) -> dict[str, int]:
        """The narrowest widths allowed."""
        return {group.name: min(self.min_channels, group.size) for group in self.population(graph)}

    def removal_order(self, graph: ChannelGraph, scores: Scores) -> list[str]:
        """For every channel that may go, the name of its group, in the order in which they go.

        With scope ``layer`` all groups lose the same share at every point of the order; with ``global`` the lowest
        scores of the whole network come first.
        """
        events = []
        for place, group in enumerate(self.population(graph)):
            ascending = _comparable(scores[group.name], self.normalise).sort().values.tolist()
            for gone, score in enumerate(ascending[: group.size - min(self.min_channels, group.size)], start=1):
                share = gone / group.size if self.scope == "layer" else 0.0
                events.append((share, score, place, group.name))
        return [name for *_, name in sorted(events)]

    def after(self, graph: ChannelGraph, gone: list[str]) -> dict[str, int]:
        """The widths once these channels, named by their groups, have gone."""
        lost = Counter(gone)
        return {group.name: group.size - lost[group.name] for group in self.population(graph)}


def _comparable(scores: Tensor, normalise: bool) -> Tensor:
    mean = scores.mean()
    return scores / mean if normalise and mean > 0 else scores


class Global(_Ordered):
    """Remove one share of all channels of the network, the lowest scores first, wherever they are.

    Args:
        rate: share of the channels removed, in [0, 1).
        normalise: divide the scores of each group by their mean first, for criteria whose unit differs from layer to
            layer.
        min_channels: channels that stay in every group whatever their scores.
        exclude: patterns of group names that are left whole.
    """

    def __init__(
        self, rate: float | str, normalise: bool = True, min_channels: int = 1, exclude: Sequence[str] = ()
    ) -> None:
        super().__init__("global", normalise, min_channels, exclude)
        self.rate = parse_rate(rate, "sparsity.rate")

    def check(self, graph: ChannelGraph) -> None:
        """ValueError where so many channels cannot go without emptying a layer."""
        super().check(graph)
        total = sum(group.size for group in self.population(graph))
        most = total - sum(self.floor(graph).values())
        if math.floor(total * self.rate) > most:
            raise ValueError(
                f"sparsity.rate={float(self.rate)} cannot be met: of {total} channels at most {most} can go "
                f"with {self.min_channels} left in every group, a share of {most / total:.3f}"
            )

    def widths(self, graph: ChannelGraph, scores: Scores, dense: Dense, progress: Fraction) -> dict[str, int]:
        """See ``Sparsity``."""
        population = self.population(graph)
        total = sum(dense.sizes[group.name] for group in population)
        already = total - sum(group.size for group in population)
        count = max(0, math.floor(total * self.rate * progress) - already)
        return self.after(graph, self.removal_order(graph, scores)[:count])


class Macs(_Ordered):
    """Remove channels until the counted MACs meet a target: the first network, from above, that costs no more.

    Args:
        reduction: share of the dense network's multiply-accumulates removed, in [0, 1).
        scope: ``layer``: all layers lose the same share of channels; ``global``: the lowest scores go first, wherever
            they are.
        normalise, min_channels, exclude: as for ``Global``.
    """

    def __init__(
        self,
        reduction: float | str,
        scope: Scope = "layer",
        normalise: bool = True,
        min_channels: int = 1,
        exclude: Sequence[str] = (),
    ) -> None:
        super().__init__(scope, normalise, min_channels, exclude)
        self.reduction = parse_rate(reduction, "sparsity.reduction")

    def check(self, graph: ChannelGraph) -> None:
        """ValueError where even the narrowest network costs more than the target."""
        super().check(graph)
        dense = Dense.of(graph).macs
        least = cost_of_widths(graph, self.floor(graph)).macs
        if least > dense * (1 - self.reduction):
            most = math.floor(1000 * (1 - least / dense)) / 1000
            raise ValueError(
                f"sparsity.reduction={float(self.reduction)} cannot be met: with {self.min_channels} channel(s) in "
                f"every group that may be pruned {least:,} of {dense:,} MACs remain, so at most {most} can go"
            )

    def widths(self, graph: ChannelGraph, scores: Scores, dense: Dense, progress: Fraction) -> dict[str, int]:
        """See ``Sparsity``."""
        target = dense.macs * (1 - self.reduction * progress)
        order = self.removal_order(graph, scores)
        low, high = (
            0,
            len(order),
        )  # MACs fall with every channel, so the shortest prefix that meets the target can be bisected
        while low < high:
            middle = (low + high) // 2
            if cost_of_widths(graph, self.after(graph, order[:middle])).macs <= target:
                high = middle
            else:
                low = middle + 1
        return self.after(graph, order[:low])


__all__ = ["Global", "Macs"]
