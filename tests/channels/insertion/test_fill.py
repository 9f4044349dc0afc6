"""Filled scatters: the layers in front get their full width back, and the network is the plain architecture again."""

import copy
import json
import logging

import pytest
import torch
from torch import Tensor, nn

from pruning_lit.channels import (
    ChannelGraph,
    ChannelScatter,
    cost,
    insert_scatters,
    load,
    narrow,
    remove_scatters,
    save,
    trace,
    verify,
)
from pruning_lit.channels.artefact import read
from pruning_lit.channels.modules.relabel import SCATTER
from pruning_lit.methods.resrep.conversion import Conversion
from pruning_lit.models import cifar_resnet, torchvision_model
from tests.channels.chance import random_kept, randomise
from tests.places import VECTORS


class Block(nn.Module):
    """A stream of eight channels, to the sum of a branch and a shortcut that makes six of them."""

    def __init__(self, *shortcut: nn.Module, width: int = 6) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, padding=1)
        self.branch = nn.Sequential(nn.Conv2d(8, 4, 1), nn.Conv2d(4, width, 3, padding=1))
        self.shortcut = nn.Sequential(*shortcut)
        self.head = nn.Conv2d(width, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x).relu()
        return self.head(torch.sigmoid(self.branch(x) + self.shortcut(x)))


NETWORKS = {
    "resnet8": lambda: cifar_resnet(8, shortcut="option_b"),
    "resnet18": lambda: torchvision_model("resnet18", 10),
    "scales": lambda: Block(nn.Conv2d(8, 6, 1, bias=False), nn.BatchNorm2d(6)),
    "synchronised": lambda: Block(nn.Conv2d(8, 6, 1), nn.SyncBatchNorm(6)),
    "without scales": lambda: Block(nn.Conv2d(8, 6, 1), nn.BatchNorm2d(6, affine=False)),
    "without norm": lambda: Block(nn.Conv2d(8, 6, 1)),
    "without norm or bias": lambda: Block(nn.Conv2d(8, 6, 1, bias=False)),
    "transposed": lambda: Block(nn.ConvTranspose2d(8, 6, 1)),
}
each_network = pytest.mark.parametrize("name", NETWORKS)
each_resnet = pytest.mark.parametrize("name", ["resnet8", pytest.param("resnet18", marks=pytest.mark.slow)])
SITES = {
    "resnet8": ["layer2.0.shortcut.bn", "layer3.0.shortcut.bn"],
    "resnet18": [f"layer{stage}.0.downsample.1" for stage in (2, 3, 4)],
}


def build(name: str) -> tuple[nn.Module, Tensor]:
    """In float64, with random statistics, and two images."""
    torch.manual_seed(0)
    return randomise(NETWORKS[name]()).double(), torch.randn(2, 3, 32, 32, dtype=torch.float64)


def inserted(name: str) -> tuple[nn.Module, Tensor, ChannelGraph, set[str]]:
    """With scatters, and the groups whose channels go through them."""
    net, images = build(name)
    plain = {group.name for group in trace(net, images[:1]).groups}
    insert_scatters(net, images[:1])
    graph = trace(net, images[:1])
    return net, images, graph, {group.name for group in graph.groups} - plain


def narrowed(name: str, seed: int = 0) -> tuple[nn.Module, Tensor]:
    net, images, graph, _ = inserted(name)
    narrow(net, graph, random_kept(graph, seed))
    return net, images


def scatters(model: nn.Module) -> list[str]:
    return [path for path, module in model.named_modules() if isinstance(module, ChannelScatter)]


def shapes(model: nn.Module) -> dict[str, tuple[int, ...]]:
    return {key: tuple(tensor.shape) for key, tensor in model.state_dict().items()}


@pytest.mark.slow
@pytest.mark.at_once(2)
@each_network
def test_the_filled_network_computes_what_the_narrow_one_did(name):
    net, images, graph, shortcuts = inserted(name)
    everything = random_kept(graph, seed=0)
    alone = {group: everything[group] for group in shortcuts}
    single = {group: [1] for group in shortcuts}
    streams = {group.name: [0, 2] for group in graph.prunable if group.name not in shortcuts}
    for kept in (everything, alone, single, streams, alone | streams):
        narrow_one, filled = copy.deepcopy(net), copy.deepcopy(net)
        narrow(narrow_one, graph, kept)
        narrow(filled, graph, kept)
        layers = SCATTER.found(filled)
        assert remove_scatters(filled, images[:1]) == layers != []
        assert verify(filled, narrow_one, images) < 1e-12


