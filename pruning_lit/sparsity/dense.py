"""The network before the first cut, which all shares refer to."""

from dataclasses import dataclass

from pruning_lit.channels import ChannelGraph, cost


@dataclass(frozen=True)
class Dense:
    """The network before the first cut: shares are shares of this one, also when it is cut in several steps.

    Attributes:
        sizes: of the groups, as the graph counts.
        macs, params: see ``cost``.
    """

    sizes: dict[str, int]
    macs: int
    params: int

    @classmethod
    def of(cls, graph: ChannelGraph) -> "Dense":
        """The widths, the multiply-accumulates and the parameters of ``graph``."""
        counted = cost(graph)
        return cls({group.name: group.size for group in graph.groups}, counted.macs, counted.params)
