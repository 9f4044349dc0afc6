"""Multiply-accumulates of the parts of a traced network."""

import math
from collections import Counter

from pruning_lit.channels import ChannelGraph


def macs_by_part(graph: ChannelGraph, depth: int) -> Counter[str]:
    """Multiply-accumulates for one image, by the first parts of the layers' names."""
    counts: Counter[str] = Counter()
    for call in graph.calls:
        part = ".".join(call.weight.removesuffix(".weight").split(".")[:depth])
        counts[part] += int(call.rows * call.positions * math.prod(graph.shapes[call.weight]))
    return counts


def params_by_part(graph: ChannelGraph, depth: int) -> Counter[str]:
    """Parameters, by the first parts of their names."""
    counts: Counter[str] = Counter()
    for name, shape in graph.shapes.items():
        counts[".".join(name.split(".")[:depth])] += math.prod(shape)
    return counts
