"""Batch-norm scales: the rule of the release, and which channels they judge."""

import json

import numpy as np
import pytest
import torch
import torchvision
from torch import Tensor, nn

from pruning_lit.channels import ChannelGraph, insert_selections, trace
from pruning_lit.criteria import BatchNormScale, Scoring, global_threshold
from pruning_lit.models import cifar_densenet, cifar_resnet, preresnet, vgg_bn
from tests.places import VECTORS

CASES = np.load(VECTORS / "network_slimming" / "threshold_cases.npz")
FULL = np.load(VECTORS / "network_slimming" / "counts_full.npz")
NAMES = [case["name"] for case in json.loads(str(CASES["meta"]))["cases"] if case["error"] is None]
IMAGE = torch.zeros(1, 3, 32, 32)


def case_called(name: str) -> tuple[dict, list[Tensor]]:
    case = next(case for case in json.loads(str(CASES["meta"]))["cases"] if case["name"] == name)
    return case, [torch.from_numpy(CASES[f"{name}/gamma{layer}"]) for layer in range(case["layers"])]


@pytest.mark.parametrize("name", NAMES)
def test_threshold_and_masks_are_those_of_the_release(name):
    case, scales = case_called(name)
    threshold, masks = global_threshold(scales, case["percent"])
    assert threshold.dtype == torch.float32
    assert float(threshold) == case["threshold"]
    assert [int(mask.sum()) for mask in masks] == case["kept"]
    for layer, mask in enumerate(masks):
        assert torch.equal(mask, torch.from_numpy(CASES[f"{name}/mask{layer}"]))


@pytest.mark.parametrize("case", json.loads(str(FULL["meta"]))["cases"], ids=lambda case: case["name"])
def test_full_size_networks_keep_as_many_channels_as_the_release(case):
    sizes = FULL[f"{case['name']}/bn_sizes"].tolist()
    scales = torch.from_numpy(FULL[f"{case['name']}/gamma"]).split(sizes)
    threshold, masks = global_threshold(list(scales), case["percent"])
    assert float(threshold) == case["threshold"]
    assert [int(mask.sum()) for mask in masks] == [kept for kept in case["kept_per_bn"] if kept != "M"]


@pytest.mark.parametrize("percent", [-0.1, 1.0, 1.5, float("nan")])
def test_a_percent_outside_its_range_is_refused(percent):
    with pytest.raises(ValueError, match=r"share of channels below the threshold, in \[0, 1\)"):
        global_threshold([torch.rand(4)], percent)


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_scales_that_are_not_finite_are_refused(bad):
    with pytest.raises(ValueError, match="1 of 4 scales are not finite; the training diverged"):
        global_threshold([torch.tensor([0.1, bad]), torch.rand(2)], 0.5)


def test_no_scales_are_refused():
    with pytest.raises(ValueError, match="no scales to choose from"):
        global_threshold([], 0.5)


def scores_of(net: nn.Module, criterion: BatchNormScale, image: Tensor = IMAGE) -> tuple[ChannelGraph, dict]:
    graph = criterion.protect(net, trace(net, image))
    return graph, criterion.scores(Scoring(net, graph, list(graph.prunable)))


def with_random_scales(net: nn.Module) -> nn.Module:
    random = torch.Generator().manual_seed(0)
    for module in net.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            module.weight.data = torch.randn(len(module.weight), generator=random)
    return net


@pytest.mark.at_once(1)
@pytest.mark.parametrize(
    ("net", "total"),
    [
        (lambda: vgg_bn(16, classifier="linear", bias=False), 4_224),
        (lambda: vgg_bn(19, classifier="linear", bias=False), 5_504),
        (lambda: preresnet(164), 12_112),
        (lambda: cifar_densenet(40), 9_360),
    ],
    ids=["vgg16", "vgg19", "resnet164", "densenet40"],
)
def test_the_population_of_the_published_networks_is_every_scale(net, total):
    net = with_random_scales(net())
    _graph, scores = scores_of(net, BatchNormScale())
    assert sum(map(len, scores.values())) == total
    norms = [module for module in net.modules() if isinstance(module, nn.BatchNorm2d)]
    together = torch.cat([norm.weight.detach().abs().double() for norm in norms]).sort().values
    assert torch.equal(torch.cat(list(scores.values())).sort().values, together)


