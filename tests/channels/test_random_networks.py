"""On networks nobody thought of: narrowed = masked, and counted = real."""

import copy

import torch
from chance import randomise
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from pruning_lit.channels import cost, mask, narrow, trace, verify

BLOCKS = ("plain", "residual", "concat", "depthwise", "squeeze", "double")


class Block(nn.Module):
    def __init__(self, kind: str, width: int) -> None:
        super().__init__()
        self.kind = kind
        self.conv = nn.Conv2d(width, width if kind != "concat" else 3, 3, padding=1)
        self.norm = nn.BatchNorm2d(self.conv.out_channels)
        self.depthwise = nn.Conv2d(width, 2 * width, 3, padding=1, groups=width) if kind == "depthwise" else None
        self.gate = nn.Conv2d(width, width, 1) if kind == "squeeze" else None
        self.width = {"concat": width + 3, "depthwise": 2 * width, "double": 2 * width}.get(kind, width)

    def forward(self, x):
        y = self.norm(self.conv(x))
        if self.kind == "residual":
            return (x + y).relu()
        if self.kind == "concat":
            return torch.cat([x, y.relu()], dim=1)
        if self.kind == "depthwise":
            return self.depthwise(y.relu())
        if self.kind == "squeeze":
            return y * self.gate(y.mean((2, 3), keepdim=True)).sigmoid()
        if self.kind == "double":
            return torch.cat([y, -y], dim=1).relu()
        return y.relu()


class Random(nn.Module):
    def __init__(self, kinds: list[str], width: int) -> None:
        super().__init__()
        self.stem, blocks = nn.Conv2d(3, width, 3, padding=1), []
        for kind in kinds:
            blocks.append(Block(kind, width))
            width = blocks[-1].width
        self.blocks, self.head = nn.Sequential(*blocks), nn.Linear(4 * width, 3)

    def forward(self, x):
        return self.head(nn.functional.adaptive_avg_pool2d(self.blocks(self.stem(x)), 2).flatten(1))


@settings(max_examples=40, deadline=None, derandomize=True)
@given(st.lists(st.sampled_from(BLOCKS), min_size=1, max_size=4), st.integers(2, 5), st.data())
def test_any_choice_of_channels_is_cut_exactly(kinds, width, data):
    torch.manual_seed(0)
    net = randomise(Random(kinds, width)).double()
    graph = trace(net, torch.zeros(1, 3, 6, 6, dtype=torch.float64))
    kept = {
        group.name: sorted(data.draw(st.sets(st.integers(0, group.size - 1), min_size=1), label=group.name))
        for group in graph.prunable
    }
    narrowed, masked = copy.deepcopy(net), copy.deepcopy(net)
    narrow(narrowed, graph, kept)
    mask(masked, graph, kept)
    assert verify(narrowed, masked, torch.randn(2, 3, 6, 6, dtype=torch.float64)) < 1e-10
    assert cost(graph, kept) == cost(trace(narrowed, torch.zeros(1, 3, 6, 6, dtype=torch.float64)))
    assert cost(graph, kept).params == sum(parameter.numel() for parameter in narrowed.parameters())