@each_resnet
def test_in_training_too_the_filled_network_computes_what_the_narrow_one_did(name):
    narrow_one, images = narrowed(name)
    filled = copy.deepcopy(narrow_one)
    remove_scatters(filled, images[:1])
    assert not filled.training
    torch.testing.assert_close(filled.train()(images), narrow_one.train()(images), rtol=1e-9, atol=1e-9)


@pytest.mark.slow
@pytest.mark.at_once(2)
@each_network
def test_names_and_shapes_are_those_of_a_plain_network_whose_other_groups_were_narrowed(name):
    plain, images = build(name)
    net, _, graph, shortcuts = inserted(name)
    kept = random_kept(graph, seed=1)
    others = {group: positions for group, positions in kept.items() if group not in shortcuts}
    narrow(net, graph, kept)
    remove_scatters(net, images[:1])
    counted = cost(trace(plain, images[:1]), others)
    narrow(plain, trace(plain, images[:1]), others)
    assert shapes(net) == shapes(plain)
    assert list(net.state_dict()) == list(plain.state_dict())
    assert str(net) == str(plain)  # widths that modules hold about themselves, and their children
    assert cost(trace(net, images[:1])) == cost(trace(plain, images[:1])) == counted
    assert not any(module._forward_hooks for module in net.modules())
    net.load_state_dict(plain.state_dict())


def test_channels_are_at_their_places_in_the_stream_and_absent_ones_are_zero():
    net, images, graph, _ = inserted("scales")
    before = copy.deepcopy(net)
    narrow(net, graph, {"shortcut.0": [1, 4]})
    remove_scatters(net, images[:1])
    conv, norm = net.shortcut
    for filled, whole in ((conv, before.shortcut[0]), (norm, before.shortcut[1])):
        for key, tensor in filled.state_dict().items():
            if tensor.ndim:
                assert torch.equal(tensor[[1, 4]], whole.state_dict()[key][[1, 4]])
                absent = tensor[[0, 2, 3, 5]]
                assert torch.equal(absent, torch.full_like(absent, float(key == "running_var")))
    assert (conv.out_channels, norm.num_features) == (6, 6)


def test_a_channel_that_finds_no_place_in_the_stream_is_gone():
    net, images, graph, _ = inserted("resnet8")
    narrow(net, graph, {"layer2.0.shortcut.conv": [3], "layer2.0.conv2": [0, 1, 7]})
    narrow_one = copy.deepcopy(net)
    remove_scatters(net, images[:1])
    assert net.layer2[0].shortcut.conv.weight.shape == (3, 16, 1, 1)
    assert not net.layer2[0].shortcut.conv.weight.any()
    assert verify(net, narrow_one, images) < 1e-12


@pytest.mark.at_once(1)
@each_network
def test_scatters_to_which_nothing_has_happened_are_taken_out_and_no_tensor_changes(name):
    net, images, _, _ = inserted(name)
    plain, _ = build(name)
    tensors = {key: tensor for key, tensor in net.state_dict(keep_vars=True).items() if "scatter" not in key}
    remove_scatters(net, images[:1])
    assert all(tensor is tensors[key] for key, tensor in net.state_dict(keep_vars=True).items())
    assert list(net.state_dict()) == list(plain.state_dict())
    assert torch.equal(net(images), plain(images))


@each_resnet
def test_the_names_of_the_layers_are_told_and_once_filled_scatters_can_be_put_in_again(name):
    net, images = narrowed(name)
    assert remove_scatters(net, images[:1]) == SITES[name]
    assert remove_scatters(net, images[:1]) == []
    assert insert_scatters(net, images[:1]) == SITES[name]


