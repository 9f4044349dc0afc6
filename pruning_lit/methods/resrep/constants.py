"""Constant inputs: what readers find in the place of a channel that has become zero where it was made.

Not always zeros: a batch norm, a depthwise convolution or a sigmoid on the way turns zero into another number. As long
as that is one number, whatever the image and the pixel, a bias of the reader can take its place.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd, _ConvTransposeNd

from pruning_lit.channels.tracing.graph import ChannelGraph
from pruning_lit.channels.tracing.operations import evaluating
from pruning_lit.channels.tracing.views import layer_of

ROUNDING = 1e-9  # of a float64 value: what different kernels make of the same number


@dataclass(frozen=True)
class ConstantInput:
    """Input of one reader from channels that are zero where they were made.

    Attributes:
        positions: along the input of the reader's weight, shape ``(count,)``.
        low, high: smallest and largest value there, over images and pixels, float64, shape ``(count,)``.
    """

    positions: Tensor
    low: Tensor
    high: Tensor

    def at(self, positions: Tensor) -> "ConstantInput":
        """The part of the input at some of its positions."""
        places = {position: place for place, position in enumerate(self.positions.tolist())}
        index = torch.tensor([places[position] for position in positions.tolist()], dtype=torch.int64)
        return ConstantInput(positions, self.low[index], self.high[index])

    @property
    def is_constant(self) -> Tensor:
        """True for each position where it is one number."""
        return self.high - self.low <= ROUNDING * (1 + self.high.abs())

    @property
    def is_zero(self) -> Tensor:
        """True for each position where it is nothing."""
        return torch.maximum(self.high.abs(), self.low.abs()) <= ROUNDING


def constant_inputs(
    model: nn.Module, graph: ChannelGraph, gone: Mapping[str, Tensor], inputs: Any
) -> dict[str, ConstantInput]:
    """Run a model in which some channels are zero where they are made, and look at what their readers get.

    Args:
        model: in float64.
        graph: its groups, or those of the model it was copied from.
        gone: by group the positions of the channels that are zero.
        inputs: a tensor, or a tuple of arguments; several different images, for constants to be told from others.

    Returns:
        By the name of the reader's weight what it gets; readers that are neither convolutions nor linear layers, whose
        input is not looked at, get anything between minus infinity and infinity.
    """
    found = {name: ConstantInput(*_unknown(positions)) for name, positions in _read(graph, gone).items()}
    looks = []
    for name, constant in found.items():
        layer = layer_of(name)
        module = dict(model.named_modules()).get(layer)
        if isinstance(module, _ConvNd | nn.Linear) and name == f"{layer}.weight":
            found[name] = ConstantInput(
                constant.positions, constant.high.clone(), constant.low.clone()
            )  # nothing seen yet
            looks.append(module.register_forward_pre_hook(_looking(found[name], -1 if _is_linear(module) else 1)))
    try:
        with torch.no_grad(), evaluating(model):
            model(*(inputs if isinstance(inputs, tuple) else (inputs,)))
    finally:
        for look in looks:
            look.remove()
    return found


def can_absorb(reader: nn.Module | None) -> bool:
    """True where a bias of the reader can do what a constant input did: not where zeros are padded around it."""
    if _is_linear(reader):
        return True
    if not isinstance(reader, _ConvNd) or isinstance(reader, _ConvTransposeNd):
        return False
    return reader.padding_mode != "zeros" or not _pads(reader)


def _pads(conv: _ConvNd) -> bool:
    if isinstance(conv.padding, str):
        return conv.padding == "same" and any(size > 1 for size in conv.kernel_size)
    return any(conv.padding)


def _is_linear(module: nn.Module | None) -> bool:
    return isinstance(module, nn.Linear)


def _read(graph: ChannelGraph, gone: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Positions of channels that are gone, by the name of the weight that reads them."""
    read: dict[str, list[Tensor]] = {}
    for name, positions in gone.items():
        for piece in graph[name].slices:
            if piece.role == "reads":
                read.setdefault(piece.tensor, []).append(piece.positions[positions].flatten())
    return {name: torch.cat(positions) for name, positions in read.items()}


def _unknown(positions: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    infinite = torch.full(positions.shape, torch.inf, dtype=torch.float64)
    return positions, -infinite, infinite


def _looking(seen: ConstantInput, axis: int) -> Any:
    def look(_module: nn.Module, args: tuple[Any, ...]) -> None:
        values = args[0].index_select(axis, seen.positions.to(args[0].device)).movedim(axis, 0).flatten(1).cpu()
        torch.minimum(seen.low, values.amin(1).double(), out=seen.low)
        torch.maximum(seen.high, values.amax(1).double(), out=seen.high)

    return look
