"""Widths of a pruned network as multiples, at the cost that it has."""

import math
from collections.abc import Mapping
from fractions import Fraction

from pruning_lit.channels import ChannelGraph, cost_of_widths
from pruning_lit.sparsity.dense import DenseCost
from pruning_lit.sparsity.limits import Limits

STEPS = 1000  # of the scale that is bisected


def in_multiples(graph: ChannelGraph, widths: Mapping[str, int], multiple: int) -> dict[str, int]:
    """Widths in multiples that cost no more multiply-accumulates than the given ones, in the same proportions.

    All are scaled by one factor of at most 1, the largest that meets this when they are rounded up, as
    ``sparsity.round_to`` does.

    Args:
        graph: the dense network.
        widths: the number of channels that stay, by group.
        multiple: of the widths; a group keeps all its channels where the next multiple is more than it has.

    Returns:
        By group; where even the narrowest cost more, these: the given widths have layers below ``multiple`` then.
    """
    limits, dense, most = Limits(round_to=multiple), DenseCost.of(graph), cost_of_widths(graph, widths).macs

    def scaled(steps: int) -> dict[str, int]:
        return {
            name: limits.fit(graph[name], dense, math.ceil(width * Fraction(steps, STEPS)))
            for name, width in widths.items()
        }

    below, above = 0, STEPS + 1
    while above - below > 1:
        middle = (below + above) // 2
        below, above = (middle, above) if cost_of_widths(graph, scaled(middle)).macs <= most else (below, middle)
    return scaled(below)
