"""Multiply-accumulates and parameters, from widths alone."""

import math
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import Literal

from pruning_lit.channels.tracing.graph import ChannelGraph, Kept
from pruning_lit.channels.tracing.views import layer_of

MacsConvention = Literal["exact", "published"]  # how multiply-accumulates are counted, see ``cost_of_widths``


@dataclass(frozen=True)
class Cost:
    """Cost of a network.

    Attributes:
        macs: multiply-accumulates of all convolutions and linear layers for one example: those of the pass in which
            the network was traced, divided by the number of examples in it; the heads of a detector for the regions
            that it found there, or for a declared number of them, see ``ChannelGraph.with_regions``. Biases,
            normalisation, activation and pooling are not counted, nor is a single kernel that is applied to all
            channels (a blur), or one that is made of activations.
        params: scalars in parameters; a buffer that is used as a weight (a fixed filter, a codebook) has none.
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


def cost_of_widths(graph: ChannelGraph, widths: Mapping[str, int], convention: MacsConvention = "exact") -> Cost:
    """Count the network from the number of channels kept in each group.

    Args:
        graph: as traced.
        widths: the number of channels that stay, by group; groups that are not named stay whole.
        convention: ``published``: strided 1x1 convolutions count as 2x2, four times what they cost. So counts the
            released code of Ding et al. 2021, "ResRep: Lossless CNN Pruning via Decoupling Remembering and Forgetting",
            in the ResNets for CIFAR.
    """
    sizes = {name: math.prod(shape) for name, shape in shapes_of_widths(graph, widths).items()}
    macs = sum(call.times * sizes[call.weight] for call in graph.calls)
    if convention == "published":
        strided = [call for call in graph.calls if call.strided and graph.shapes[call.weight][2:] == (1, 1)]
        macs += sum(3 * call.times * sizes[call.weight] for call in strided)
    return Cost(macs=round(macs), params=sum(size for name, size in sizes.items() if name not in graph.fixed))


def shapes_of_widths(graph: ChannelGraph, widths: Mapping[str, int]) -> dict[str, tuple[int, ...]]:
    """Shapes of all weights by their state-dict names, from the number of channels kept in each group."""
    removed: dict[tuple[str, int], int] = defaultdict(int)
    for group in graph.groups:
        lost = group.size - widths.get(group.name, group.size)
        if lost:
            for piece in group.slices:
                removed[piece.tensor, piece.dim] += lost * piece.positions.shape[1]
    return {
        name: tuple(length - removed.get((name, dim), 0) for dim, length in enumerate(shape))
        for name, shape in graph.shapes.items()
    }


def macs_by_layer(graph: ChannelGraph) -> dict[str, int]:
    """Multiply-accumulates of every convolution and linear layer for one example, by its name, in execution order."""
    counts: dict[str, int | Fraction] = defaultdict(int)
    for call in graph.calls:
        counts[layer_of(call.weight)] += call.times * math.prod(graph.shapes[call.weight])
    return {name: round(macs) for name, macs in counts.items()}
