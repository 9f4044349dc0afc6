"""Network Slimming's ResNet and DenseNet: how they are put together, and that each reader can be narrowed alone."""

import copy

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pruning_lit.channels import ChannelGraph, ChannelSelect, Kept, mask, narrow, trace, verify
from pruning_lit.models import cifar_densenet, preresnet, vgg_bn

SMALL = {"preresnet-20": lambda: preresnet(20), "densenet-13": lambda: cifar_densenet(13)}
FULL = {"preresnet-164": preresnet, "densenet-40": cifar_densenet}


def randomised(net: nn.Module, seed: int = 0) -> nn.Module:
    """In eval mode and float64, with statistics, scales of both signs and shifts that hide nothing; in place."""
    random = torch.Generator().manual_seed(seed)
    for name, tensor in net.state_dict().items():
        if name.endswith("running_var"):
            tensor.copy_(torch.rand(tensor.shape, generator=random) + 0.5)
        elif tensor.is_floating_point() and tensor.ndim == 1:
            tensor.copy_(torch.randn(tensor.shape, generator=random))
    return net.double().eval()


def widths_of_norms(net: nn.Module) -> list[int]:
    return [module.num_features for module in net.modules() if isinstance(module, nn.BatchNorm2d)]


def test_the_norms_of_a_preresnet_164_have_the_published_widths():
    expected = []
    incoming = 16
    for planes in (16, 32, 64):
        for _ in range(18):
            expected += [incoming, planes, planes]
            incoming = 4 * planes
    assert widths_of_norms(preresnet()) == [*expected, 256]
    assert sum(expected) + 256 == 12_112  # Network Slimming's population


def test_the_norms_of_a_densenet_40_have_the_published_widths():
    widths = widths_of_norms(cifar_densenet())
    assert widths == [*range(24, 157, 12), 168, *range(168, 301, 12), 312, *range(312, 445, 12), 456]
    assert sum(widths) == 9_360  # Network Slimming's population


def test_a_preactivation_block_shortcuts_the_raw_stream():
    entry = preresnet(11).layer2[0].eval()
    nn.init.zeros_(entry.conv3.weight)  # only the shortcut is left
    x = torch.randn(2, 64, 8, 8)
    torch.testing.assert_close(entry(x), F.conv2d(x, entry.downsample[0].weight, stride=2))
    inner = preresnet(20).layer2[1].eval()
    nn.init.zeros_(inner.conv3.weight)
    x = torch.randn(2, 128, 8, 8)
    assert torch.equal(inner(x), x)


def test_a_preactivation_block_normalises_before_every_convolution():
    block = randomised(preresnet(20)).layer1[1]
    x = torch.randn(2, 64, 8, 8, dtype=torch.float64)
    inner = x
    for norm, convolution in ((block.bn1, block.conv1), (block.bn2, block.conv2), (block.bn3, block.conv3)):
        inner = convolution(norm(inner).relu())
    torch.testing.assert_close(block(x), inner + x)


def test_new_features_of_a_dense_layer_come_last():
    layer = randomised(cifar_densenet(13)).dense1[1]
    x = torch.randn(2, 36, 8, 8, dtype=torch.float64)
    torch.testing.assert_close(layer(x), torch.cat([x, layer.conv1(layer.bn1(x).relu())], dim=1))


def test_a_transition_halves_the_resolution_and_keeps_the_width():
    assert cifar_densenet(13).trans1(torch.zeros(1, 60, 16, 16)).shape == (1, 60, 8, 8)


@pytest.mark.parametrize(
    "net", [preresnet(11), cifar_densenet(7), vgg_bn(11, norm_scale=0.5)], ids=lambda net: type(net).__name__
)
def test_scales_start_at_one_half_and_shifts_at_zero(net):
    norms = [module for module in net.modules() if isinstance(module, nn.modules.batchnorm._BatchNorm)]
    assert all((norm.weight == 0.5).all() and (norm.bias == 0).all() for norm in norms)


def test_kernels_start_with_the_variance_that_keeps_gradients_alive():
    torch.manual_seed(0)
    kernel = preresnet(11).layer3[0].conv2.weight.detach()
    assert float(kernel.std()) == pytest.approx((2 / (9 * 64)) ** 0.5, rel=0.05)


@pytest.mark.parametrize("name", SMALL)
def test_every_parameter_learns(name):
    net = SMALL[name]()
    net(torch.randn(4, 3, 32, 32)).square().sum().backward()
    assert all(parameter.grad is not None and parameter.grad.abs().sum() > 0 for parameter in net.parameters())


@pytest.mark.parametrize("depth", [2, 56 + 1, 163, -7])
def test_depths_that_are_not_9n_plus_2_are_refused(depth):
    with pytest.raises(ValueError, match=rf"9n \+ 2 .*got {depth}"):
        preresnet(depth)


