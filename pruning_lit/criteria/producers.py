"""Which layers make the channels of a group."""

from pruning_lit.channels import ChannelGraph, ChannelGroup, Producer
from pruning_lit.channels.tracing.views import layer_of


def dense_producers(group: ChannelGroup) -> list[Producer]:
    """The uses of layers that make the channels; depthwise ones, which hand on what they read, are left out."""
    # a dense layer reads along a dimension of its own
    reading = {layer_of(piece.tensor) for piece in group.slices if piece.role == "reads"}
    passing_on = {*group.writers} & {*group.readers} - reading
    return [maker for maker in group.producers if maker.layer not in passing_on]


def is_joined(graph: ChannelGraph, group: ChannelGroup) -> bool:
    """Whether additions join the channels: those of several layers, or those of a layer and of a padded shortcut."""
    return is_padded(graph, group) or len({maker.layer for maker in dense_producers(group)}) > 1


def is_padded(graph: ChannelGraph, group: ChannelGroup) -> bool:
    """Whether a shortcut that places its channels among zeros writes into the channels."""
    relabelled = {item.tensor for item in graph.relabellings}
    return any(piece.tensor in relabelled and piece.role != "writes" for piece in group.slices)