def test_frozen_parameters_stay_frozen():
    net, images = narrowed("scales")
    net.shortcut[0].weight.requires_grad_(False)
    remove_scatters(net, images[:1])
    assert not net.shortcut[0].weight.requires_grad
    assert net.shortcut[1].weight.requires_grad


RECIPES = {
    "resnet8": {"_target_": "pruning_lit.models.cifar_resnet", "depth": 8, "shortcut": "option_b", "stem": "tied"},
    "resnet18": {"_target_": "torchvision.models.resnet18", "num_classes": 10},
}


@each_resnet
def test_a_filled_network_is_saved_and_loaded_without_scatters(name, tmp_path, monkeypatch):
    monkeypatch.setitem(NETWORKS, "resnet8", lambda: cifar_resnet(8, shortcut="option_b", stem="tied"))
    net, images = narrowed(name)
    net, images = net.float(), images.float()
    remove_scatters(net, images[:1])
    save(net, tmp_path / "filled.safetensors", RECIPES[name])
    assert not [key for key in read(tmp_path / "filled.safetensors")[1] if "scatter" in key]
    loaded = load(tmp_path / "filled.safetensors")
    assert scatters(loaded) == []
    assert torch.equal(loaded(images), net(images))


@pytest.mark.parametrize("shortcut", ["option_a", "option_b"])
def test_scatters_of_the_architecture_are_left_alone(shortcut):
    net, images = randomise(cifar_resnet(8, shortcut=shortcut)).double(), torch.randn(2, 3, 32, 32).double()
    own = scatters(net)
    assert "layer1.0.shortcut" in own
    insert_scatters(net, images[:1])
    graph = trace(net, images[:1])
    narrow(net, graph, random_kept(graph, seed=0))
    before = {key: tensor for key, tensor in net.state_dict().items() if key.removesuffix(".source") in own}
    expected = net(images)
    assert bool(remove_scatters(net, images[:1])) == (shortcut == "option_b")
    assert scatters(net) == own
    assert all(torch.equal(net.state_dict()[key], tensor) for key, tensor in before.items())
    torch.testing.assert_close(net(images), expected, rtol=1e-12, atol=1e-12)


class Own(nn.Conv2d):
    """A convolution that applies a scatter as its architecture wants it."""

    def __init__(self) -> None:
        super().__init__(8, 4, 1)
        self.scatter = ChannelScatter([0, -1, 1, 2, -1, 3])

    def forward(self, x: Tensor) -> Tensor:
        return self.scatter(super().forward(x))


def test_a_scatter_that_a_layer_of_the_architecture_applies_itself_is_left_alone():
    net, images = Block(Own()).double(), torch.randn(2, 3, 8, 8).double()
    expected = net(images)
    assert remove_scatters(net, images) == []
    assert torch.equal(net(images), expected)


@pytest.mark.at_once(1)
@pytest.mark.parametrize("name", ["resnet8", "scales", "without scales"])
def test_norms_folded_into_their_convolutions_are_filled_there(name, tmp_path):
    net, images, graph, shortcuts = inserted(name)
    narrow(net, graph, {group: random_kept(graph, seed=0)[group] for group in shortcuts})
    Conversion([], {}, "all").convert(net, images[:1])
    expected = net(images)
    assert remove_scatters(net, images[:1]) == SITES.get(name, ["shortcut.1"])
    assert not [key for key in net.state_dict() if ".scatter." in key]
    torch.testing.assert_close(net(images), expected, rtol=1e-12, atol=1e-12)
    save(net, tmp_path / "folded.safetensors")
    assert torch.equal(load(tmp_path / "folded.safetensors", build(name)[0])(images), net(images))


def by_hand(*shortcut: nn.Module, keep: list[int] | None = None) -> tuple[nn.Module, Tensor]:
    """A block with a scatter behind the last layer of its shortcut; narrowed in all its groups, or in that one."""
    torch.manual_seed(0)
    net, images = randomise(Block(*shortcut)).double(), torch.randn(2, 3, 8, 8, dtype=torch.float64)
    SCATTER.put(net.shortcut[-1], ChannelScatter(range(6)))
    graph = trace(net, images[:1])
    narrow(net, graph, random_kept(graph, seed=1) if keep is None else {"shortcut.0": keep})
    return net, images


