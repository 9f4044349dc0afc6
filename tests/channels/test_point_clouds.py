"""Point-cloud networks, which look at their points: followed in their own precision, and pruned exactly."""

import copy

import pytest
import torch
from torch import nn

from pruning_lit.channels import mask, narrow, trace, verify
from tests.channels.chance import random_kept, randomise
from tests.channels.point_clouds import example, networks


@pytest.mark.at_once(1)
@pytest.mark.parametrize("name", networks())
def test_all_but_the_outputs_of_a_pointnet_can_be_pruned_exactly(name):
    torch.manual_seed(0)
    net, num_groups, num_prunable = networks()[name]
    randomise(net)
    inputs = example(net)
    graph = trace(net, inputs)
    assert (len(graph.groups), len(graph.prunable)) == (num_groups, num_prunable)
    reasons = {group.protected for group in graph.groups if group.protected}
    assert reasons == {"it leaves the model", "log_softmax mixes channels"}
    kept = random_kept(graph, 0)
    narrowed, masked = copy.deepcopy(net), copy.deepcopy(net)
    narrow(narrowed, graph, kept)
    mask(masked, graph, kept)
    assert verify(narrowed, masked, inputs) < 1e-5


class NoSilence(nn.Module):
    """It complains of maps that are as good as empty."""

    def __init__(self):
        super().__init__()
        self.conv, self.classify, self.least = nn.Conv2d(3, 4, 1), nn.Conv2d(4, 2, 1), 0.0

    def forward(self, images):
        x = self.conv(images)
        if x.square().sum() < self.least:
            raise RuntimeError("a map is silent")
        return self.classify(x)


def test_where_the_whole_network_fails_with_zeros_the_reason_says_so():
    net, images = NoSilence(), torch.randn(1, 3, 4, 4)
    net.least = 0.999 * float(net.conv(images).square().sum())
    reasons = {group.name: group.protected for group in trace(net, images).groups}
    assert "with some of its channels zero the model fails: a map is silent" in reasons["conv"]
