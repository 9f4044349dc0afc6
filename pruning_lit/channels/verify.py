"""How far a narrowed network is from the masked one."""

from typing import Any

import torch
from torch import nn

from pruning_lit.channels.stream import evaluating, tensors_of


def verify(narrowed: nn.Module, masked: nn.Module, inputs: Any) -> float:
    """Largest difference between the outputs of two networks in eval mode, over the largest output of the second.

    Args:
        narrowed: the one network.
        masked: the other, of whatever widths.
        inputs: a tensor, or a tuple of arguments.
    """
    arguments = inputs if isinstance(inputs, tuple) else (inputs,)
    with torch.no_grad(), evaluating(narrowed), evaluating(masked):
        pairs = list(zip(tensors_of(narrowed(*arguments)), tensors_of(masked(*arguments)), strict=True))
    difference = max(float((one.double() - other.double()).abs().max()) for one, other in pairs)
    largest = max(float(other.double().abs().max()) for _, other in pairs)
    return difference / largest if largest > 0 else difference