def depthwise() -> nn.Conv2d:
    return nn.Conv2d(6, 6, 3, padding=1, groups=6)


@pytest.mark.at_once(1)
@pytest.mark.parametrize(
    "shortcut",
    [
        lambda: [nn.Conv2d(8, 6, 1), depthwise()],
        lambda: [nn.Conv2d(8, 6, 1), nn.BatchNorm2d(6), nn.Sigmoid(), depthwise(), nn.BatchNorm2d(6)],
        lambda: [nn.Conv2d(8, 6, 1), nn.Sigmoid(), nn.BatchNorm2d(6)],
    ],
    ids=["depthwise", "depthwise with norms", "sigmoid"],
)
def test_whatever_makes_the_channels_together_gets_its_full_width(shortcut):
    for keep in ([0, 3], [1, 2, 4, 5], None):
        net, images = by_hand(*shortcut(), keep=keep)
        expected, stream = net(images), net.head.in_channels
        assert len(remove_scatters(net, images[:1])) == 1
        assert {each.num_features for each in net.shortcut if isinstance(each, nn.BatchNorm2d)} <= {stream}
        assert {each.out_channels for each in net.shortcut if isinstance(each, nn.Conv2d)} == {stream}
        assert {each.groups for each in net.shortcut if isinstance(each, nn.Conv2d)} <= {1, stream}
        torch.testing.assert_close(net(images), expected, rtol=1e-12, atol=1e-12)


def test_channels_may_arrive_in_any_order_several_times_or_not_at_all():
    net, images = Block(nn.Conv2d(8, 4, 1), nn.BatchNorm2d(4)), torch.randn(2, 3, 8, 8).double()
    scattered_by_hand(randomise(net), [3, 3, -1, 0, 1, 1])
    expected = net(images)
    assert remove_scatters(net, images[:1]) == ["shortcut.1"]
    torch.testing.assert_close(net(images), expected, rtol=1e-12, atol=1e-12)


class Shared(Block):
    """The convolution on the shortcut has a second reader."""

    def __init__(self) -> None:
        super().__init__(nn.Conv2d(8, 6, 1), nn.BatchNorm2d(6))
        self.other = nn.Conv2d(6, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        inner = self.stem(x).relu()
        return super().forward(x) + self.other(self.shortcut[0](inner))


class Unused(Block):
    """What has the scatter is not called."""

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.branch(self.stem(x)))


def scattered_by_hand(net: nn.Module, source: list[int]) -> nn.Module:
    SCATTER.put(net.shortcut[-1], ChannelScatter(range(max(source) + 1)))
    net.shortcut[-1].scatter.source = torch.tensor(source)
    return net.double()


SOME = [0, -1, 1, 2, -1, 3]
STUCK = {
    "another reader": (lambda: scattered_by_hand(Shared(), [5, 4, 3, 2, 1, -1]), "'other' reads its channels, too"),
    "not used": (
        lambda: scattered_by_hand(Unused(nn.Conv2d(8, 4, 1)), SOME),
        "the forward pass does not come there",
    ),
    "no scales behind a sigmoid": (
        lambda: scattered_by_hand(Block(nn.Conv2d(8, 4, 1), nn.Sigmoid(), nn.BatchNorm2d(4, affine=False)), SOME),
        "it is a batch norm without scales, and not that of one convolution alone",
    ),
    "slopes": (
        lambda: scattered_by_hand(Block(nn.Conv2d(8, 4, 1), nn.PReLU(4), nn.BatchNorm2d(4)), SOME),
        "'shortcut.1.weight' goes with its channels, and is no part of a plain convolution or batch norm",
    ),
    "lengths and directions": (
        lambda: scattered_by_hand(Block(nn.utils.parametrizations.weight_norm(nn.Conv2d(8, 4, 1))), SOME),
        "goes with its channels, and is no part of a plain convolution or batch norm",
    ),
    "pairs": (
        lambda: scattered_by_hand(Block(nn.Conv2d(8, 2, 1), nn.Conv2d(2, 4, 1, groups=2)), SOME),
        "'shortcut.0.weight' does not make its channels, all of them, one by one",
    ),
    "one depthwise kernel": (
        lambda: by_hand(nn.Conv2d(8, 6, 1), depthwise(), keep=[2])[0],
        "'shortcut.1' is a convolution with groups of which one is left",
    ),
    "widths written down": (
        lambda: scattered_by_hand(
            Block(nn.Conv2d(8, 4, 1), nn.Unflatten(1, (2, 2)), nn.Flatten(1, 2), nn.BatchNorm2d(4)), SOME
        ),
        "'shortcut.1.unflattened_size' counts its channels",
    ),
    "the image itself": (
        lambda: scattered_by_hand(OfTheImage(), [0, -1, 1, 2, -1, 0]),
        "no layer makes what it reads",
    ),
    "two scatters": (lambda: forked(SOME), "'twin.scatter' reads its channels, too"),
}


