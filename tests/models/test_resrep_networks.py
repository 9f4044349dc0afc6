"""ResRep's VGG and MobileNet-V1: how they are put together, and what of them can be narrowed."""

import copy

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from pruning_lit.channels import cost, mask, narrow, trace, verify
from pruning_lit.models import mobilenet_v1, start_afresh, vgg_bn
from tests.channels.chance import random_kept, randomise

SMALL = {  # classes, side of the images
    "vgg": (lambda: vgg_bn(11, classifier="mlp_plain", bias=False, pool="max"), 32),
    "mobilenet": (lambda: mobilenet_v1(10), 64),
}


def resrep_vgg() -> nn.Module:
    return vgg_bn(16, classifier="mlp_plain", bias=False, pool="max")


def test_the_vgg_of_resrep_has_thirteen_convolutions_five_max_pools_and_two_linear_layers():
    layers = [type(module).__name__ for module in resrep_vgg().modules()]
    counts = {name: layers.count(name) for name in ("Conv2d", "BatchNorm2d", "MaxPool2d", "AvgPool2d", "Linear")}
    assert counts == {"Conv2d": 13, "BatchNorm2d": 13, "MaxPool2d": 5, "AvgPool2d": 0, "Linear": 2}
    assert layers.count("BatchNorm1d") == 0
    assert all(module.bias is None for module in resrep_vgg().modules() if isinstance(module, nn.Conv2d))


def test_a_plain_classifier_is_two_linear_layers_with_a_relu_between():
    classifier = resrep_vgg().classifier
    features = torch.randn(3, 512)
    hidden = F.linear(features, classifier.linear1.weight, classifier.linear1.bias).relu()
    expected = F.linear(hidden, classifier.linear2.weight, classifier.linear2.bias)
    torch.testing.assert_close(classifier(features), expected)


@pytest.mark.parametrize("pool", ["average", "max"])
def test_the_last_pool_takes_the_average_or_the_largest_of_four_pixels(pool):
    features = torch.randn(2, 5, 2, 2)
    expected = features.mean((2, 3)) if pool == "average" else features.amax((2, 3))
    torch.testing.assert_close(vgg_bn(11, pool=pool).pool(features).flatten(1), expected)


def test_in_the_vgg_all_convolutions_can_be_narrowed():
    graph = trace(resrep_vgg(), torch.zeros(1, 3, 32, 32))
    assert [group.size for group in graph.prunable][:13] == [64] * 2 + [128] * 2 + [256] * 3 + [512] * 6
    assert [group.name for group in graph.prunable][:13] == [f"features.conv{number}" for number in range(1, 14)]


def test_in_mobilenet_the_stem_and_the_pointwise_convolutions_make_the_channels():
    graph = trace(mobilenet_v1(), torch.zeros(1, 3, 64, 64))
    pointwise = [f"blocks.{number}.pointwise" for number in range(13)]
    assert [group.name for group in graph.prunable] == ["conv1", *pointwise]
    widths = [32, 64, 128, 128, 256, 256, 512, 512, 512, 512, 512, 512, 1024, 1024]
    assert [group.size for group in graph.prunable] == widths  # Howard et al. 2017, table 1


def test_mobilenet_halves_the_resolution_five_times():
    net, sizes = mobilenet_v1(10).eval(), []
    for block in net.blocks:
        block.register_forward_hook(lambda _module, _inputs, output: sizes.append(output.shape[-1]))
    assert net(torch.zeros(1, 3, 224, 224)).shape == (1, 10)
    assert sizes == [112, 56, 56, 28, 28] + [14] * 6 + [7, 7]  # Howard et al. 2017, table 1


@pytest.mark.at_once(1)
@pytest.mark.parametrize("name", SMALL)
def test_the_narrowed_network_is_the_masked_one(name):
    make, size = SMALL[name]
    torch.manual_seed(0)
    net = randomise(make()).double()
    images = torch.randn(2, 3, size, size, dtype=torch.float64)
    graph = trace(net, images[:1])
    kept = random_kept(graph, seed=0)
    narrowed, masked = copy.deepcopy(net), copy.deepcopy(net)
    narrow(narrowed, graph, kept)
    mask(masked, graph, kept)
    assert verify(narrowed, masked, images) < 1e-10
    assert cost(graph, kept) == cost(trace(narrowed, images[:1]))


@pytest.mark.at_once(1)
@pytest.mark.parametrize("name", SMALL)
def test_a_narrowed_network_starts_afresh_at_its_widths_and_every_parameter_learns(name):
    make, size = SMALL[name]
    torch.manual_seed(0)
    net = make()
    graph = trace(net, torch.zeros(1, 3, size, size))
    narrow(net, graph, {group.name: range(group.size // 2) for group in graph.prunable})
    start_afresh(net, make())
    net.train()(torch.randn(4, 3, size, size)).square().sum().backward()
    assert [name for name, parameter in net.named_parameters() if not parameter.grad.abs().sum() > 0] == []


def test_unknown_classifiers_and_pools_are_refused():
    with pytest.raises(ValueError, match="classifier is 'linear', 'mlp' or 'mlp_plain', got 'big'"):
        vgg_bn(16, classifier="big")
    with pytest.raises(ValueError, match="pool is 'average' or 'max', got 'min'"):
        vgg_bn(16, pool="min")
