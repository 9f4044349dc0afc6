"""Multiply-accumulates and parameters, from widths alone."""

import math
from collections import defaultdict
from dataclasses import dataclass

from pruning_lit.channels.graph import ChannelGraph, Kept


@dataclass(frozen=True)
class Cost:
    """What a network costs.

    Attributes:
        macs: multiply-accumulates of all convolutions and linear layers for one example; biases, normalisation,
            activation and pooling are not counted.
        params: trainable scalars.
    """

    macs: int
    params: int


def cost(graph: ChannelGraph, kept: Kept | None = None) -> Cost:
    """Count the network of ``graph`` narrowed to ``kept``, without narrowing it and without a forward pass.

    Args:
        graph: as traced.
        kept: the positions that stay, by group; groups that are not named stay whole. None: the network as it is.

    Raises:
        ValueError: ``kept`` does not fit the graph.
    """
    return cost_of_widths(graph, {name: int(flags.sum()) for name, flags in graph.keep_mask(kept or {}).items()})


def cost_of_widths(graph: ChannelGraph, widths: dict[str, int]) -> Cost:
    """The same from the number of channels kept in each group."""
    removed: dict[tuple[str, int], int] = defaultdict(int)
    for group in graph.groups:
        gone = group.size - widths.get(group.name, group.size)
        if gone:
            for piece in group.slices:
                removed[piece.tensor, piece.dim] += gone * piece.positions.shape[1]
    sizes = {
        name: math.prod(length - removed.get((name, dim), 0) for dim, length in enumerate(shape))
        for name, shape in graph.shapes.items()
    }
    macs = sum(call.positions * sizes[call.weight] for call in graph.calls)
    return Cost(macs=macs, params=sum(sizes.values()))
