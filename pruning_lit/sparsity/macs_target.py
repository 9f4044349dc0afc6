"""A target of multiply-accumulates, for budgets that are given one."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction

from pruning_lit.channels import ChannelGraph, cost_of_widths
from pruning_lit.channels.surgery.cost import MacsConvention
from pruning_lit.sparsity.base import Sparsity
from pruning_lit.sparsity.dense import DenseCost


@dataclass(frozen=True)
class MacsTarget:
    """The share of the dense network's multiply-accumulates that goes.

    Attributes:
        reduction: that share, in [0, 1).
        convention: how multiply-accumulates are counted, see ``cost_of_widths``.
        part: path of the module whose multiply-accumulates count; None: those of the whole network.
    """

    reduction: Fraction
    convention: MacsConvention = "exact"
    part: str | None = None

    def counted(self, graph: ChannelGraph, widths: Mapping[str, int]) -> int:
        """The multiply-accumulates that count, of a network of these widths."""
        return cost_of_widths(graph if self.part is None else graph.within(self.part), widths, self.convention).macs

    def met(self, graph: ChannelGraph, widths: Mapping[str, int], dense: DenseCost, progress: Fraction) -> bool:
        """True where a network of these widths costs no more than what is to be left at that progress."""
        target = dense.counted(self.convention, self.part) * (1 - self.reduction * progress)
        return self.counted(graph, widths) <= target

    def require_reachable(self, budget: Sparsity, graph: ChannelGraph) -> None:
        """ValueError where even the narrowest network within the limits costs more than what is to be left."""
        dense = DenseCost.of(graph)
        narrowest = budget.allowed_widths(graph, dense, budget.min_widths(graph))
        least, total = self.counted(graph, narrowest), dense.counted(self.convention, self.part)
        if least > total * (1 - self.reduction):
            most = math.floor(1000 * (1 - least / total)) / 1000
            raise ValueError(
                f"sparsity.reduction={float(self.reduction)} cannot be met: {least:,} of {total:,} MACs"
                f"{self.true_macs_note(cost_of_widths(graph, narrowest).macs, dense)} remain in the narrowest network "
                f"with {budget.limits}, so at most {most} can go"
            )

    def true_macs_note(self, macs: int, dense: DenseCost) -> str:
        """The exact multiply-accumulates in brackets, to stand behind those of another convention."""
        if self.convention == "exact":
            return ""
        return f" (strided 1x1 convolutions counted as 2x2; truly {macs:,} of {dense.macs:,})"

    def notes(self, graph: ChannelGraph, kept: Mapping[str, Sequence[int]], dense: DenseCost) -> list[str]:
        """Sentence on the MACs that stay by the convention or in the part, where these are not the whole, exactly."""
        if self.convention == "exact" and self.part is None:
            return []
        widths = {name: len(positions) for name, positions in kept.items()}
        stay, total = self.counted(graph, widths), dense.counted(self.convention, self.part)
        if self.part is not None:
            return [f"In `{self.part}` {stay:,} of {total:,} MACs stay ({100 * (1 - stay / total):.1f} % gone)."]
        return [
            f"With strided 1x1 convolutions counted as 2x2, as sparsity.macs_convention={self.convention} does, "
            f"{stay:,} of {total:,} MACs stay ({100 * (1 - stay / total):.1f} % gone)."
        ]