@pytest.mark.parametrize("depth", [4, 41, -2])
def test_depths_that_are_not_3n_plus_4_are_refused(depth):
    with pytest.raises(ValueError, match=rf"3n \+ 4 .*got {depth}"):
        cifar_densenet(depth)


def test_widths_below_one_are_refused():
    with pytest.raises(ValueError, match="width is 0, but a stem has at least 1 channel"):
        preresnet(11, width=0)
    with pytest.raises(ValueError, match="growth is 0 and stem is 24, but each is at least 1 channel"):
        cifar_densenet(13, growth=0, stem=24)


def selected_by_hand(net: nn.Module, seed: int) -> dict[str, Tensor]:
    """A random choice of channels, between one and all of them, for every selection."""
    random = torch.Generator().manual_seed(seed)
    chosen = {}
    for name, module in net.named_modules():
        if isinstance(module, ChannelSelect):
            width = int(torch.randint(1, len(module.source) + 1, (), generator=random))
            chosen[name] = torch.randperm(len(module.source), generator=random)[:width].sort().values
    return chosen


def reader_of(net: nn.Module, select: str) -> tuple[nn.Module, str]:
    """The batch norm behind a selection, and the name of the layer behind that."""
    parent, _, _ = select.rpartition(".")
    prefix = f"{parent}." if parent else ""
    return net.get_submodule(prefix + ("bn1" if parent else "bn")), prefix + ("conv1" if parent else "fc")


@pytest.mark.parametrize("name", SMALL)
def test_a_selection_in_front_of_a_norm_is_the_norm_with_zeroed_channels(name):
    net = randomised(SMALL[name]())
    zeroed, chosen = copy.deepcopy(net), selected_by_hand(net, seed=0)
    for select, stays in chosen.items():
        norm, layer = reader_of(net, select)
        scale_and_shift = reader_of(zeroed, select)[0]
        gone = torch.ones(norm.num_features, dtype=torch.bool).index_fill(0, stays, False)
        scale_and_shift.weight.data[gone] = scale_and_shift.bias.data[gone] = 0
        for key in ("weight", "bias"):
            setattr(norm, key, nn.Parameter(getattr(norm, key)[stays]))
        norm.running_mean, norm.running_var = norm.running_mean[stays], norm.running_var[stays]
        reader = net.get_submodule(layer)
        reader.weight = nn.Parameter(reader.weight[:, stays])
        net.get_submodule(select).source = stays
    images = torch.randn(2, 3, 32, 32, dtype=torch.float64)
    torch.testing.assert_close(net(images), zeroed(images), rtol=1e-10, atol=1e-10)


def difference(net: nn.Module, graph: ChannelGraph, kept: Kept, inputs: Tensor) -> float:
    """Between a narrowed copy and a masked copy, relative."""
    narrowed, masked = copy.deepcopy(net), copy.deepcopy(net)
    narrow(narrowed, graph, kept)
    mask(masked, graph, kept)
    return verify(narrowed, masked, inputs)


def groups_beside_the_stream(graph: ChannelGraph) -> list[str]:
    """The prunable groups of which no selection takes its channels."""
    streams = {place[0] for item in graph.relabellings for place in item.inputs if place is not None}
    return [g.name for position, g in enumerate(graph.groups) if position not in streams and g.protected is None]


@pytest.mark.slow
@pytest.mark.parametrize("name", [*SMALL, *(pytest.param(name, marks=pytest.mark.slow) for name in FULL)])
def test_narrowed_with_the_stream_whole_is_the_masked_one(name):
    net = randomised((SMALL | FULL)[name]())
    images = torch.randn(2, 3, 32, 32, dtype=torch.float64)
    graph = trace(net, images[:1])
    names = groups_beside_the_stream(graph)
    for seed in range(3):
        random = torch.Generator().manual_seed(seed)
        kept = {}
        for group in names:
            width = int(torch.randint(1, graph[group].size + 1, (), generator=random))
            kept[group] = torch.randperm(graph[group].size, generator=random)[:width].sort().values.tolist()
        assert difference(net, graph, kept, images) < 1e-10


@pytest.mark.parametrize("name", SMALL)
def test_every_norm_can_lose_channels_while_the_stream_stays_whole(name):
    net = SMALL[name]()
    graph = trace(net, torch.zeros(1, 3, 32, 32))
    tensors = {piece.tensor for group in groups_beside_the_stream(graph) for piece in graph[group].slices}
    assert {name for name, module in net.named_modules() if isinstance(module, nn.BatchNorm2d)} == {
        name.removesuffix(".running_var") for name in tensors if name.endswith(".running_var")
    }