def test_streams_stay_whole_unless_their_scales_are_added():
    net = with_random_scales(cifar_resnet(14))
    graph, scores = scores_of(net, BatchNormScale())
    assert graph["layer1.0.conv2"].protected.startswith("several batch norms make its channels")
    assert "layer2.0.conv2" not in scores  # joined to the stage before by a padded shortcut
    assert "layer1.0.conv1" in scores
    _, scores = scores_of(net, BatchNormScale(tied="group"))
    expected = net.layer1[0].bn2.weight.abs() + net.layer1[1].bn2.weight.abs()
    torch.testing.assert_close(scores["layer1.0.conv2"], expected.detach().double())
    _, scores = scores_of(net, BatchNormScale(tied="mean"))
    torch.testing.assert_close(scores["layer1.0.conv2"], expected.detach().double() / 2)
    torch.testing.assert_close(scores["layer1.0.conv1"], net.layer1[0].bn1.weight.detach().double().abs())


def test_a_stream_that_a_single_layer_and_a_padded_shortcut_make_stays_whole():
    graph, _ = scores_of(with_random_scales(cifar_resnet(8)), BatchNormScale())
    assert graph["layer2.0.conv2"].protected is not None


def test_a_depthwise_layer_adds_its_scale_to_that_of_the_layer_before():
    net = with_random_scales(torchvision.models.mobilenet_v2().eval())
    graph, scores = scores_of(net, BatchNormScale())
    block = net.features[3].conv
    expected = block[0][1].weight.abs() + block[1][1].weight.abs()
    torch.testing.assert_close(scores["features.3.conv.0.0"], expected.detach().double())
    assert graph["features.2.conv.2"].protected is not None  # its output is added to the next block's


@pytest.mark.slow
def test_squeeze_and_excitation_does_not_make_a_stream():
    net = with_random_scales(torchvision.models.efficientnet_b0().eval())
    _graph, scores = scores_of(net, BatchNormScale())
    assert any(".block.0.0" in name for name in scores)


@pytest.mark.slow
def test_groups_without_a_scale_stay_whole():
    net = with_random_scales(torchvision.models.vgg11_bn(num_classes=10).eval())
    graph, scores = scores_of(net, BatchNormScale(), torch.zeros(1, 3, 64, 64))
    assert graph["classifier.0"].protected == "no batch norm scales its channels"
    assert len(scores) == 8


@pytest.mark.slow
def test_every_norm_of_a_foreign_densenet_is_judged_behind_a_selection():
    net = with_random_scales(torchvision.models.densenet121(num_classes=10).eval())
    image = torch.zeros(1, 3, 64, 64)
    insert_selections(net, image)
    graph, scores = scores_of(net, BatchNormScale(), image)
    judged = {piece.tensor for name in scores for piece in graph[name].slices}
    norms = {f"{name}.weight" for name, module in net.named_modules() if isinstance(module, nn.BatchNorm2d)}
    assert norms - judged == {"features.norm0.weight"}  # it makes a stream, and is behind the only layer that does


def test_a_network_without_batch_norm_is_refused():
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Conv2d(4, 2, 3))
    with pytest.raises(ValueError, match="no batch norm with a scale to judge its channels by; choose another"):
        scores_of(net, BatchNormScale())


def test_equal_scales_are_refused():
    with pytest.raises(ValueError, match=r"all \d+ batch-norm scales are 0.5, as in a network that was never trained"):
        scores_of(preresnet(11), BatchNormScale())


def test_an_unknown_treatment_of_ties_is_refused():
    with pytest.raises(ValueError, match=r"criterion.tied must be 'leave', 'group' or 'mean', got 'most'"):
        BatchNormScale(tied="most")
