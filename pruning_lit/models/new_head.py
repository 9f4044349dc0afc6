"""Heads of a network, which start anew where trained weights are for another number of classes."""

from collections.abc import Iterable, Mapping
from typing import NamedTuple

from torch import Tensor, nn

from pruning_lit.channels import ChannelGraph


class Head(NamedTuple):
    """A layer that is left at its initialisation.

    Attributes:
        layer: its name.
        stored: outputs in the weights.
        own: outputs in the network.
    """

    layer: str
    stored: int
    own: int


def heads_of(net: nn.Module, view: nn.Module, graph: ChannelGraph) -> list[str]:
    """Names, in ``net``, of the layers whose outputs no other layer reads.

    Args:
        net: the network.
        view: the part of it that was traced.
        graph: of that part.
    """
    last = {view.get_submodule(layer) for group in graph.groups if not group.readers for layer in group.writers}
    return [name for name, module in net.named_modules() if module in last]


def with_new_heads(
    net: nn.Module, weights: Mapping[str, Tensor], layers: Iterable[str]
) -> tuple[dict[str, Tensor], list[Head]]:
    """Weights in which layers with another number of outputs have the values of the network.

    As many inputs of such a layer are taken as it has in the weights: of a narrower network there are fewer.

    Args:
        net: the network, with fresh weights.
        weights: trained ones, under the names of the network.
        layers: names of the layers that may start anew.
    """
    taken, heads, own = dict(weights), [], net.state_dict()
    for layer in layers:
        names = [name for name in own if name.rpartition(".")[0] == layer and name in weights]
        sizes = {(len(weights[name]), len(own[name])) for name in names if own[name].ndim and weights[name].ndim}
        if len(sizes) != 1 or (stored := sizes.pop())[0] == stored[1]:
            continue
        heads.append(Head(layer, *stored))
        for name in names:
            inside = tuple(slice(length) for length in weights[name].shape[1:])
            taken[name] = own[name][(slice(None), *inside)]
    return taken, heads
