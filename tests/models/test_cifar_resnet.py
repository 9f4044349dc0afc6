"""The CIFAR ResNets: their shortcuts, stems, start weights and refusals."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from pruning_lit.channels import ChannelScatter
from pruning_lit.models import cifar_resnet, load_weights


@pytest.mark.parametrize(("stage", "width"), [("layer2", 16), ("layer3", 32)])
def test_stage_entry_takes_every_second_pixel_and_pads_channels_on_both_sides(stage, width):
    entry = getattr(cifar_resnet(8).eval(), stage)[0]
    nn.init.zeros_(entry.bn2.weight)  # only the shortcut is left
    x = torch.rand(2, width, 8, 8)
    expected = F.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, width // 2, width // 2))
    torch.testing.assert_close(entry(x), expected, rtol=0, atol=0)


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


def test_kernels_start_with_the_variance_that_keeps_gradients_alive():
    torch.manual_seed(0)
    for name, module in cifar_resnet(20).named_modules():
        if isinstance(module, nn.Conv2d):
            expected = (2 / (9 * module.out_channels)) ** 0.5
            assert float(module.weight.detach().std()) == pytest.approx(expected, rel=0.15), name
            assert module.bias is None


def test_every_parameter_learns():
    net = cifar_resnet(8)
    net(torch.randn(4, 3, 32, 32)).square().sum().backward()
    assert all(parameter.grad is not None and parameter.grad.abs().sum() > 0 for parameter in net.parameters())


@pytest.mark.parametrize("depth", [2, 18, 57, -4])
def test_depths_that_are_not_6n_plus_2_are_refused(depth):
    with pytest.raises(ValueError, match=rf"6n \+ 2 .*got {depth}"):
        cifar_resnet(depth)


def test_unknown_stem_is_refused():
    with pytest.raises(ValueError, match="'select' or 'tied', got 'gather'"):
        cifar_resnet(20, stem="gather")
