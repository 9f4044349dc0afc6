"""The reference layer of a group: the one, of all that make its channels, whose maps and weights decide."""

from collections.abc import Mapping

from pruning_lit.channels import ChannelGraph, ChannelGroup, Producer
from pruning_lit.criteria.producers import dense_producers

NO_CONVOLUTION = "no two-dimensional convolution makes its channels"
SELECTED = (
    "a selection makes its channels, and only convolutions decide; build the network without (arch.selections=false)"
)


def candidates(graph: ChannelGraph, group: ChannelGroup) -> list[Producer]:
    """The uses of two-dimensional convolutions that make the channels; depthwise ones hand on what they read."""
    return [producer for producer in dense_producers(group) if len(graph.shapes[producer.weight]) == 4]


def reference_uses(graph: ChannelGraph, group: ChannelGroup, names: Mapping[str, str]) -> list[Producer]:
    """All uses of a group's reference layer, which decides for all that make its channels; none without convolution.

    In a residual stream that is the layer that writes the skip operand of its first addition: the projection, or the
    layer that opened the stream. Of all that write into the stream it has the fewest layers between itself and the
    image. Where several have equally few, the first in execution order decides.

    Args:
        graph: the network.
        group: one of its groups.
        names: layers that decide whatever the rule says, by the name of their group.

    Raises:
        ValueError: a layer that is named does not make the channels of the group.

    Source: Li et al. 2024, "Filter Pruning via Decomposition of Redundancy Graphs", of whose networks
    the rule is a summary.
    """
    producers = candidates(graph, group)
    if group.name in names:
        chosen = [producer for producer in producers if producer.layer == names[group.name]]
        if not chosen:
            able = ", ".join(repr(name) for name in dict.fromkeys(producer.layer for producer in producers)) or "none"
            raise ValueError(
                f"criterion.reference_layers: layer {names[group.name]!r} does not decide on group {group.name!r}; its "
                f"channels are made by {able}"
            )
        return chosen
    nearest = min(producers, key=lambda producer: producer.depth, default=None)
    return [producer for producer in producers if nearest is not None and producer.layer == nearest.layer]
