"""The CIFAR ResNets: their shortcuts, stems, start weights and refusals."""

import copy

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from pruning_lit.channels import ChannelScatter, cost, mask, narrow, trace, verify
from pruning_lit.models import cifar_resnet, load_weights, start_afresh
from tests.channels.chance import random_kept, randomise
from tests.places import CONF

ARCH = CONF / "arch"
NORM = ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")
CONV_SHORTCUTS = {  # depth: parameters and MACs for 10 classes, measured on the original networks
    8: (98_522, 14_598_784),
    20: (292_954, 42_910_336),
    32: (487_386, 71_221_888),
    44: (681_818, 99_533_440),
    56: (876_250, 127_844_992),
    110: (1_751_194, 255_246_976),
}
PROJECTIONS = {  # depth: parameters and MACs for 10 classes in ResRep's released networks
    56: (855_770, 125_747_840),
    110: (1_727_962 + 16 * 32 + 32 * 64 + 2 * (32 + 64), 253_149_824),  # parameters by hand: option A's and projections
}


@pytest.mark.parametrize(("stage", "width"), [("layer2", 16), ("layer3", 32)])
def test_stage_entry_takes_every_second_pixel_and_pads_channels_on_both_sides(stage, width):
    entry = getattr(cifar_resnet(8).eval(), stage)[0]
    nn.init.zeros_(entry.bn2.weight)  # only the shortcut is left
    x = torch.rand(2, width, 8, 8)
    expected = F.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, width // 2, width // 2))
    torch.testing.assert_close(entry(x), expected, rtol=0, atol=0)


def test_the_state_of_the_option_a_network_has_the_names_it_always_had():
    blocks = [f"layer{stage}.{block}" for stage in (1, 2, 3) for block in (0, 1)]
    expected = {"conv1.weight", "linear.weight", "linear.bias", *(f"bn1.{name}" for name in NORM)}
    expected |= {f"{block}.conv{i}.weight" for block in blocks for i in (1, 2)}
    expected |= {f"{block}.bn{i}.{name}" for block in blocks for i in (1, 2) for name in NORM}
    entries = {f"layer{stage}.0.shortcut.source" for stage in (2, 3)}
    assert cifar_resnet(14, stem="tied").state_dict().keys() == expected | entries
    assert cifar_resnet(14).state_dict().keys() == expected | entries | {"layer1.0.shortcut.source"}
    entries = {f"layer{stage}.0.shortcut.bn.{name}" for stage in (2, 3) for name in NORM}
    entries |= {f"layer{stage}.0.shortcut.conv.weight" for stage in (2, 3)}
    assert cifar_resnet(14, stem="tied", shortcut="conv").state_dict().keys() == expected | entries


@pytest.mark.parametrize("size", [32, 31])
@pytest.mark.parametrize(("stage", "width"), [("layer2", 16), ("layer3", 32)])
def test_a_convolution_shortcut_is_a_strided_3x3_kernel_and_batch_norm(stage, width, size):
    entry = getattr(randomise(cifar_resnet(8, shortcut="conv")), stage)[0]
    nn.init.zeros_(entry.bn2.weight)
    nn.init.zeros_(entry.bn2.bias)  # only the shortcut is left
    x = torch.rand(2, width, size, size)
    inner = F.conv2d(x, entry.shortcut.conv.weight, stride=2, padding=1)
    torch.testing.assert_close(entry(x), F.relu(entry.shortcut.bn(inner)))


@pytest.mark.at_once(2)
@pytest.mark.parametrize("stem", ["select", "tied"])
@pytest.mark.parametrize("depth", CONV_SHORTCUTS)
def test_networks_with_convolution_shortcuts_have_the_counts_of_the_original(depth, stem):
    counted = cost(trace(cifar_resnet(depth, stem=stem, shortcut="conv"), torch.zeros(1, 3, 32, 32)))
    assert (counted.params, counted.macs) == CONV_SHORTCUTS[depth]
    config = (ARCH / f"resnet{depth}.yaml").read_text()
    assert f"{counted.params:,} parameters, {counted.macs:,} MACs" in config.partition("shortcut: option_a")[2]


@pytest.mark.parametrize("size", [32, 31])
@pytest.mark.parametrize(("stage", "width"), [("layer2", 16), ("layer3", 32)])
def test_a_projection_shortcut_is_a_1x1_kernel_over_every_second_pixel_and_batch_norm(stage, width, size):
    entry = getattr(randomise(cifar_resnet(8, shortcut="option_b")), stage)[0]
    nn.init.zeros_(entry.bn2.weight)
    nn.init.zeros_(entry.bn2.bias)  # only the shortcut is left
    x = torch.rand(2, width, size, size)
    inner = F.conv2d(x[:, :, ::2, ::2], entry.shortcut.conv.weight)
    assert entry.shortcut.conv.weight.shape == (2 * width, width, 1, 1)
    torch.testing.assert_close(entry(x), F.relu(entry.shortcut.bn(inner)))


@pytest.mark.at_once(1)
@pytest.mark.parametrize("stem", ["select", "tied"])
@pytest.mark.parametrize("depth", PROJECTIONS)
def test_networks_with_projection_shortcuts_have_the_counts_of_the_original(depth, stem):
    counted = cost(trace(cifar_resnet(depth, stem=stem, shortcut="option_b"), torch.zeros(1, 3, 32, 32)))
    assert (counted.params, counted.macs) == PROJECTIONS[depth]


