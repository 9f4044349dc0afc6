"""The share of channels that meets a target of MACs, against trying all of them."""

import pytest
import torch
from torch import nn

from pruning_lit.channels import cost_of_widths, trace
from pruning_lit.methods.chex.budgets import share_for_macs
from pruning_lit.sparsity import Macs
from pruning_lit.sparsity.threshold import widths_above

EXAMPLE = torch.zeros(1, 3, 8, 8)


def chain(*widths: int) -> nn.Module:
    layers, inputs = [], 3
    for width in widths:
        layers += [nn.Conv2d(inputs, width, 3, padding=1), nn.ReLU()]
        inputs = width
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(inputs * 64, 2))


@pytest.mark.at_once(10)
@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("reduction", [0.1, 0.35, 0.5, 0.8])
def test_it_is_the_smallest_one_of_all(seed, reduction):
    random = torch.Generator().manual_seed(seed)
    sizes = torch.randint(3, 20, (3,), generator=random).tolist()
    graph = trace(chain(*sizes), EXAMPLE)
    scales = {group.name: torch.rand(group.size, generator=random) for group in graph.prunable}
    total, budget = sum(sizes), Macs(reduction)

    def widths(share: float) -> dict[str, int]:
        return {name: max(1, width) for name, width in widths_above(scales, share, together=True).items()}

    target = (1 - reduction) * cost_of_widths(graph, {}).macs
    every = [(number + 0.5) / total for number in range(total)]
    cheap = [share for share in every if cost_of_widths(graph, widths(share)).macs <= target]
    assert share_for_macs(budget, graph, widths, total) == pytest.approx(cheap[0])
