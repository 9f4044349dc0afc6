"""One rate for all layers."""

from fractions import Fraction
from typing import Any

from pruning_lit.channels import ChannelGraph
from pruning_lit.sparsity.base import Scores, Sparsity
from pruning_lit.sparsity.dense import DenseCost
from pruning_lit.sparsity.rates import parse_rate, width_after


class Uniform(Sparsity):
    """Remove the same share of channels from every group.

    Args:
        rate: share removed, in [0, 1).
        limits: see ``Limits``; an override is another rate for the groups it names.
    """

    def __init__(self, rate: float | str, **limits: Any) -> None:
        super().__init__(**limits)
        self.rate = parse_rate(rate, "sparsity.rate")

    def budget_widths(
        self, graph: ChannelGraph, scores: Scores, dense: DenseCost, progress: Fraction
    ) -> dict[str, int]:
        """Widths that the one rate leaves of the dense width of every group."""
        return {
            group.name: min(group.size, width_after(dense.sizes[group.name], self.rate * progress))
            for group in self.prunable_groups(graph)
        }
