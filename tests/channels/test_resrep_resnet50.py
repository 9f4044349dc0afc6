"""The ResNet-50 that ResRep's authors ended with, built by narrowing, has the counts of their log."""

import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from pruning_lit.channels import Cost, cost, narrow, trace
from pruning_lit.models import torchvision_model

# Widths of the first and second convolution of every bottleneck, stage by stage; the stem (64), the third
# convolutions and the projections (256, 512, 1024, 2048) are whole.
# Source: training log of ResNet-50 in the release of Ding et al. 2021, "ResRep: Lossless CNN Pruning via Decoupling
# Remembering and Forgetting".
LOGGED = {
    "layer1": [(22, 22), (23, 36), (1, 1)],
    "layer2": [(62, 97), (16, 49), (38, 68), (41, 92)],
    "layer3": [(189, 204), (69, 145), (65, 139), (64, 94), (67, 89), (86, 95)],
    "layer4": [(473, 488), (171, 281), (511, 512)],
}
MASKED = LOGGED | {"layer4": [(473, 488), (171, 282), (511, 512)]}  # by the final masks: one channel more


@pytest.mark.slow
@pytest.mark.parametrize(
    ("widths", "expected"),
    [
        (LOGGED, Cost(macs=1_858_866_887, params=16_557_403)),
        (MASKED, Cost(macs=1_859_042_650, params=16_557_403 + (9 * 171 + 2 + 2048))),
    ],
    ids=["by norm", "by mask"],
)
def test_resreps_pruned_resnet50_has_the_counts_of_its_log(widths, expected):
    with torch.device("meta"):
        net, image = torchvision_model("resnet50"), torch.zeros(1, 3, 224, 224)
    graph = trace(net, image)
    kept = {
        f"{stage}.{block}.conv{number}": range(width)
        for stage, blocks in widths.items()
        for block, pair in enumerate(blocks)
        for number, width in enumerate(pair, start=1)
    }
    foretold = cost(graph, kept)
    narrow(net, graph, kept)
    counter = FlopCounterMode(display=False)
    with counter:
        net.eval()(image)
    counted = Cost(counter.get_total_flops() // 2, sum(parameter.numel() for parameter in net.parameters()))
    assert foretold == counted == cost(trace(net, image)) == expected
    narrowed = {name: module.out_channels for name, module in net.named_modules() if isinstance(module, nn.Conv2d)}
    assert {name: narrowed[name] for name in kept} == {name: len(stays) for name, stays in kept.items()}
