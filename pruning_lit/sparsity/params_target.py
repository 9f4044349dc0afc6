"""A target of parameters, for budgets that are given one."""

from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import ClassVar

from pruning_lit.channels import ChannelGraph, cost_of_widths
from pruning_lit.sparsity.cost_target import CostTarget
from pruning_lit.sparsity.dense import DenseCost


@dataclass(frozen=True)
class ParamsTarget(CostTarget):
    """The share of the dense network's parameters that goes.

    Attributes:
        reduction: that share, in [0, 1).
    """

    unit: ClassVar[str] = "parameters"

    reduction: Fraction

    def counted(self, graph: ChannelGraph, widths: Mapping[str, int]) -> int:
        """The parameters of a network of these widths, see ``cost_of_widths``."""
        return cost_of_widths(graph, widths).params

    def total(self, dense: DenseCost) -> int:
        """The cost of the dense network."""
        return dense.params


def require_whole(part: str | None) -> None:
    """ValueError where a budget of parameters is to be of a part of the network."""
    if part:
        raise ValueError(
            f"a budget of parameters is of whole networks: leave out sparsity.part={part}, or exclude what is to stay "
            "whole (sparsity.exclude=[…])"
        )
