"""Where weights start, and that a narrowed network can start again without a memory of what it had learned."""

import copy
from collections.abc import Callable

import pytest
import torch
from torch import nn

from pruning_lit.channels import ChannelRelabel, narrow, trace
from pruning_lit.models import (
    cifar_densenet,
    cifar_resnet,
    preresnet,
    start_afresh,
    torchvision_model,
    vgg_bn,
)

OWN: dict[str, Callable[[], nn.Module]] = {
    "vgg, slimming's": lambda: vgg_bn(11, classifier="linear", bias=False, norm_scale=0.5),
    "vgg, chip's": lambda: vgg_bn(11),
    "preresnet": lambda: preresnet(11),
    "densenet": lambda: cifar_densenet(13),
    "resnet": lambda: cifar_resnet(8),
    "resnet, chex's": lambda: cifar_resnet(8, norm_scale=0.5),
}
SLIMMING = ["vgg, slimming's", "preresnet", "densenet"]
ALL = OWN | {"torchvision": lambda: torchvision_model("resnet18", num_classes=10)}


def trained(net: nn.Module) -> nn.Module:
    """Every number another one than at the start; in place."""
    for name, tensor in net.state_dict().items():
        if name.endswith("num_batches_tracked"):
            tensor.fill_(1000)
        elif tensor.is_floating_point():
            tensor.copy_(torch.rand(tensor.shape) + 3)
    return net


