"""One rate for all layers."""

from collections.abc import Sequence
from fractions import Fraction

from pruning_lit.channels import ChannelGraph
from pruning_lit.sparsity.base import Dense, Scores, Sparsity
from pruning_lit.sparsity.rates import parse_rate, width_after


class Uniform(Sparsity):
    """Remove the same share of channels from every group.

    Args:
        rate: share removed, in [0, 1); at least one channel stays in every group.
        exclude: patterns of group names that are left whole.
    """

    def __init__(self, rate: float | str, exclude: Sequence[str] = ()) -> None:
        super().__init__(exclude)
        self.rate = parse_rate(rate, "sparsity.rate")

    def widths(self, graph: ChannelGraph, scores: Scores, dense: Dense, progress: Fraction) -> dict[str, int]:
        """See ``Sparsity``."""
        return {
            group.name: min(group.size, width_after(dense.sizes[group.name], self.rate * progress))
            for group in self.population(graph)
        }
