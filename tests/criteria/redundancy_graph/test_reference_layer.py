"""Which layer decides, in the networks of the publication and in others, and what may be asked for instead."""

import pytest
import torch
from torch import nn

from pruning_lit.channels import ChannelGraph, trace
from pruning_lit.criteria.redundancy_graph.reference_layer import candidates, reference_uses
from pruning_lit.models import cifar_densenet, cifar_resnet, torchvision_model, vgg_bn


def traced(net: nn.Module, size: int = 32) -> ChannelGraph:
    return trace(net.eval(), torch.zeros(1, 3, size, size))


def found(graph: ChannelGraph) -> dict[str, str | None]:
    """The layer that decides on each group; None where there is none."""
    uses = {group.name: reference_uses(graph, group, {}) for group in graph.prunable}
    assert all(len({producer.layer for producer in producers}) <= 1 for producers in uses.values())
    return {name: producers[0].layer if producers else None for name, producers in uses.items()}


@pytest.fixture(scope="module")
def resnet20() -> ChannelGraph:
    return traced(cifar_resnet(20, stem="tied"))


@pytest.fixture(scope="module")
def mobilenet() -> tuple[nn.Module, ChannelGraph]:
    net = torchvision_model("mobilenet_v2")
    return net, traced(net, 64)


@pytest.mark.slow
def test_projections_decide_on_the_streams_of_resnet50():
    depths = {1: 3, 2: 4, 3: 6, 4: 3}
    blocks = [f"layer{stage}.{block}" for stage, depth in depths.items() for block in range(depth)]
    inner = {f"{block}.conv{number}" for block in blocks for number in (1, 2)}
    layers = found(traced(torchvision_model("resnet50"), 64))
    assert len(layers) == 37
    assert {*layers.values()} == {"conv1"} | inner | {f"layer{stage}.0.downsample.0" for stage in depths}


def test_all_convolutions_of_vgg16_decide_and_its_hidden_layer_does_not():
    layers = found(traced(vgg_bn(16)))
    assert layers.pop("classifier.linear1") is None
    assert [*layers.values()] == [f"features.conv{number}" for number in range(1, 14)]


def test_all_convolutions_of_densenet40_decide_on_their_own_slices():
    net = cifar_densenet(40, growth=12, stem=16, selections=False)
    layers = found(traced(net))
    convolutions = [name for name, module in net.named_modules() if isinstance(module, nn.Conv2d)]
    assert len(convolutions) == 39
    assert layers == {name: name for name in convolutions}


def test_without_projections_the_layer_that_opens_the_stream_decides(resnet20):
    blocks = [f"layer{stage}.{block}" for stage in (1, 2, 3) for block in range(3)]
    streams = {"conv1": "conv1", "layer2.0.conv2": "layer2.0.conv2", "layer3.0.conv2": "layer3.0.conv2"}
    assert found(resnet20) == streams | {f"{block}.conv1": f"{block}.conv1" for block in blocks}
    assert [producer.layer for producer in candidates(resnet20, resnet20["conv1"])] == [
        "conv1", "layer1.0.conv2", "layer1.1.conv2", "layer1.2.conv2",
    ]  # fmt: skip


@pytest.mark.slow
def test_depthwise_convolutions_never_decide(mobilenet):
    net, graph = mobilenet
    depthwise = {name for name, module in net.named_modules() if getattr(module, "groups", 1) > 1}
    assert len(depthwise) == 17
    assert depthwise.isdisjoint(found(graph).values())
    for group in graph.prunable:
        assert depthwise.isdisjoint(producer.layer for producer in candidates(graph, group))


@pytest.mark.slow
def test_the_projection_that_opens_a_stream_of_mobilenet_decides(mobilenet):
    _, graph = mobilenet
    layers = found(graph)
    for first, last in [(2, 3), (4, 6), (7, 10), (11, 13), (14, 16)]:
        stream = [f"features.{block}.conv.2" for block in range(first, last + 1)]
        assert layers[stream[0]] == stream[0]
        assert [producer.layer for producer in candidates(graph, graph[stream[0]])] == stream
    assert len(layers) == 25
    assert {"features.0.0", "features.1.conv.1", "features.17.conv.2", "features.18.0"} <= {*layers.values()}


def test_a_named_layer_decides_whatever_the_rule_says(resnet20):
    names = {"conv1": "layer1.1.conv2"}
    chosen = reference_uses(resnet20, resnet20["conv1"], names)
    assert [(producer.layer, producer.places) for producer in chosen] == [("layer1.1.conv2", 32 * 32)]
    other = resnet20["layer2.0.conv2"]
    assert reference_uses(resnet20, other, names) == reference_uses(resnet20, other, {})


@pytest.mark.parametrize("layer", ["layer1.0.conv1", "conv", "bn1"])
def test_a_named_layer_that_cannot_decide_is_refused_with_those_that_can(resnet20, layer):
    able = r"'conv1', 'layer1\.0\.conv2', 'layer1\.1\.conv2', 'layer1\.2\.conv2'$"
    with pytest.raises(ValueError, match=rf"layer '{layer}' does not decide on group 'conv1'; .* made by {able}"):
        reference_uses(resnet20, resnet20["conv1"], {"conv1": layer})


def test_a_named_depthwise_convolution_is_refused(mobilenet):
    _, graph = mobilenet
    with pytest.raises(ValueError, match=r"'features.1.conv.0.0' does not decide .* made by 'features.0.0'$"):
        reference_uses(graph, graph["features.0.0"], {"features.0.0": "features.1.conv.0.0"})


def test_no_layer_can_be_named_where_no_convolution_makes_the_channels():
    graph = traced(vgg_bn(11))
    hidden = graph["classifier.linear1"]
    with pytest.raises(ValueError, match=r"made by none$"):
        reference_uses(graph, hidden, {hidden.name: hidden.name})


class Again(nn.Module):
    """A convolution that reads the stream it writes to, behind a depthwise one in the same stream."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.dense, self.head = nn.Conv2d(3, 6, 3), nn.Conv2d(6, 6, 3, padding=1), nn.Linear(6, 2)
        self.depthwise = nn.Conv2d(6, 6, 3, padding=1, groups=6)

    def forward(self, x):
        x = self.stem(x)
        x = x + self.dense(x)
        return self.head((x + self.depthwise(x)).mean((2, 3)))


def test_a_convolution_that_reads_its_own_stream_can_decide_and_a_depthwise_one_cannot():
    net = Again()
    graph = traced(net, 8)
    assert [producer.layer for producer in candidates(graph, graph["stem"])] == ["stem", "dense"]
    assert [producer.layer for producer in reference_uses(graph, graph["stem"], {"stem": "dense"})] == ["dense"]
