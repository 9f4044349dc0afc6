"""CHIP's scores of a whole network against the definition, on maps caught by hooks."""

import logging

import pytest
import torch
from torch import Tensor, nn

from pruning_lit.channels import trace
from pruning_lit.criteria import ChannelIndependence, Scoring
from pruning_lit.data import Digits
from pruning_lit.models import CifarResNet, cifar_resnet

EXACT = 1e-10  # of the sum of a map's scores; the network itself runs in float64


@pytest.fixture(scope="module")
def digits() -> Digits:
    data = Digits(batch_size=8, mean=[0.3] * 3, std=[0.3] * 3, pad=2)
    data.setup()
    return data


class InDoubles:
    """The same images as float64, so that batches of different sizes give equal maps."""

    def __init__(self, data: Digits) -> None:
        self.data, self.num_training = data, data.num_training

    def calibration(self, *args, **kwargs):
        return ((images.double(), targets) for images, targets in self.data.calibration(*args, **kwargs))


def network(stem: str) -> CifarResNet:
    """A ResNet-8 in float64 with batch-norm statistics of its own."""
    torch.manual_seed(0)
    net = cifar_resnet(8, stem=stem).double()
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.3)
            module.running_var.uniform_(0.5, 2)
    return net


def caught_maps(net: CifarResNet, images: Tensor) -> dict[str, Tensor]:
    """What the consumers see: ReLU outputs, and block outputs behind addition and ReLU, by the layer they come from."""
    maps: dict[str, Tensor] = {}
    net.layer1[0].register_forward_pre_hook(lambda _, args: maps.update(conv1=args[0].clone()))
    for stage in (1, 2, 3):
        block = net.get_submodule(f"layer{stage}.0")
        block.conv2.register_forward_pre_hook(
            lambda _, args, s=stage: maps.update({f"layer{s}.0.conv1": args[0].clone()})
        )
        block.register_forward_hook(lambda _, __, result, s=stage: maps.update({f"layer{s}.0.conv2": result.clone()}))
    net.eval()
    with torch.no_grad():
        net(images)
    return maps


def by_definition(maps: Tensor) -> Tensor:
    """Mean over images of nuclear norm minus nuclear norm with one row blanked, ``(C,)``."""
    matrices = maps.double().flatten(2)
    norm = torch.linalg.svdvals(matrices).sum(1)
    falls = []
    for channel in range(maps.shape[1]):
        blanked = matrices.clone()
        blanked[:, channel] = 0
        falls.append(norm - torch.linalg.svdvals(blanked).sum(1))
    return torch.stack(falls, dim=1).mean(0)


def all_scores(criterion: ChannelIndependence, net: CifarResNet, data) -> dict[str, Tensor]:
    graph = trace(net, torch.zeros(1, 3, 32, 32, dtype=next(net.parameters()).dtype))
    return criterion.scores(Scoring(net, graph, list(graph.prunable), data))


@pytest.mark.at_once(1)
@pytest.mark.parametrize("augment", [False, True])
def test_scores_of_a_network_are_those_of_the_definition(digits, augment):
    found = all_scores(
        ChannelIndependence(num_images=4, batch_size=3, augment=augment, seed=5), network("select"), InDoubles(digits)
    )
    ((images, _),) = digits.calibration(4, seed=5, augment=augment, batch_size=4)
    maps = caught_maps(network("select"), images.double())
    assert found.keys() == maps.keys()
    for name, scores in found.items():
        expected = by_definition(maps[name])
        torch.testing.assert_close(scores, expected, rtol=0, atol=EXACT * float(expected.sum()))


@pytest.mark.parametrize("combine", ["sum", "normalised"])
def test_a_tied_group_adds_the_scores_of_all_maps_of_its_stream(digits, combine):
    criterion = ChannelIndependence(num_images=4, batch_size=4, augment=False, combine=combine)
    found = all_scores(criterion, network("tied"), InDoubles(digits))
    ((images, _),) = digits.calibration(4, seed=0, batch_size=4)
    maps = caught_maps(network("tied"), images.double())
    parts = [by_definition(maps[name]) for name in ("conv1", "layer1.0.conv2")]
    expected = sum(part / part.sum() for part in parts) if combine == "normalised" else sum(parts)
    torch.testing.assert_close(found["conv1"], expected, rtol=0, atol=EXACT * float(expected.sum()))
    assert "layer1.0.conv2" not in found


def test_batches_do_not_matter(digits):
    net = network("tied")
    alone, split = (
        all_scores(ChannelIndependence(num_images=5, batch_size=size), net, InDoubles(digits)) for size in (5, 2)
    )
    for name in alone:
        torch.testing.assert_close(alone[name], split[name], rtol=1e-9, atol=1e-9)


def test_the_seed_chooses_the_images(digits):
    net = network("tied").float()
    first, again, other = (all_scores(ChannelIndependence(4, seed=seed), net, digits)["conv1"] for seed in (0, 0, 1))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_rounding_of_the_maps_is_passed_on(digits):
    net = network("tied").float()
    exact, rounded = (all_scores(ChannelIndependence(4, decimals=d), net, digits)["conv1"] for d in (None, 4))
    assert not torch.equal(exact, rounded)
    torch.testing.assert_close(exact, rounded, rtol=0, atol=1e-4 * float(exact.sum()))


def test_a_blank_map_scores_zero_also_when_normalised(digits):
    net = network("select")
    with torch.no_grad():
        net.layer1[0].bn1.weight.zero_()
        net.layer1[0].bn1.bias.fill_(-1.0)  # ReLU lets nothing through
    found = all_scores(ChannelIndependence(4, combine="normalised"), net, InDoubles(digits))
    assert torch.equal(found["layer1.0.conv1"], torch.zeros(16, dtype=torch.float64))
    torch.testing.assert_close(found["conv1"].sum(), torch.tensor(1.0, dtype=torch.float64))


class Few:
    """Three images; more are refused, as by every data set."""

    num_training = 3

    def calibration(self, num_images, seed, augment, rank, world_size, batch_size):
        assert num_images == 3
        return iter([(torch.rand(3, 3, 32, 32, generator=torch.Generator().manual_seed(0)), None)])


def test_where_there_are_fewer_images_all_are_taken_and_it_is_said(caplog):
    with caplog.at_level(logging.WARNING):
        found = all_scores(ChannelIndependence(num_images=640), network("tied").float(), Few())
    assert all(scores.isfinite().all() for scores in found.values())
    assert "all 3 training images, not at 640" in caplog.text


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"combine": "mean"}, "criterion.combine must be 'sum' or 'normalised', got 'mean'"),
        ({"num_images": 0}, "criterion.num_images must be a whole number of at least 1, got 0"),
        ({"batch_size": 0}, "criterion.batch_size must be a whole number of at least 1, got 0"),
    ],
)
def test_settings_out_of_range_are_refused_by_name(settings, told):
    with pytest.raises(ValueError, match=told):
        ChannelIndependence(**settings)


def test_maps_of_a_diverged_network_are_refused(digits):
    net = network("tied").float()
    with torch.no_grad():
        net.conv1.weight.fill_(float("nan"))
    with pytest.raises(ValueError, match="NaN"):
        all_scores(ChannelIndependence(4), net, digits)
