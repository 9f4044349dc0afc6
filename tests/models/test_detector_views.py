"""Raw views of detectors: the same network, traced, counted and compared without its predictions."""

import copy

import pytest
import torch
from torch import nn
from torchvision.models import get_model

from pruning_lit.channels import cost, mask, narrow, trace, verify
from pruning_lit.models.detector_views import detector_view, view_size
from tests.channels.chance import random_kept, randomise
from tests.models.small_detectors import SIZE, SMALL, keypoint_rcnn, training_batch

EXAMPLE = torch.zeros(1, 3, SIZE, SIZE)


@pytest.mark.parametrize("name", SMALL)
def test_a_view_is_the_detector_with_another_forward(name):
    net = SMALL[name]().eval()
    view = detector_view(net)
    assert [path for path, _ in view.named_modules()] == [path for path, _ in net.named_modules()]
    assert all(one is other for one, other in zip(view.children(), net.children(), strict=True))
    assert all(one is other for one, other in zip(view.parameters(), net.parameters(), strict=True))
    assert view.state_dict().keys() == net.state_dict().keys()
    view.train()
    assert net.training
    net.note = "set on the one"
    assert view.note == "set on the one"


@pytest.mark.parametrize("name", SMALL)
def test_a_copy_of_a_view_has_modules_of_its_own(name):
    view = detector_view(SMALL[name]().eval())
    other = copy.deepcopy(view)
    assert verify(other, view, torch.randn(2, 3, SIZE, SIZE)) == 0
    with torch.no_grad():
        for parameter in other.parameters():
            parameter.zero_()
    assert verify(other, view, torch.randn(2, 3, SIZE, SIZE)) > 0.1


@pytest.mark.parametrize("name", SMALL)
def test_a_view_has_the_prunable_channels_of_the_whole_detector(name):
    torch.manual_seed(0)
    net = SMALL[name]().eval()
    view = trace(detector_view(net), EXAMPLE)
    whole = trace(net, ([torch.rand(3, SIZE, SIZE)],))
    mine = {group.name: group.size for group in view.prunable}
    theirs = {group.name: group.size for group in whole.prunable if "box_predictor" not in group.name}  # results
    assert len(mine) >= 5
    assert mine.items() >= theirs.items()
    assert mine.keys() - theirs.keys() <= {"backbone.laterals.0"}  # which is written into a tensor of a fixed width
    reasons = {group.name: group.protected for group in view.groups if group.protected}
    assert set(reasons.values()) == {"it leaves the model"}


@pytest.mark.parametrize("name", SMALL)
def test_a_detector_narrowed_through_its_view_says_what_the_masked_one_says(name):
    torch.manual_seed(0)
    net = randomise(SMALL[name]())
    graph = trace(detector_view(net), EXAMPLE)
    kept, images = random_kept(graph, seed=0), torch.randn(2, 3, SIZE, SIZE)
    for precision, tolerance in ((torch.float32, 1e-5), (torch.float64, 1e-10)):
        narrowed, masked = copy.deepcopy(net).to(precision), copy.deepcopy(net).to(precision)
        narrow(detector_view(narrowed), graph, kept)
        mask(detector_view(masked), graph, kept)
        assert verify(detector_view(narrowed), detector_view(masked), images.to(precision)) < tolerance
    assert sum(parameter.numel() for parameter in narrowed.parameters()) == cost(graph, kept).params
    assert cost(trace(detector_view(narrowed.float()), EXAMPLE)) == cost(graph, kept)
    _require_whole(narrowed)


def _require_whole(net: nn.Module) -> None:
    """It detects, and all that it has learns."""
    images, targets = training_batch()
    with torch.no_grad():
        detections = net.eval()(images)
    assert len(detections) == 2
    assert {"boxes", "labels", "scores"} <= detections[0].keys()
    losses = net.train()(images, targets)
    sum(losses.values()).backward()
    assert all(parameter.grad is not None for parameter in net.parameters())


def test_heads_of_keypoints_follow_the_pyramid():
    torch.manual_seed(0)
    net = keypoint_rcnn().eval()
    graph = trace(detector_view(net), EXAMPLE)
    narrow(detector_view(net), graph, {"backbone.laterals.0": [0, 3]})
    assert net.roi_heads.keypoint_head[0].in_channels == 2
    assert len(net([torch.rand(3, SIZE, SIZE)])[0]["keypoints"]) > 0


def test_regions_are_those_that_the_detector_looks_at():
    view = detector_view(SMALL["mask_rcnn"]())
    boxes, masks = 50, 20  # as the small one was built
    assert view.regions == {
        "roi_heads.box_head": boxes,
        "roi_heads.box_predictor": boxes,
        "roi_heads.mask_head": masks,
        "roi_heads.mask_predictor": masks,
    }
    graph = trace(view.eval(), EXAMPLE)
    per_box = 8 * 9 * 1024 + 1024 * 1024 + 1024 * 25
    per_mask = 9 * 256 * (8 + 3 * 256) * 16 + 256 * 256 * 4 * 16 + 256 * 5 * 64
    none = cost(graph.with_regions(dict.fromkeys(view.regions, 0))).macs
    assert cost(graph.with_regions(view.regions)).macs - none == boxes * per_box + masks * per_mask


def test_a_view_leaves_nothing_behind_in_the_detector():
    net = SMALL["mask_rcnn"]().eval()
    detector_view(net)(torch.zeros(1, 3, 40, 40))
    assert net.roi_heads.box_roi_pool.scales is None  # pooling remembers the first image's scales


@pytest.mark.parametrize(
    ("name", "size", "expected"),
    [
        ("ssdlite320_mobilenet_v3_large", {}, (320, 320)),
        ("fasterrcnn_mobilenet_v3_large_fpn", {}, (800, 1344)),
        ("fasterrcnn_mobilenet_v3_large_fpn", {"min_size": (64, 90), "max_size": 100}, (96, 128)),
    ],
)
def test_a_detector_is_counted_at_the_size_to_which_it_brings_images(name, size, expected):
    assert view_size(get_model(name, weights=None, weights_backbone=None, **size)) == expected


def test_the_size_of_an_ssd_has_its_height_first():
    net = SMALL["ssd"]()
    net.transform.fixed_size = (96, 32)  # torchvision: width and height
    assert view_size(net) == (32, 96) == tuple(net.transform([torch.rand(3, 50, 50)])[0].tensors.shape[-2:])


class Own(nn.Module):
    """A detector of somebody's own, with the method that makes a view of it."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(3, 6, 3), nn.Conv2d(6, 2, 1)

    def raw_outputs(self, images: torch.Tensor) -> torch.Tensor:
        """Maps."""
        return self.second(self.first(images))

    def forward(self, images: list[torch.Tensor]) -> list[int]:
        """Detections, which cannot be traced."""
        return [int(self.raw_outputs(image[None]).argmax()) for image in images]


def test_a_detector_of_ones_own_has_a_view_by_its_raw_outputs():
    net = Own()
    view = detector_view(net)
    narrow(view, trace(view, EXAMPLE), {"first": [1, 4]})
    assert net.first.out_channels == 2
    assert len(net([torch.rand(3, 8, 8)])) == 1
    assert isinstance(view, Own)


def test_another_network_is_refused():
    with pytest.raises(ValueError, match=r"a detector must be torchvision's SSD, .* or have a method raw_outputs"):
        detector_view(nn.Linear(2, 2))
