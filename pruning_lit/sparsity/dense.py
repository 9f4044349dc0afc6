"""Widths and cost of the network before the first cut, which all shares refer to."""

from dataclasses import dataclass, field

from pruning_lit.channels import ChannelGraph, cost_of_widths, macs_by_layer
from pruning_lit.channels.surgery.cost import MacsConvention


@dataclass(frozen=True)
class DenseCost:
    """Widths and cost of the network before the first cut, to which shares refer, also when there are several cuts.

    Attributes:
        sizes: of the groups, as the graph counts.
        macs, params: see ``cost``.
        published: multiply-accumulates by the convention ``published``, see ``cost_of_widths``; None in checkpoints
            from before there was one.
        layers: multiply-accumulates of every layer, by its name.
    """

    sizes: dict[str, int]
    macs: int
    params: int
    published: int | None = None
    layers: dict[str, int] = field(default_factory=dict)

    @classmethod
    def of(cls, graph: ChannelGraph) -> "DenseCost":
        """The widths, the multiply-accumulates and the parameters of ``graph``."""
        counted, published = cost_of_widths(graph, {}), cost_of_widths(graph, {}, "published")
        sizes = {group.name: group.size for group in graph.groups}
        return cls(sizes, counted.macs, counted.params, published.macs, macs_by_layer(graph))

    def counted(self, convention: MacsConvention, part: str | None = None) -> int:
        """The multiply-accumulates by a convention, of all of the network or of the module at the path ``part``."""
        if part is not None:
            return sum(macs for name, macs in self.layers.items() if f"{name}.".startswith(f"{part}."))
        if convention == "exact":
            return self.macs
        assert self.published is not None, "the convention was another one when the checkpoint was written"
        return self.published
