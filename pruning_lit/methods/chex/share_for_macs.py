"""How many channels have to go so that a target of MACs is met, for methods that reckon in shares of channels."""

from collections.abc import Callable, Mapping
from fractions import Fraction

from pruning_lit.channels import ChannelGraph
from pruning_lit.sparsity.dense import Dense
from pruning_lit.sparsity.global_budgets import Macs


def share_for_macs(
    budget: Macs, graph: ChannelGraph, widths: Callable[[float], Mapping[str, int]], num_channels: int
) -> float:
    """The smallest share of the channels without which the network costs no more than the target.

    Args:
        budget: the target, with its limits.
        graph: of the whole network.
        widths: a share in (0, 1) to the widths that are asked for then, of every group of the population; they do not
            grow with the share.
        num_channels: of all these groups.

    Returns:
        Midway between two numbers of channels, so that no rounding takes one of them for the other.
    """
    dense, least, most = Dense.of(graph), 0, num_channels - 1
    while least < most:
        middle = (least + most) // 2
        if budget.met(graph, widths((middle + 0.5) / num_channels), dense, Fraction(1)):
            most = middle
        else:
            least = middle + 1
    return (least + 0.5) / num_channels
