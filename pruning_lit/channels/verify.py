"""How far a narrowed network is from the masked one."""

import math
from typing import Any

import torch
from torch import nn

from pruning_lit.channels.stream import evaluating, tensors_of


def verify(narrowed: nn.Module, masked: nn.Module, inputs: Any) -> float:
    """Largest difference between the outputs of two networks in eval mode, over the largest output of the second.

    Infinite where the shapes differ.

    Args:
        narrowed: the one network.
        masked: the other, of whatever widths.
        inputs: a tensor, or a tuple of arguments.
    """
    arguments = inputs if isinstance(inputs, tuple) else (inputs,)
    with torch.no_grad(), evaluating(narrowed), evaluating(masked):
        pairs = list(zip(tensors_of(narrowed(*arguments)), tensors_of(masked(*arguments)), strict=True))
    if any(one.shape != other.shape for one, other in pairs):
        return math.inf
    pairs = [pair for pair in pairs if pair[0].numel()]  # a detector may find nothing
    difference = max((float((one.double() - other.double()).abs().max()) for one, other in pairs), default=0.0)
    largest = max((float(other.double().abs().max()) for _, other in pairs), default=0.0)
    return difference / largest if largest > 0 else difference
