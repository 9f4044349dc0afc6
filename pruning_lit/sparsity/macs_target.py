"""A target of multiply-accumulates, for budgets that are given one."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import ClassVar

from pruning_lit.channels import ChannelGraph, cost_of_widths
from pruning_lit.channels.surgery.cost import MacsConvention
from pruning_lit.sparsity.cost_target import CostTarget
from pruning_lit.sparsity.dense import DenseCost


@dataclass(frozen=True)
class MacsTarget(CostTarget):
    """The share of the dense network's multiply-accumulates that goes.

    Attributes:
        reduction: that share, in [0, 1).
        convention: how multiply-accumulates are counted, see ``cost_of_widths``.
        part: path of the module whose multiply-accumulates count; None: those of the whole network.
    """

    unit: ClassVar[str] = "MACs"

    reduction: Fraction
    convention: MacsConvention = "exact"
    part: str | None = None

    def counted(self, graph: ChannelGraph, widths: Mapping[str, int]) -> int:
        """The multiply-accumulates that count, of a network of these widths."""
        return cost_of_widths(graph if self.part is None else graph.within(self.part), widths, self.convention).macs

    def total(self, dense: DenseCost) -> int:
        """The cost of the dense network."""
        return dense.counted(self.convention, self.part)

    def remark(self, graph: ChannelGraph, widths: Mapping[str, int], dense: DenseCost) -> str:
        """The exact multiply-accumulates in brackets, to stand behind those of another convention."""
        if self.convention == "exact":
            return ""
        macs = cost_of_widths(graph, widths).macs
        return f" (strided 1x1 convolutions counted as 2x2; truly {macs:,} of {dense.macs:,})"

    def notes(self, graph: ChannelGraph, kept: Mapping[str, Sequence[int]], dense: DenseCost) -> list[str]:
        """Sentence on the MACs that stay by the convention or in the part, where these are not the whole, exactly."""
        if self.convention == "exact" and self.part is None:
            return []
        widths = {name: len(positions) for name, positions in kept.items()}
        stay, total = self.counted(graph, widths), self.total(dense)
        if self.part is not None:
            return [f"In `{self.part}` {stay:,} of {total:,} MACs stay ({100 * (1 - stay / total):.1f} % gone)."]
        return [
            f"With strided 1x1 convolutions counted as 2x2, as sparsity.macs_convention={self.convention} does, "
            f"{stay:,} of {total:,} MACs stay ({100 * (1 - stay / total):.1f} % gone)."
        ]