def halved(net: nn.Module) -> nn.Module:
    """Narrowed to half the channels of every group that may be narrowed, in place; not the leading ones."""
    graph = trace(net, torch.zeros(1, 3, 32, 32))
    kept = {group.name: range(group.size // 2, group.size) for group in graph.groups if group.protected is None}
    narrow(net, graph, kept)
    return net


def sources(net: nn.Module) -> set[str]:
    return {f"{name}.source" for name, module in net.named_modules() if isinstance(module, ChannelRelabel)}


@pytest.mark.at_once(1)
@pytest.mark.parametrize("name", ALL)
def test_a_fresh_start_keeps_widths_and_selections_and_nothing_else(name):
    net = trained(halved(ALL[name]()))
    before, parameters = copy.deepcopy(net.state_dict()), dict(net.named_parameters())
    start_afresh(net, ALL[name]())
    assert {key: tensor.shape for key, tensor in net.state_dict().items()} == {
        key: tensor.shape for key, tensor in before.items()
    }
    assert dict(net.named_parameters()).keys() == parameters.keys()
    assert all(parameter is parameters[key] for key, parameter in net.named_parameters())  # an optimizer knows them
    for key, tensor in net.state_dict().items():
        if key in sources(net):
            assert torch.equal(tensor, before[key])
        else:
            assert not (tensor == before[key]).any(), key
    assert net(torch.zeros(2, 3, 32, 32)).isfinite().all()


@pytest.mark.at_once(1)
@pytest.mark.parametrize("name", ALL)
def test_after_a_fresh_start_batch_norms_have_seen_nothing(name):
    net = trained(halved(ALL[name]()))
    start_afresh(net, ALL[name]())
    for module in net.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            assert (module.running_mean == 0).all()
            assert (module.running_var == 1).all()
            assert module.num_batches_tracked == 0
            assert (module.bias == 0).all()
            assert (module.weight == getattr(net, "norm_scale", 1.0)).all()


@pytest.mark.at_once(6)
@pytest.mark.parametrize("name", OWN)
@pytest.mark.parametrize("narrowed", [False, True])
def test_kernels_start_with_the_spread_that_belongs_to_the_present_widths(name, narrowed):
    torch.manual_seed(0)
    net = OWN[name]()
    if narrowed:
        start_afresh(trained(halved(net)), OWN[name]())
    for key, module in net.named_modules():
        if isinstance(module, nn.Conv2d):
            fan_out = module.weight.shape[0] * module.weight[0, 0].numel()
            sample = module.weight.detach() * (fan_out / 2) ** 0.5  # standard normal
            tolerance = 5 / module.weight.numel() ** 0.5  # five standard errors of the spread times 1.4
            assert float(sample.std()) == pytest.approx(1, abs=tolerance), key
            assert float(sample.mean()) == pytest.approx(0, abs=tolerance), key


@pytest.mark.parametrize("wrapped", [False, True])  # the wrapper has no start of its own
def test_a_removed_branch_does_not_come_back(wrapped):
    net, fresh = preresnet(20), preresnet(20)
    net.layer1[1].drop_branch()
    trained(net)
    around = [nn.Sequential(net), nn.Sequential(fresh)] if wrapped else [net, fresh]
    start_afresh(*around)
    assert not net.layer1[1].has_branch
    assert (net.layer2[0].bn1.weight == 0.5).all()


@pytest.mark.at_once(1)
@pytest.mark.parametrize("narrowed", [False, True])
def test_scales_of_torchvisions_networks_start_afresh_where_they_started(narrowed):
    def fresh() -> nn.Module:
        return torchvision_model("resnet18", num_classes=10, norm_scale=0.5)

    net = trained(halved(fresh()) if narrowed else fresh())
    start_afresh(net, fresh())
    scales = [module.weight for module in net.modules() if isinstance(module, nn.BatchNorm2d)]
    assert len(scales) == 20
    assert all((scale == 0.5).all() for scale in scales)


@pytest.mark.parametrize(
    "make", [lambda **options: cifar_resnet(8, **options), lambda **options: torchvision_model("resnet18", **options)]
)
def test_the_start_of_the_scales_changes_nothing_else_and_is_one_unless_told_otherwise(make):
    nets = []
    for options in ({}, {"norm_scale": 1.0}, {"norm_scale": 0.5}):
        torch.manual_seed(0)
        nets.append(make(**options))
    plain, one, half = (net.state_dict() for net in nets)
    assert all(torch.equal(plain[name], one[name]) for name in plain)
    norms = {f"{name}.weight" for name, module in nets[0].named_modules() if isinstance(module, nn.BatchNorm2d)}
    assert all(torch.equal(half[name], plain[name] * (0.5 if name in norms else 1)) for name in plain)


@pytest.mark.slow
def test_a_network_without_a_start_of_its_own_gets_leading_slices_of_a_fresh_one():
    fresh = torchvision_model("resnet18", num_classes=10)
    net = trained(halved(torchvision_model("resnet18", num_classes=10)))
    start_afresh(net, fresh)
    kernel = net.layer2[0].conv1.weight
    assert kernel.shape == (64, 32, 3, 3)
    assert torch.equal(kernel, fresh.layer2[0].conv1.weight[:64, :32])


@pytest.mark.parametrize("name", OWN)
def test_convolutions_of_the_papers_networks_start_without_offsets(name):
    assert all(
        module.bias is None or (module.bias == 0).all()
        for module in OWN[name]().modules()
        if isinstance(module, nn.Conv2d)
    )


@pytest.mark.parametrize("name", SLIMMING)
def test_norms_of_slimmings_networks_are_as_in_the_release(name):
    for module in OWN[name]().modules():
        if isinstance(module, nn.BatchNorm2d):
            assert (module.weight == 0.5).all()
            assert (module.bias == 0).all()
            assert (module.eps, module.momentum) == (1e-5, 0.1)


def test_a_linear_classifier_of_a_vgg_starts_small_and_those_of_the_others_at_torchs_default():
    torch.manual_seed(0)
    linear = vgg_bn(11, 100, classifier="linear", bias=False).classifier
    assert float(linear.weight.detach().std()) == pytest.approx(0.01, rel=0.02)
    assert (linear.bias == 0).all()
    for net in (vgg_bn(11, 100).classifier.linear2, preresnet(11, 100).fc, cifar_densenet(40, 100).fc):
        bound = net.in_features**-0.5
        assert 0.99 * bound < float(net.weight.detach().abs().max()) <= bound
        assert float(net.weight.detach().std()) == pytest.approx(bound / 3**0.5, rel=0.02)
        assert 0.9 * bound < float(net.bias.detach().abs().max()) <= bound


@pytest.mark.slow
def test_a_fresh_network_that_is_narrower_or_another_is_refused():
    net = trained(torchvision_model("resnet18", num_classes=10))
    before = copy.deepcopy(net.state_dict())
    with pytest.raises(ValueError, match=r"'fc.weight' is \(9, 512\) in the fresh network.*\(10, 512\) cannot"):
        start_afresh(net, torchvision_model("resnet18", num_classes=9))
    with pytest.raises(ValueError, match=r"has no tensor called 'conv1.weight'"):
        start_afresh(net, vgg_bn(11))
    assert all(torch.equal(tensor, before[key]) for key, tensor in net.state_dict().items())


def test_a_bias_into_which_a_norm_was_folded_begins_with_zero():
    model, fresh = nn.Sequential(nn.Conv2d(3, 2, 1)), nn.Sequential(nn.Conv2d(3, 4, 1, bias=False))
    start_afresh(model, fresh)
    assert model[0].bias.tolist() == [0, 0]
    assert torch.equal(model[0].weight, fresh[0].weight[:2])
