"""The layers that make the channels of a group, and their weights."""

from collections.abc import Container, Iterable, Mapping, Sequence

import torch
from torch import Tensor

from pruning_lit.channels import ChannelGraph, ChannelGroup, ChannelSlice, Producer
from pruning_lit.channels.tracing.views import layer_of


def filter_slices(group: ChannelGroup, weights: Container[str]) -> list[ChannelSlice]:
    """Slices of the weights that make the channels, of all layers that do.

    A channel that a ``ChannelSelect`` takes from a stream is made by no weight of its own: those that read it count.

    Args:
        group: of a traced network.
        weights: names of that network's parameters.
    """
    producers = [piece for piece in group.slices if piece.role == "writes" and piece.tensor in weights]
    return producers or [piece for piece in group.slices if piece.role == "reads"]


def by_layer(pieces: Iterable[ChannelSlice]) -> dict[str, list[ChannelSlice]]:
    """The slices of every layer, by its name, in the order in which they come."""
    layers: dict[str, list[ChannelSlice]] = {}
    for piece in pieces:
        layers.setdefault(layer_of(piece.tensor), []).append(piece)
    return layers


def channel_weights(pieces: Sequence[ChannelSlice], tensors: Mapping[str, Tensor]) -> Tensor:
    """Entries of each channel in these slices of tensors, side by side, shape ``(group.size, n)``."""
    owned = [tensors[piece.tensor].transpose(0, piece.dim)[piece.positions] for piece in pieces]
    return torch.cat([each.flatten(1) for each in owned], dim=1)


def dense_producers(group: ChannelGroup) -> list[Producer]:
    """The uses of layers that make the channels; depthwise ones, which hand on what they read, are left out."""
    # a dense layer reads along a dimension of its own
    reading = {layer_of(piece.tensor) for piece in group.slices if piece.role == "reads"}
    passing_on = {*group.writers} & {*group.readers} - reading
    return [producer for producer in group.producers if producer.layer not in passing_on]


def is_joined(graph: ChannelGraph, group: ChannelGroup) -> bool:
    """True where additions join channels of several layers, or of a layer and of a padded shortcut."""
    return is_padded(graph, group) or len({producer.layer for producer in dense_producers(group)}) > 1


def is_padded(graph: ChannelGraph, group: ChannelGroup) -> bool:
    """True where a zero-padded shortcut writes into the channels of the group."""
    relabelled = {item.tensor for item in graph.relabellings}
    return any(piece.tensor in relabelled and piece.role != "writes" for piece in group.slices)
