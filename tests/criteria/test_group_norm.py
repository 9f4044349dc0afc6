"""Group norms: golden numbers, and those of Torch-Pruning."""

import pytest
import torch
from torch import nn

from pruning_lit.criteria import GroupNorm
from tests.criteria.given import bare, given, golden, golden_scoring, resnet, scoring


def test_scores_are_the_golden_ones_in_the_unit_of_their_mean():
    case, _ = golden_scoring()
    shifts = {"0": case.net[1].bias, "3": case.net[4].bias}  # which count there, and not in the release
    squared = {name: each - shifts[name].detach().square() for name, each in golden("group_norm_out_bn_in").items()}
    expected = {name: each / each.mean() for name, each in squared.items()}
    torch.testing.assert_close(GroupNorm().scores(case), expected, rtol=0, atol=1e-10)


@pytest.mark.parametrize("make", [resnet, bare])
def test_scores_are_those_of_torch_pruning(make):
    tp = pytest.importorskip("torch_pruning")
    net, size = make(), 32 if make is resnet else 8
    found = GroupNorm().scores(scoring(net, given(1, size)))
    dependencies = tp.DependencyGraph().build_dependency(net.float(), torch.zeros(1, 3, size, size))
    layers = {name: each for name, each in net.named_modules() if isinstance(each, nn.Conv2d | nn.Linear)}
    for name, scores in found.items():
        layer = layers[name]
        cut = tp.prune_conv_out_channels if isinstance(layer, nn.Conv2d) else tp.prune_linear_out_channels
        group = dependencies.get_pruning_group(layer, cut, list(range(len(scores))))
        expected = tp.importance.GroupMagnitudeImportance(p=2)(group)
        torch.testing.assert_close(scores.float(), expected, rtol=1e-5, atol=0)


def test_readers_and_scales_count_and_biases_do_not():
    net = resnet()
    before = GroupNorm("sum").scores(scoring(net, given(1)))["layer1.0.conv1"]
    with torch.no_grad():
        net.layer1[0].bn1.bias[0] += 10
    assert torch.equal(GroupNorm("sum").scores(scoring(net, given(1)))["layer1.0.conv1"], before)
    with torch.no_grad():
        net.layer1[0].bn1.weight[0] += 10
        net.layer1[0].conv2.weight[:, 1] += 10
    after = GroupNorm("sum").scores(scoring(net, given(1)))["layer1.0.conv1"]
    assert after.topk(2).indices.tolist() == [1, 0]


def test_every_group_has_a_mean_of_1():
    found = GroupNorm().scores(scoring(resnet(), given(1)))
    torch.testing.assert_close([each.mean() for each in found.values()], [torch.tensor(1.0).double()] * len(found))
