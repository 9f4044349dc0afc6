"""A narrowed network computes what the masked one does, and what the original does with the removed maps times zero."""

import copy
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves
from torchvision.models import get_model

from pruning_lit.channels import ChannelGraph, Kept, cost, mask, narrow, trace, verify
from pruning_lit.models import cifar_resnet, vgg_bn
from tests.channels.chance import random_kept, randomise

NETWORKS: dict[str, Callable[[], nn.Module]] = {
    **{
        f"resnet{depth}-{stem}": lambda depth=depth, stem=stem: cifar_resnet(depth, stem=stem)
        for depth in (20, 56)
        for stem in ("select", "tied")
    },
    "vgg16_bn-mlp": lambda: vgg_bn(16),
    "vgg16_bn-linear": lambda: vgg_bn(16, classifier="linear", bias=False),
}
SLOW = {"resnet56-select", "resnet56-tied", "vgg16_bn-mlp", "vgg16_bn-linear"}
TORCHVISION = ["resnet18", "resnet50", "mobilenet_v2", "mobilenet_v3_small", "densenet121", "resnext50_32x4d"]
TORCHVISION += ["shufflenet_v2_x1_0", "squeezenet1_1", "regnet_y_400mf", "efficientnet_b0", "googlenet", "inception_v3"]
TORCHVISION += ["convnext_tiny", "swin_t"]
DETECTORS = ["ssdlite320_mobilenet_v3_large", "fasterrcnn_mobilenet_v3_large_320_fpn"]


def difference(net: nn.Module, graph: ChannelGraph, kept: Kept, inputs: Tensor) -> float:
    """Between a narrowed copy and a masked copy, relative."""
    narrowed, masked = copy.deepcopy(net), copy.deepcopy(net)
    narrow(narrowed, graph, kept)
    mask(masked, graph, kept)
    return verify(narrowed, masked, inputs)


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[pytest.mark.slow] if name in SLOW else []) for name in NETWORKS]
)
def test_every_configured_network_narrowed_is_the_masked_one(name):
    torch.manual_seed(0)
    net = randomise(NETWORKS[name]())
    images = torch.randn(2, 3, 32, 32)
    graph = trace(net, images[:1])
    for seed in range(3):
        assert difference(net, graph, random_kept(graph, seed), images) < 1e-5
    for seed in range(3, 5):
        assert difference(net.double(), graph, random_kept(graph, seed), images.double()) < 1e-10


@pytest.mark.slow
@pytest.mark.parametrize("name", TORCHVISION)
def test_torchvisions_networks_narrowed_are_the_masked_ones(name):
    torch.manual_seed(0)
    options = {"init_weights": False} if name in ("googlenet", "inception_v3") else {}
    net = randomise(get_model(name, weights=None, num_classes=10, **options))
    images = torch.randn(2, 3, 96, 96)
    graph = trace(net, images[:1])
    kept = random_kept(graph, seed=0)
    assert difference(net, graph, kept, images) < 1e-5
    assert difference(net.double(), graph, kept, images.double()) < 1e-10


@pytest.mark.slow
@pytest.mark.parametrize("name", DETECTORS)
def test_detectors_are_cut_through_their_heads(name):
    torch.manual_seed(0)
    threshold = {"box_score_thresh": 0.0} if "rcnn" in name else {"score_thresh": 0.0}
    net = randomise(get_model(name, weights=None, weights_backbone=None, num_classes=5, **threshold)).double()
    images = [torch.rand(3, 160, 160, dtype=torch.float64)]
    graph = trace(net, (images,))
    kept = random_kept(graph, seed=0)
    assert sum(len(positions) < graph[name].size for name, positions in kept.items()) > 20
    heads = net.rpn.head if "rcnn" in name else net.head
    heard = []
    heads.register_forward_hook(lambda _module, _given, result: heard.append(result))
    narrowed, masked = copy.deepcopy(net), copy.deepcopy(net)
    narrow(narrowed, graph, kept)
    mask(masked, graph, kept)
    with torch.no_grad():
        found, expected = narrowed(images)[0], masked(images)[0]
    assert found.keys() == expected.keys()
    one, other = (tree_leaves(each) for each in heard[-2:])  # predictions, before equals are sorted in any order
    for predicted, wanted in zip(one, other, strict=True):
        torch.testing.assert_close(predicted, wanted, rtol=1e-10, atol=1e-10)
    assert sum(parameter.numel() for parameter in narrowed.parameters()) == cost(graph, kept).params


@pytest.mark.slow
@pytest.mark.at_once(1)
@pytest.mark.parametrize("stem", ["select", "tied"])
def test_narrowing_is_multiplying_the_removed_post_activation_maps_by_zero(stem):
    """The definition in section 6 of CHIP's description: for a stream, at every point of the stream."""
    torch.manual_seed(0)
    net = randomise(cifar_resnet(14, stem=stem)).double()
    images = torch.randn(3, 3, 32, 32, dtype=torch.float64)
    graph = trace(net, images[:1])
    for seed in range(4):
        kept = random_kept(graph, seed)
        narrowed, masked = copy.deepcopy(net), copy.deepcopy(net)
        narrow(narrowed, graph, kept)
        mask(masked, graph, kept)
        expected = _with_zeroed_maps(net, graph, kept, images)
        torch.testing.assert_close(narrowed(images), expected, rtol=1e-10, atol=1e-10)
        torch.testing.assert_close(masked(images), expected, rtol=1e-10, atol=1e-10)


