"""The single-shot detectors: counts by part, start weights, detections and training."""

import pytest
import torch
from torch import Tensor, nn
from torchvision.models import resnet50
from torchvision.ops import box_iou

from pruning_lit.channels import ChannelGraph, cost, trace
from pruning_lit.models import ssd300_resnet50, ssd_small
from pruning_lit.models.detector_views import detector_view, view_size
from tests.models.detection_golden import golden
from tests.models.detector_counts import macs_by_part, params_by_part

COUNTS = golden("counts")["ssd300_resnet50"]
LAYERS = {"0": "conv1", "4": "layer1", "5": "layer2", "6": "layer3"}  # of the golden file's body: ours


@pytest.fixture(scope="module")
def graph() -> ChannelGraph:
    net = ssd300_resnet50().eval()
    return trace(detector_view(net), torch.zeros(1, 3, *view_size(net)))


def test_every_layer_costs_what_the_released_one_does(graph):
    expected = {}
    for name, macs in COUNTS["by_layer"].items():
        if name.startswith("backbone.body."):
            first, _, rest = name.removeprefix("backbone.body.").partition(".")
            name = ".".join(filter(None, ["backbone.body", LAYERS[first], rest]))
        expected[name] = macs
    assert dict(macs_by_part(graph, depth=9)) == expected


def test_the_parts_have_the_released_counts(graph):
    assert cost(graph).macs == COUNTS["total"]
    macs, params = macs_by_part(graph, depth=2), params_by_part(graph, depth=2)
    names = {"backbone.body": "backbone", "backbone.extra": "extra"}
    for counts, expected in ((macs, COUNTS), (params, COUNTS["params"])):
        assert {ours: counts[ours] for ours in names} == {ours: expected[name] for ours, name in names.items()}
        assert counts["head.regression_head"] + counts["head.classification_head"] == expected["heads"]
    assert cost(graph).params == COUNTS["params"]["total"]


@pytest.mark.parametrize("sparsity", [0.5, 0.75])
def test_uniformly_narrower_blocks_cost_what_the_released_ones_do(graph, sparsity):
    inner = [
        group for group in graph.prunable if group.name.startswith("backbone.body.layer") and "conv3" not in group.name
    ]
    assert len(inner) == 26
    kept = {group.name: list(range(round(group.size * (1 - sparsity)))) for group in inner}
    assert cost(graph, kept).macs == COUNTS["uniform"][f"{sparsity}_full"]["total"]


def test_groups_are_those_of_the_released_network(graph):
    assert (len(graph.groups), len(graph.prunable)) == (52, 40)
    assert sum(group.name.startswith("backbone.body.") for group in graph.prunable) == 30
    assert sum(group.name.startswith("backbone.extra.") for group in graph.prunable) == 10


def test_extras_and_heads_start_as_the_release_does():
    torch.manual_seed(0)
    net = ssd300_resnet50(num_classes=4)
    for part in (net.backbone.extra, net.head):
        for layer in part.modules():
            if not isinstance(layer, nn.Conv2d):
                continue
            fan_in, fan_out = (layer.weight[0].numel(), layer.weight[:, 0].numel())
            bound = (6 / (fan_in + fan_out)) ** 0.5  # Glorot and Bengio 2010, equation 16
            assert 0.95 * bound < float(layer.weight.detach().abs().max()) <= bound
            if layer.bias is not None:  # PyTorch's default
                assert 0 < float(layer.bias.detach().abs().max()) <= fan_in**-0.5


def test_the_body_starts_from_weights_of_a_resnet(tmp_path):
    start = resnet50()
    torch.save(start.state_dict(), tmp_path / "resnet50.pth")
    body = ssd300_resnet50(weights_backbone=str(tmp_path / "resnet50.pth")).backbone.body.state_dict()
    assert len(body) > 200
    assert all(torch.equal(tensor, start.state_dict()[name]) for name, tensor in body.items())


def test_unknown_weights_and_normalisations_are_refused():
    with pytest.raises(ValueError, match=r"no weights 'V3' for 'resnet50'; there are IMAGENET1K_V1"):
        ssd300_resnet50(weights_backbone="V3")
    with pytest.raises(ValueError, match=r"arch\.normalise must be 'picture' or 'batch', got 'image'"):
        ssd300_resnet50(normalise="image")


def test_the_small_one_has_three_maps_and_the_parameters_it_tells():
    net = ssd_small()
    assert sum(parameter.numel() for parameter in net.parameters()) == 282_588
    maps = net.backbone(torch.zeros(1, 3, 64, 64)).values()
    assert [tuple(each.shape[2:]) for each in maps] == [(8, 8), (4, 4), (2, 2)]


@pytest.mark.parametrize(("image_size", "width"), [(60, 16), (0, 16), (64, 0)])
def test_a_small_one_without_pixels_or_channels_is_refused(image_size, width):
    with pytest.raises(ValueError, match=rf"multiple of 32, got {width} and {image_size}"):
        ssd_small(image_size=image_size, width=width)


def images_with_boxes() -> tuple[list[Tensor], list[dict[str, Tensor]]]:
    """Four images of noise, with two rectangles each in the colour of their class."""
    random = torch.Generator().manual_seed(1)
    images, targets = [], []
    for number in range(4):
        image = torch.rand(3, 64, 64, generator=random) * 0.3
        boxes = torch.tensor([[4, 6, 24, 30 + number], [36 - number, 20, 60, 40]])
        labels = torch.tensor([1 + number % 3, 1 + (number + 1) % 3])
        for (left, top, right, bottom), label in zip(boxes.tolist(), labels.tolist(), strict=True):
            image[label - 1, top:bottom, left:right] = 0.9
        images.append(image)
        targets.append({"boxes": boxes.float(), "labels": labels})
    return images, targets


def test_a_small_one_learns_four_images_by_heart():
    torch.manual_seed(0)
    images, targets = images_with_boxes()
    net = ssd_small(4, width=8)
    optimizer = torch.optim.SGD(net.parameters(), lr=0.01, momentum=0.9)
    for _ in range(60):
        optimizer.zero_grad()
        sum(net(images, targets).values()).backward()
        optimizer.step()
    for found, target in zip(net.eval()(images), targets, strict=True):
        sure = found["scores"] > 0.5
        overlap, which = box_iou(target["boxes"], found["boxes"][sure]).max(1)
        assert (overlap > 0.7).all()
        assert torch.equal(found["labels"][sure][which], target["labels"])
        assert int(sure.sum()) == 2
