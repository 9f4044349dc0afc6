"""PointNet: counts, what its transform does at the start, and what can be pruned."""

import copy

import pytest
import torch

from pruning_lit.channels import cost, mask, narrow, trace, verify
from pruning_lit.models import pointnet
from tests.channels.chance import random_kept, randomise
from tests.models.test_pointnet2 import clouds


@pytest.mark.parametrize("normals", [False, True])
def test_all_but_transform_and_logits_can_be_pruned_exactly(normals):
    torch.manual_seed(0)
    net = randomise(pointnet(5, normals=normals, width=0.1))
    cloud = clouds(2, 40, normals)
    graph = trace(net, cloud)
    assert {group.name for group in graph.groups if group.protected} == {"transform.3.fc3", "head.fc3"}
    assert cost(graph).params == sum(each.numel() for each in net.parameters())
    kept = random_kept(graph, 0)
    narrowed, masked = copy.deepcopy(net), copy.deepcopy(net)
    narrow(narrowed, graph, kept)
    mask(masked, graph, kept)
    assert verify(narrowed, masked, cloud) < 1e-5


@torch.no_grad()
def test_logits_do_not_depend_on_the_order_of_points():
    torch.manual_seed(0)
    net, cloud = randomise(pointnet(5, width=0.1)).double(), clouds(2, 40).double()
    torch.testing.assert_close(net(cloud[:, torch.randperm(40)]), net(cloud))


@torch.no_grad()
def test_the_transform_starts_at_the_identity():
    torch.manual_seed(0)
    net, cloud = pointnet(5, width=0.1).eval(), clouds(2, 40)
    torch.testing.assert_close(net(cloud), net.head(net.layers(cloud.mT).amax(2)))


def test_a_network_without_channels_or_of_other_clouds_is_refused():
    with pytest.raises(ValueError, match=r"arch\.width must be above 0, got 0"):
        pointnet(width=0)
    with pytest.raises(ValueError, match=r"arch\.normals=false: .* got \(2, 40, 6\)"):
        pointnet(5)(torch.zeros(2, 40, 6))
