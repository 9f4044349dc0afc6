"""Random weights that hide nothing, and random choices of channels."""

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from pruning_lit.channels import ChannelGraph


def randomise(model: nn.Module, seed: int = 0) -> nn.Module:
    """Give every normalisation its own statistics, scales (some negative) and shifts, every bias a value; in place."""
    random = torch.Generator().manual_seed(seed)
    for module in model.modules():
        if isinstance(module, _BatchNorm):
            width = module.num_features
            if module.affine:
                module.weight.data = torch.rand(width, generator=random) + 0.5
                module.weight.data[torch.rand(width, generator=random) < 0.2] *= -1
                module.bias.data = torch.randn(width, generator=random)
            module.running_mean = torch.randn(width, generator=random)
            module.running_var = torch.rand(width, generator=random) + 0.5
        elif isinstance(getattr(module, "bias", None), torch.Tensor):
            module.bias.data = torch.randn(module.bias.shape, generator=random)
    return model.eval()


def random_kept(graph: ChannelGraph, seed: int) -> dict[str, list[int]]:
    """A random choice for every prunable group: between one channel and all of them."""
    random = torch.Generator().manual_seed(seed)
    kept = {}
    for group in graph.prunable:
        width = int(torch.randint(1, group.size + 1, (), generator=random))
        kept[group.name] = sorted(torch.randperm(group.size, generator=random)[:width].tolist())
    return kept


def random_scores(graph: ChannelGraph, seed: int) -> dict[str, torch.Tensor]:
    """A random score for every channel."""
    random = torch.Generator().manual_seed(seed)
    return {group.name: torch.rand(group.size, generator=random) for group in graph.groups}
