"""Distillation by attention: where in an image the feature maps of each size are large."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pruning_lit.phases.distillation.base import DENSE, Distillation, precise, require_weight
from pruning_lit.tasks import Task
from pruning_lit.tasks.base import Batch

Size = tuple[int, ...]  # of a feature map: (H, W)


class Attention(Distillation):
    """Distillation of attention maps: ``loss of the task + weight * sum over stages of their squared differences``.

    A stage ends with the last feature map of its size. Channels are added up, so that network and teacher may have
    different ones.

    Args:
        teacher: see ``Distillation``; a network with feature maps of the same sizes.
        weight: of the term.

    Raises:
        ValueError: the weight is below 0.

    Source: Zagoruyko and Komodakis 2017, "Paying More Attention to Attention", equation 2.
    """

    def __init__(self, teacher: str = DENSE, weight: float = 1000.0) -> None:
        super().__init__(teacher)
        self.weight = require_weight("weight", weight)

    def check(self, name: str, task: Task) -> None:
        """ValueError also where a feature map has no places."""
        super().check(name, task)
        if not task.maps_are_images:
            raise ValueError(
                f"{name}.distillation compares feature maps place by place, and those of task {type(task).__name__} "
                "are no images: choose distillation=logits or dist"
            )

    def look(self, net: nn.Module, batch: Batch, task: Task) -> tuple[Any, dict[Size, Tensor]]:
        """Outputs of a network, and its attention maps ``(N, H * W)`` by size."""
        with last_maps(net) as maps:
            outputs = task.outputs(net, batch)
        return outputs, {size: attention_map(precise(each)) for size, each in maps.items()}

    def loss(self, learned: Mapping[Size, Tensor], taught: Mapping[Size, Tensor]) -> Tensor:
        """Mean squared differences of attention maps, added up over their sizes, times the weight."""
        if learned.keys() != taught.keys():
            ours, theirs = (", ".join("×".join(map(str, size)) for size in each) for each in (learned, taught))
            raise ValueError(
                f"distillation=attention needs a teacher with feature maps of the same sizes: those of the network are "
                f"{ours or 'none'}, those of distillation.teacher={self.teacher} {theirs or 'none'}"
            )
        differences = [F.mse_loss(learned[size], taught[size]) for size in learned]
        return self.weight * torch.stack(differences).sum()


def attention_map(maps: Tensor) -> Tensor:
    """Normalised attention map: the squares added up over channels, as a vector of length 1 for each image.

    Args:
        maps: feature maps, ``(N, C, H, W)``.

    Returns:
        Shape ``(N, H * W)``.
    """
    return F.normalize(maps.square().sum(1).flatten(1), dim=1)


@contextmanager
def last_maps(net: nn.Module) -> Iterator[dict[Size, Tensor]]:
    """Collect the last feature map ``(N, C, H, W)`` of each size that a layer of ``net`` gives in a forward pass.

    Yields:
        The maps by ``(H, W)``, filled by the pass; those of a single pixel, where every attention is the same, are
        left out.
    """
    maps: dict[Size, Tensor] = {}

    def keep(module: nn.Module, inputs: Any, output: Any) -> None:
        if isinstance(output, Tensor) and output.ndim == 4 and output.shape[2:].numel() > 1:
            maps[tuple(output.shape[2:])] = output

    hooks = [module.register_forward_hook(keep) for module in net.modules()]
    try:
        yield maps
    finally:
        for hook in hooks:
            hook.remove()
