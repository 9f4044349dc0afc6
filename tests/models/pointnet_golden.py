"""Golden vectors of PointNet++: made by the public PyTorch version in float64, its first centre fixed.

Its weights follow a rule, so that no file holds them: number ``i`` of the ``k``-th tensor of its state dict, both from
0, is made of ``sin(12.9898 (i + 1) + 78.233 (k + 1))``.
"""

import math
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.conv import _ConvNd

from tests.places import VECTORS


def golden(name: str) -> dict[str, Any]:
    """The arrays of one golden file as tensors, single numbers as they are."""
    with np.load(VECTORS / "pointnet2" / f"{name}.npz") as file:
        return {key: torch.from_numpy(each) if each.ndim else each.item() for key, each in file.items()}


def fill(net: nn.Module, *parts: nn.Module) -> None:
    """Give a network the golden weights, in eval mode and double precision.

    Args:
        net: the network.
        parts: its blocks and single layers in the order of the released state dict; none: the network is one block.
    """
    net.double().eval()
    with torch.no_grad():
        for k, (kind, tensor) in enumerate(released_order(parts or [net])):
            i = torch.arange(tensor.numel(), dtype=torch.float64)
            value = torch.sin(12.9898 * (i + 1) + 78.233 * (k + 1)).view(tensor.shape)
            tensor.copy_(RULES[kind](value) if kind in RULES else value * math.sqrt(2 / tensor[0].numel()))


RULES = {
    "running_var": lambda value: 1 + 0.5 * value,
    "running_mean": lambda value: 0.1 * value,
    "scale": lambda value: 1 + 0.2 * value,
    "bias": lambda value: 0.1 * value,
}


def released_order(parts: Iterable[nn.Module]) -> Iterator[tuple[str, Tensor]]:
    """Tensors, and what they are, in the released order: in a block all convolutions precede all norms."""
    for part in parts:
        for kind in (_ConvNd | nn.Linear, _BatchNorm):
            for module in part.modules():
                if isinstance(module, kind):
                    for name, tensor in module.state_dict().items():
                        if name != "num_batches_tracked":
                            yield "scale" if name == "weight" and tensor.ndim == 1 else name, tensor