def _with_zeroed_maps(net: nn.Module, graph: ChannelGraph, kept: Kept, images: Tensor) -> Tensor:
    """Run CHIP's definition by hand: the removed channels times zero behind the ReLU, by module hooks."""
    stays = {name: torch.zeros(graph[name].size, 1, 1, dtype=images.dtype) for name in kept}
    for name, positions in kept.items():
        stays[name][list(positions)] = 1
    streams = {f"layer{n}": f"layer{n}.0.conv2" for n in (1, 2, 3)}
    if "layer1.0.conv2" in graph["conv1"].writers:
        streams["layer1"] = "conv1"  # the tied form: the stage's stream begins at the stem
    hooks = [net.bn1.register_forward_hook(lambda _m, _i, out, s=stays["conv1"]: out.relu() * s)]
    for path, block in net.named_modules():
        if path.count(".") != 1:
            continue
        inner = stays[f"{path}.conv1"]
        hooks.append(block.bn1.register_forward_hook(lambda _m, _i, out, s=inner: out.relu() * s))
        stream = stays[streams[path.partition(".")[0]]]
        hooks.append(block.register_forward_hook(lambda _m, _i, out, s=stream: out * s))
    with torch.no_grad():
        result = net(images)
    for hook in hooks:
        hook.remove()
    return result


def test_an_unnamed_group_stays_whole_and_nothing_else_is_touched():
    net = randomise(cifar_resnet(8))
    graph = trace(net, torch.zeros(1, 3, 32, 32))
    before = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    narrow(net, graph, {"layer1.0.conv1": [1, 5]})
    after = net.state_dict()
    changed = {name for name in before if before[name].shape != after[name].shape}
    bn = {f"layer1.0.bn1.{name}" for name in ("weight", "bias", "running_mean", "running_var")}
    assert changed == {"layer1.0.conv1.weight", "layer1.0.conv2.weight"} | bn
    assert all(torch.equal(before[name], after[name]) for name in before if name not in changed)
    assert torch.equal(after["layer1.0.conv2.weight"], before["layer1.0.conv2.weight"][:, [1, 5]])
    block = net.layer1[0]
    assert block.conv1.out_channels == block.bn1.num_features == block.conv2.in_channels == 2


def test_narrowing_twice_is_narrowing_once_by_both():
    net = randomise(cifar_resnet(8)).double()
    once, image = copy.deepcopy(net), torch.randn(1, 3, 32, 32, dtype=torch.float64)
    first = random_kept(trace(net, image), seed=1)
    narrow(net, trace(net, image), first)
    second = random_kept(trace(net, image), seed=2)
    narrow(net, trace(net, image), second)
    narrow(once, trace(once, image), {name: [first[name][i] for i in second[name]] for name in first})
    assert verify(net, once, image) == 0
    assert all(torch.equal(tensor, once.state_dict()[name]) for name, tensor in net.state_dict().items())


def test_companions_of_parameters_follow_their_moves():
    net = cifar_resnet(8)
    graph = trace(net, torch.zeros(1, 3, 32, 32))
    old = {name: parameter.detach().clone() for name, parameter in net.named_parameters()}
    objects = dict(net.named_parameters())
    moves = narrow(net, graph, random_kept(graph, seed=0))
    for name, parameter in net.named_parameters():
        if name not in moves:
            assert parameter is objects[name]
            continue
        assert moves[name].old is objects[name]
        assert moves[name].new is parameter
        assert torch.equal(moves[name].gather(old[name]), parameter)
        assert parameter.requires_grad
        assert parameter.grad is None


@pytest.mark.at_once(3)
@pytest.mark.parametrize(
    ("kept", "said"),
    [
        ({"layer1.0.conv1": []}, "no channel is kept"),
        ({"layer1.0.conv1": [3, 2]}, "ascending"),
        ({"layer1.0.conv1": [2, 2]}, "ascending"),
        ({"layer1.0.conv1": [0, 16]}, r"16 channels \(0…15\)"),
        ({"layer1.0.conv1": [-1, 0]}, "ascending"),
        ({"layer9": [0]}, "no channel group is called 'layer9'"),
        ({"linear": [0]}, "protected: it leaves the model"),
    ],
)
@pytest.mark.parametrize("cut", [narrow, mask])
def test_an_impossible_choice_is_refused_and_the_model_untouched(cut, kept, said):
    net = cifar_resnet(8)
    graph = trace(net, torch.zeros(1, 3, 32, 32))
    before = copy.deepcopy(net.state_dict())
    with pytest.raises(ValueError, match=said):
        cut(net, graph, {"layer2.0.conv1": [0], **kept})
    assert all(torch.equal(tensor, before[name]) for name, tensor in net.state_dict().items())
