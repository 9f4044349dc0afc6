"""A target of what the network costs, for budgets that are given one: the share of it that goes."""

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from fractions import Fraction
from typing import ClassVar

from pruning_lit.channels import ChannelGraph
from pruning_lit.sparsity.base import Sparsity
from pruning_lit.sparsity.dense import DenseCost


class CostTarget(ABC):
    """The share of the dense network's cost that goes.

    Attributes:
        unit: of the cost, in the plural.
        reduction: that share, in [0, 1).
    """

    unit: ClassVar[str]
    reduction: Fraction

    @abstractmethod
    def counted(self, graph: ChannelGraph, widths: Mapping[str, int]) -> float:
        """The cost of a network of these widths."""

    @abstractmethod
    def total(self, dense: DenseCost) -> float:
        """The cost of the dense network."""

    def remark(self, graph: ChannelGraph, widths: Mapping[str, int], dense: DenseCost) -> str:
        """Words in brackets behind the cost of a network of these widths, where there is more to be said of it."""
        return ""

    @property
    def asked(self) -> str:
        """The setting that asked for it, as it is typed."""
        return f"sparsity.reduction={float(self.reduction)}"

    def told(self, cost: float) -> str:
        """A cost in figures."""
        return f"{cost:,}"

    def left(self, dense: DenseCost, progress: Fraction) -> float | Fraction:
        """The cost that is to be left at most at that progress."""
        return self.total(dense) * (1 - self.reduction * progress)

    def met(self, graph: ChannelGraph, widths: Mapping[str, int], dense: DenseCost, progress: Fraction) -> bool:
        """True where a network of these widths costs no more than what is to be left at that progress."""
        return self.counted(graph, widths) <= self.left(dense, progress)

    def require_reachable(self, budget: Sparsity, graph: ChannelGraph, dense: DenseCost | None = None) -> None:
        """ValueError where even the narrowest network within the limits costs more than what is to be left.

        Args:
            budget: with the limits.
            graph: of the network.
            dense: before the first cut; None: as it is.
        """
        dense = dense or DenseCost.of(graph)
        narrowest = budget.allowed_widths(graph, dense, budget.min_widths(graph))
        least, total = self.counted(graph, narrowest), self.total(dense)
        if least > total * (1 - self.reduction):
            most = math.floor(1000 * (1 - least / total)) / 1000
            remaining = f"{self.told(least)} of {self.told(total)} {self.unit}{self.remark(graph, narrowest, dense)}"
            raise ValueError(
                f"{self.asked} cannot be met: {remaining} remain in the narrowest "
                f"network with {budget.limits}, so at most {most} can go"
            )