@pytest.mark.at_once(2)
@pytest.mark.parametrize("depth", CONV_SHORTCUTS)
def test_the_configs_tell_the_counts_with_projection_shortcuts(depth):
    counted = cost(trace(cifar_resnet(depth, shortcut="option_b"), torch.zeros(1, 3, 32, 32)))
    config = (ARCH / f"resnet{depth}.yaml").read_text()
    assert f"{counted.params:,} parameters, {counted.macs:,} MACs" in config.partition("option_b: 1x1")[2]


@pytest.mark.at_once(1)
@pytest.mark.parametrize("stem", ["select", "tied"])
@pytest.mark.parametrize(("depth", "shortcut"), [(8, "conv"), (20, "conv"), (8, "option_b"), (20, "option_b")])
def test_narrowed_networks_with_convolution_shortcuts_are_the_masked_ones(depth, shortcut, stem):
    torch.manual_seed(0)
    net = randomise(cifar_resnet(depth, stem=stem, shortcut=shortcut)).double()
    images = torch.randn(2, 3, 32, 32, dtype=torch.float64)
    graph = trace(net, images[:1])
    assert "layer2.0.shortcut.conv" in graph["layer2.0.conv2"].writers
    for seed in range(3):
        kept = random_kept(graph, seed)
        narrowed, masked = copy.deepcopy(net), copy.deepcopy(net)
        narrow(narrowed, graph, kept)
        mask(masked, graph, kept)
        assert verify(narrowed, masked, images) < 1e-10
        assert cost(graph, kept) == cost(trace(narrowed, images[:1]))


def test_the_select_stem_differs_from_the_tied_one_only_by_a_shortcut_that_can_be_narrowed(tmp_path):
    torch.manual_seed(0)
    select, tied = cifar_resnet(8, stem="select").eval(), cifar_resnet(8, stem="tied").eval()
    torch.save(tied.state_dict(), tmp_path / "tied.pt")
    load_weights(select, tmp_path / "tied.pt")
    images = torch.randn(2, 3, 32, 32)
    torch.testing.assert_close(select(images), tied(images), rtol=0, atol=0)
    assert isinstance(select.layer1[0].shortcut, ChannelScatter)
    assert select.layer1[0].shortcut.source.tolist() == list(range(16))
    assert isinstance(tied.layer1[0].shortcut, nn.Identity)


def test_tap_resolutions_are_32_16_and_8():
    net, sizes = cifar_resnet(14).eval(), []
    for stage in (net.layer1, net.layer2, net.layer3):
        stage.register_forward_hook(lambda _module, _inputs, output: sizes.append(tuple(output.shape[1:])))
    assert net(torch.zeros(1, 3, 32, 32)).shape == (1, 10)
    assert sizes == [(16, 32, 32), (32, 16, 16), (64, 8, 8)]


@pytest.mark.parametrize("shortcut", ["option_a", "option_b", "conv"])
def test_kernels_start_with_the_variance_that_keeps_gradients_alive(shortcut):
    torch.manual_seed(0)
    for name, module in cifar_resnet(20, shortcut=shortcut).named_modules():
        if isinstance(module, nn.Conv2d):
            expected = (2 / (module.kernel_size[0] ** 2 * module.out_channels)) ** 0.5
            assert float(module.weight.detach().std()) == pytest.approx(expected, rel=0.15), name
            assert module.bias is None


def test_a_narrowed_network_with_convolution_shortcuts_starts_afresh_there_too():
    torch.manual_seed(0)
    net = randomise(cifar_resnet(8, shortcut="conv"))
    graph = trace(net, torch.zeros(1, 3, 32, 32))
    narrow(net, graph, {"layer3.0.conv2": range(48), "layer2.0.conv2": range(24)})
    start_afresh(net, cifar_resnet(8, shortcut="conv"))
    conv, bn = net.layer3[0].shortcut
    assert conv.weight.shape == (48, 24, 3, 3)
    assert float(conv.weight.detach().std()) == pytest.approx((2 / (9 * 48)) ** 0.5, rel=0.1)
    assert bn.weight.tolist() == bn.running_var.tolist() == [1] * 48


@pytest.mark.parametrize("shortcut", ["option_a", "option_b", "conv"])
def test_every_parameter_learns(shortcut):
    net = cifar_resnet(8, shortcut=shortcut)
    net(torch.randn(4, 3, 32, 32)).square().sum().backward()
    assert all(parameter.grad is not None and parameter.grad.abs().sum() > 0 for parameter in net.parameters())


@pytest.mark.parametrize("depth", [2, 18, 57, -4])
def test_depths_that_are_not_6n_plus_2_are_refused(depth):
    with pytest.raises(ValueError, match=rf"6n \+ 2 .*got {depth}"):
        cifar_resnet(depth)


def test_unknown_stem_is_refused():
    with pytest.raises(ValueError, match="'select' or 'tied', got 'gather'"):
        cifar_resnet(20, stem="gather")


def test_unknown_shortcut_is_refused():
    with pytest.raises(ValueError, match="shortcut is 'option_a', 'option_b' or 'conv', got 'option_c'"):
        cifar_resnet(20, shortcut="option_c")
