"""Mask R-CNN with group norm: the released body and pyramid, counts by part, and a narrow one that learns."""

import numpy as np
import pytest
import torch
from torchvision.ops import box_iou

from pruning_lit.channels import ChannelGraph, cost, mask, narrow, trace, verify
from pruning_lit.models import maskrcnn_resnet50_fpn_gn, maskrcnn_small
from pruning_lit.models.detector_views import detector_view
from tests.channels.chance import random_kept
from tests.models.detection_golden import assert_probed, fill, filled, golden
from tests.models.detector_counts import macs_by_part, params_by_part
from tests.models.small_detectors import training_batch

COUNTS = golden("counts")["maskrcnn_resnet50_fpn_gn"]
PARTS = {"backbone.body": "body", "backbone.fpn": "fpn", "rpn.head": "rpn"}


@pytest.fixture(scope="module")
def graph() -> ChannelGraph:
    view = detector_view(maskrcnn_resnet50_fpn_gn().eval())
    return trace(view, torch.zeros(1, 3, 224, 224)).with_regions(view.regions)


def test_the_parts_have_the_released_counts(graph):
    macs, params = macs_by_part(graph, depth=2), params_by_part(graph, depth=2)
    expected = COUNTS["at"]["224x224"]
    assert cost(graph).macs == expected["with_1000_boxes_100_masks"]
    assert {name: macs[name] for name in PARTS} == {name: expected[part] for name, part in PARTS.items()}
    boxes = macs["roi_heads.box_head"] + macs["roi_heads.box_predictor"]
    masks = macs["roi_heads.mask_head"] + macs["roi_heads.mask_predictor"]
    assert (boxes, masks) == (1000 * COUNTS["per_box_proposal"], 100 * COUNTS["per_mask_proposal"])
    assert cost(graph).params == COUNTS["params"]["total"] == 44_405_813
    assert {name: params[name] for name in PARTS} == {name: COUNTS["params"][part] for name, part in PARTS.items()}
    for head in ("box", "mask"):
        there = params[f"roi_heads.{head}_head"] + params[f"roi_heads.{head}_predictor"]
        assert there == COUNTS["params"][f"{head}_head"]


@pytest.mark.slow
@pytest.mark.parametrize("size", [(800, 1088), (800, 1344)])
def test_the_parts_have_the_released_counts_in_large_images(size):
    view = detector_view(maskrcnn_resnet50_fpn_gn().eval())
    graph = trace(view, torch.zeros(1, 3, *size)).with_regions(view.regions)
    macs, expected = macs_by_part(graph, depth=2), COUNTS["at"]["{}x{}".format(*size)]
    assert cost(graph).macs == expected["with_1000_boxes_100_masks"]
    assert {name: macs[name] for name in PARTS} == {name: expected[part] for name, part in PARTS.items()}


def test_half_of_the_groups_of_every_block_cost_what_the_released_ones_do(graph):
    inner = [
        group for group in graph.prunable if group.name.startswith("backbone.body.layer") and "conv3" not in group.name
    ]
    assert {group.size for group in inner} == {32}  # whole groups of normalisation, whatever the width
    kept = {group.name: list(range(16)) for group in inner}
    saved = COUNTS["at"]["224x224"]["body"] - COUNTS["at"]["224x224"]["body_uniform_0.5_full"]
    assert cost(graph).macs - cost(graph, kept).macs == saved


def ours(name: str) -> str:
    """Name of a tensor in our backbone."""
    for number in range(1, 5):
        name = name.replace(f"fpn.fpn_inner{number}.", f"fpn.inner_blocks.{number - 1}.")
        name = name.replace(f"fpn.fpn_layer{number}.", f"fpn.layer_blocks.{number - 1}.")
    return name.replace("body.stem.", "body.")


def test_the_filled_backbone_says_what_the_released_one_says():
    probes = golden("networks")["maskrcnn_backbone"]
    tensors = filled(probes["layout"], probes["seed"])
    backbone = fill(maskrcnn_resnet50_fpn_gn().backbone, {ours(name): each for name, each in tensors.items()})
    random = np.random.RandomState(probes["picture_seed"])
    picture = torch.from_numpy(random.uniform(-120, 120, probes["picture"]))
    with torch.no_grad():
        stages = list(backbone.body(picture).values())
        pyramid = list(backbone(picture).values())
    for found, probe in [*zip(stages, probes["body"], strict=True), *zip(pyramid, probes["pyramid"], strict=True)]:
        assert_probed(found, probe, 1e-8)


def test_a_narrow_one_is_cut_and_runs():
    torch.manual_seed(0)
    net, images = maskrcnn_small(image_size=64).eval(), torch.randn(2, 3, 64, 64)
    graph = trace(detector_view(net), images[:1])
    kept = random_kept(graph, seed=0)
    masked = maskrcnn_small(image_size=64)
    masked.load_state_dict(net.state_dict())
    mask(detector_view(masked), graph, kept)
    narrow(detector_view(net), graph, kept)
    assert verify(detector_view(net), detector_view(masked), images) < 1e-5
    assert "masks" in net([torch.rand(3, 64, 64)])[0]


def test_an_image_in_which_nothing_is_found_has_no_masks():
    net = maskrcnn_small(image_size=64).eval()
    net.roi_heads.score_thresh = 2.0
    assert net([torch.rand(3, 50, 64)])[0]["masks"].shape == (0, 1, 50, 64)


@pytest.mark.slow
def test_a_narrow_one_learns_two_images_by_heart():
    torch.manual_seed(0)
    images, targets = training_batch()
    net = maskrcnn_small(image_size=64)
    optimizer = torch.optim.SGD(net.parameters(), lr=0.01, momentum=0.9)
    history = []
    for _ in range(90):
        losses = net(images, targets)
        optimizer.zero_grad()
        sum(losses.values()).backward()
        optimizer.step()
        history.append({name: loss.item() for name, loss in losses.items()})
    assert len(history[0]) == 5
    for name in history[0]:
        first, last = (sum(losses[name] for losses in part) for part in (history[:10], history[-10:]))
        assert last < first, name
    for found, target in zip(net.eval()(images), targets, strict=True):
        overlap, which = box_iou(target["boxes"], found["boxes"][found["scores"] > 0.5]).max(1)
        assert (overlap > 0.8).all()
        assert torch.equal(found["labels"][which], target["labels"])
        masks = found["masks"][which, 0] > 0.5
        assert ((masks & (target["masks"] > 0)).sum((1, 2)) > 0.8 * (masks | (target["masks"] > 0)).sum((1, 2))).all()


def test_the_narrow_one_has_the_parameters_that_it_tells():
    assert sum(parameter.numel() for parameter in maskrcnn_small().parameters()) == 698_869


@pytest.mark.parametrize("width", [0, 2, 9])
def test_a_width_that_has_no_groups_is_refused(width):
    with pytest.raises(ValueError, match=rf"arch\.width must be even and at least 4, got {width}"):
        maskrcnn_small(width=width)
