"""Gradients of shifts that are not there: those that dormant channels of a shortcut would have.

Where a channel is dormant its weights and scales have no gradient, and mostly its shift has none either, for what
reads it is zero. A shortcut's output is added to a stream that others read, though, so that a shift there would move
the loss: its gradient is that of the sum, added up over pictures and pixels.
"""

from collections.abc import Iterator
from functools import partial
from typing import Any, NamedTuple

import torch
import torch.distributed as dist
from torch import Tensor, nn

from pruning_lit.channels import Moves
from pruning_lit.channels.modules.scatters import SCATTER, SOURCE, has_scatter


class Site(NamedTuple):
    """A layer with a scatter, in a network that has been cut.

    Attributes:
        bias: name of its shift.
        size: of the shift in the whole network.
        source: of the scatter in the whole network: the layer's channel that each channel of the stream gets, or -1.
        stream: positions of the whole stream that are left, or None for all.
    """

    bias: str
    size: int
    source: Tensor
    stream: Tensor | None


class ShiftGradients:
    """Watches the scatters of a network in training."""

    def __init__(self) -> None:
        self.sites: list[Site] = []
        self.sums: dict[str, Tensor] = {}  # by bias, per channel of what is left of the stream
        self.handles: list[Any] = []

    def attach(self, net: nn.Module, moves: Moves) -> None:
        """Watch ``net``, which ``moves`` made smaller."""
        self.detach()
        for site, path in _sites(net, moves):
            self.sites.append(site)
            scatter = net.get_submodule(path).get_submodule(SCATTER)
            # a partial, for a copy of the network is to have sums of its own
            self.handles.append(scatter.register_forward_hook(partial(_listen, self, site.bias)))

    def detach(self) -> None:
        """Watch no longer; what has not been taken is forgotten."""
        for handle in self.handles:
            handle.remove()
        self.sites, self.sums, self.handles = [], {}, []

    def take(self) -> dict[str, Tensor]:
        """The gradients since the last time, by name of the shift, shape as in the whole network; means over ranks."""
        gradients = {}
        for site in self.sites:
            if site.bias not in self.sums:
                continue
            arrived = self.sums[site.bias]
            if dist.is_available() and dist.is_initialized():
                dist.all_reduce(arrived)
                arrived = arrived / dist.get_world_size()
            source = site.source.to(arrived.device)
            source = source if site.stream is None else source[site.stream.to(arrived.device)]
            fed = source >= 0
            gradients[site.bias] = arrived.new_zeros(site.size).index_add(0, source[fed], arrived[fed])
        self.sums = {}
        return gradients

    def add(self, bias: str, gradient: Tensor) -> None:
        """Called with the gradient of what a scatter gives, shape ``(N, C, *)``."""
        others = [dim for dim in range(gradient.ndim) if dim != 1]
        summed = gradient.sum(others, dtype=torch.promote_types(gradient.dtype, torch.float32))
        self.sums[bias] = self.sums[bias] + summed if bias in self.sums else summed


def _listen(gradients: ShiftGradients, bias: str, _module: nn.Module, _args: Any, output: Tensor) -> None:
    """Forward hook of a scatter, but for the first two: adds up the gradient of what the scatter gives."""
    if output.requires_grad:
        output.register_hook(partial(gradients.add, bias))


def _sites(net: nn.Module, moves: Moves) -> Iterator[tuple[Site, str]]:
    """The layers with a scatter and a shift of which channels are dormant, each with its path."""
    parameters = dict(net.named_parameters())
    for path, module in net.named_modules():
        bias, source = f"{path}.bias", f"{path}{SOURCE}"
        if has_scatter(module) and bias in parameters and bias in moves and source in moves:
            whole = moves[source]
            yield Site(bias, len(moves[bias].old), whole.old, whole.index.get(0)), path