def forked(source: list[int]) -> nn.Module:
    net = scattered_by_hand(Forked(), source)
    SCATTER.put(net.twin, ChannelScatter(range(4)))
    net.twin.scatter.source = torch.tensor(source)
    return net


class Forked(Block):
    """Two norms read the convolution on the shortcut, one of them for another sum."""

    def __init__(self) -> None:
        super().__init__(nn.Conv2d(8, 4, 1), nn.BatchNorm2d(4))
        self.twin = nn.BatchNorm2d(4)
        self.other = nn.Conv2d(8, 6, 1)

    def forward(self, x: Tensor) -> Tensor:
        inner = self.stem(x).relu()
        return super().forward(x) + (self.other(inner) + self.twin(self.shortcut[0](inner))).mean(1, keepdim=True)


class OfTheImage(Block):
    """The shortcut begins at the image."""

    def __init__(self) -> None:
        super().__init__(nn.BatchNorm2d(3))

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.branch(self.stem(x).relu()) + self.shortcut(x))


@pytest.mark.parametrize("case", STUCK)
def test_where_zeros_cannot_be_put_the_scatter_stays_and_a_warning_says_why(case, caplog):
    make, why = STUCK[case]
    net, images = make().eval(), torch.randn(2, 3, 8, 8).double()
    before, expected = copy.deepcopy(net.state_dict()), net(images)
    with caplog.at_level(logging.WARNING):
        assert remove_scatters(net, images[:1]) == []
    assert f"{'shortcut.' + str(len(net.shortcut) - 1)!r} keeps its scatter: " in caplog.text
    assert why in caplog.text
    assert net.state_dict().keys() == before.keys()
    assert all(torch.equal(tensor, before[key]) for key, tensor in net.state_dict().items())
    assert torch.equal(net(images), expected)


def test_a_network_that_does_not_run_is_left_alone():
    net, _ = narrowed("scales")
    with pytest.raises(ValueError, match="does not run on the example input"):
        remove_scatters(net, torch.zeros(1, 4, 8, 8, dtype=torch.float64))
    assert scatters(net) == ["shortcut.1.scatter"]


# Multiply-accumulates of a ResNet-18 at 224x224 whose inner layers keep int(C * (1 - S)) channels each and whose
# projections are whole ("full_downsample") or cost only what stays ("masked_downsample"). Computed by formula,
# independently of this project, for section 12 of CHEX's description; see tests/golden/chex/README.md.
COUNTS = json.loads((VECTORS / "chex" / "counts.json").read_text())["classification_224"]


@pytest.mark.slow
def test_a_filled_resnet18_has_the_published_count_of_whole_projections():
    net, image = torchvision_model("resnet18"), torch.zeros(1, 3, 224, 224)
    projections = [site.removesuffix("1") + "0" for site in insert_scatters(net, image)]
    graph = trace(net, image)
    inner = [group.name for group in graph.prunable if group.name.startswith("layer") and group.name.endswith("conv1")]
    narrow(net, graph, {name: range(int(graph[name].size * 0.5)) for name in [*inner, *projections]})
    expected = COUNTS["resnet18"]["uniform"]["0.5"]
    assert cost(trace(net, image)).macs == expected["masked_downsample"]
    remove_scatters(net, image)
    assert cost(trace(net, image)).macs == expected["full_downsample"]
