"""SSD300 against the released one: default boxes, matching, loss, detections, and the whole network."""

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torchvision.ops import box_convert

from pruning_lit.models import ssd300_resnet50
from pruning_lit.models.ssd_network import ClampedDefaultBoxes, SingleShotDetector
from tests.models.detection_golden import Given, arrays, assert_probed, fill, filled, golden, ordered, predictions

BOXES = arrays("default_boxes")
SSD = golden("ssd")
GRIDS = {"small": [4, 2, 1], "300": [38, 19, 10, 5, 3, 1]}


def size_of(case: str) -> str:
    return "300" if case == "ssd300" else "small"


def detector(size: str, num_classes: int, **options: object) -> SingleShotDetector:
    """The network around given predictions: its default boxes are those of the real one, or of the small grid."""
    side = 300 if size == "300" else 64
    maps = {str(i): torch.zeros(1, 1, grid, grid, dtype=torch.float64) for i, grid in enumerate(GRIDS[size])}
    if size == "300":
        generator = ssd300_resnet50(num_classes).anchor_generator
    else:
        config = SSD["small_config"]
        scales = [scale / side for scale in config["scales"]]
        generator = ClampedDefaultBoxes(config["aspect_ratios"], scales=scales, steps=config["steps"])
    return SingleShotDetector(
        backbone=Given(maps),
        anchor_generator=generator,
        head=nn.Identity(),
        size=(side, side),
        num_classes=num_classes,
        **options,
    )


def images(size: str, count: int) -> list[Tensor]:
    side = 300 if size == "300" else 64
    return [torch.zeros(3, side, side, dtype=torch.float64) for _ in range(count)]


def target(boxes: np.ndarray, labels: np.ndarray, size: str) -> dict[str, Tensor]:
    side = 300 if size == "300" else 64
    return {"boxes": torch.from_numpy(boxes).double().reshape(-1, 4) * side, "labels": torch.from_numpy(labels).long()}


@pytest.mark.parametrize("size", GRIDS)
def test_default_boxes_are_the_released_ones(size):
    side = 300 if size == "300" else 64
    generator = detector(size, 5).anchor_generator
    grids = [[grid, grid] for grid in GRIDS[size]]
    boxes = generator._grid_default_boxes(grids, [side, side])
    expected = torch.from_numpy(BOXES[f"xywh{'300' if size == '300' else '_small'}"])
    order = torch.from_numpy(BOXES[f"torchvision_order{'300' if size == '300' else '_small'}"]).long()
    torch.testing.assert_close(boxes, expected[order], rtol=0, atol=1e-6)


def matched(name: str) -> tuple[Tensor, Tensor, Tensor]:
    """Of every default box in the original's order: the number of its annotated box, and its code; and these boxes."""
    vectors = arrays("matching")
    net = detector("300", 81)
    heard = []

    def listen(targets, outputs, anchors, matches):
        codes = net.box_coder.encode_single(targets[0]["boxes"][matches[0].clamp(min=0)], anchors[0])
        heard.append((matches[0], codes))
        return {}

    net.compute_loss, net.head = listen, Given({})
    net.train()(images("300", 1), [target(vectors[f"{name}_boxes"], vectors[f"{name}_labels"], "300")])
    [(matches, codes)] = heard
    original = torch.from_numpy(BOXES["torchvision_order300"]).long().argsort()
    return matches[original], codes[original], torch.from_numpy(vectors[f"{name}_boxes"])


@pytest.mark.parametrize("name", ["one_per_size", "crowd"])
def test_matching_is_the_released_one(name):
    vectors = arrays("matching")
    matches, codes, boxes = matched(name)
    positive = (matches >= 0).nonzero().flatten()
    assert positive.tolist() == vectors[f"{name}_positive"].tolist()
    labels = torch.from_numpy(vectors[f"{name}_labels"])
    assert labels[matches[positive]].tolist() == vectors[f"{name}_positive_label"].tolist()
    found = box_convert(boxes[matches[positive]], "xyxy", "cxcywh")
    torch.testing.assert_close(found, torch.from_numpy(vectors[f"{name}_positive_box_xywh"]), rtol=0, atol=1e-6)
    expected = torch.from_numpy(vectors[f"{name}_positive_code"])
    torch.testing.assert_close(codes[positive].float(), expected, rtol=0, atol=2e-5)
    best = torch.from_numpy(vectors[f"{name}_best_default_box"]).long()
    assert (matches[best] >= 0).all()


def test_a_box_that_fits_several_equally_gets_one_of_them():
    matches, _, boxes = matched("tiny")
    tied = SSD["matching"]["tiny"]["tied_best_default_boxes"]
    for number in range(len(boxes)):
        [chosen] = (matches == number).nonzero().flatten().tolist()
        assert chosen in tied[number]


@pytest.mark.parametrize("case", ["small", "ssd300"])
def test_loss_and_its_gradients_are_the_released_ones(case):
    size, expected = size_of(case), SSD["loss"][case]
    order = BOXES[f"torchvision_order{'300' if size == '300' else '_small'}"]
    if case == "small":
        vectors = arrays("loss")
        targets = [target(vectors[f"small_boxes{i}"], vectors[f"small_labels{i}"], size) for i in range(3)]
    else:
        vectors = arrays("matching")
        targets = [target(vectors[f"{name}_boxes"], vectors[f"{name}_labels"], size) for name in expected["targets"]]
    given = predictions(expected, len(targets), len(order), expected["ploc_scale"])
    codes, logits = (each.requires_grad_() for each in given)
    net = detector(size, expected["classes"])
    net.head = Given({"bbox_regression": ordered(codes, order), "cls_logits": ordered(logits, order)})
    losses = net.train()(images(size, len(targets)), targets)
    loss = losses["bbox_regression"] + losses["classification"]
    assert loss.item() == pytest.approx(expected["loss"], rel=1e-6)
    parts = {"bbox_regression": "loc_part", "classification": "conf_part"}
    for name, part in parts.items():
        each = [value / max(1, count) for value, count in zip(expected[part], expected["positives"], strict=True)]
        assert losses[name].item() == pytest.approx(sum(each) / len(each), rel=1e-6)
    loss.backward()
    for tensor, name in ((codes, "ploc_grad"), (logits, "plabel_grad")):
        if case == "small":
            torch.testing.assert_close(tensor.grad, torch.from_numpy(vectors[f"small_{name}"]), rtol=1e-6, atol=1e-7)
        else:
            probe = expected[name]
            found, wanted = tensor.grad.flatten()[probe["index"]], torch.tensor(probe["value"], dtype=torch.float64)
            torch.testing.assert_close(found, wanted, rtol=1e-6, atol=1e-7)
            assert tensor.grad.abs().sum().item() == pytest.approx(probe["sum_abs"], rel=1e-6)


def test_normalised_by_the_batch_it_is_torchvisions():
    vectors, expected = arrays("loss"), SSD["loss"]["small"]
    order = BOXES["torchvision_order_small"]
    targets = [target(vectors[f"small_boxes{i}"], vectors[f"small_labels{i}"], "small") for i in range(3)]
    codes, logits = predictions(expected, 3, len(order), expected["ploc_scale"])
    net = detector("small", expected["classes"], normalise="batch")
    net.head = Given({"bbox_regression": ordered(codes, order), "cls_logits": ordered(logits, order)})
    losses = net.train()(images("small", 3), targets)
    total = sum(expected["positives"])
    assert losses["bbox_regression"].item() == pytest.approx(sum(expected["loc_part"]) / total, rel=1e-6)
    assert losses["classification"].item() == pytest.approx(sum(expected["conf_part"]) / total, rel=1e-6)


@pytest.mark.parametrize("case", ["small", "small_capped", "ssd300"])
def test_detections_are_the_released_ones_of_clipped_boxes(case):
    size, expected, vectors = size_of(case), SSD["decode"][case], arrays("decode")
    side = 300 if size == "300" else 64
    order = BOXES[f"torchvision_order{'300' if size == '300' else '_small'}"]
    count = expected["num_images"]
    codes, logits = predictions(expected, count, len(order), background=expected["background_shift"])
    thresholds = {"score_thresh": 0.05, "topk_candidates": 200}
    net = detector(
        size,
        expected["classes"],
        nms_thresh=expected["nms_iou"],
        detections_per_img=expected["max_output"],
        **thresholds,
    )
    net.head = Given({"bbox_regression": ordered(codes, order), "cls_logits": ordered(logits, order)})
    for number, found in enumerate(net.eval()(images(size, count))):
        wanted = {key: vectors[f"{case}{number}_clipped_{key}"] for key in ("boxes", "labels", "scores")}
        backwards = {key: each.flip(0) for key, each in found.items()}  # ascending by score
        assert backwards["labels"].tolist() == wanted["labels"].tolist()
        torch.testing.assert_close(backwards["scores"], torch.from_numpy(wanted["scores"]), rtol=0, atol=1e-9)
        torch.testing.assert_close(backwards["boxes"] / side, torch.from_numpy(wanted["boxes"]), rtol=0, atol=1e-5)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_boxes_are_precise_in_mixed_precision(dtype):
    order = BOXES["torchvision_order300"]
    codes, logits = (each.to(dtype) for each in predictions(SSD["decode"]["ssd300"], 1, len(order)))
    found = []
    for precision in (dtype, torch.float64):  # the same predictions, once in a precision that has no pixels
        net = detector("300", 81)
        outputs = {"bbox_regression": ordered(codes, order), "cls_logits": ordered(logits, order)}
        net.head = Given({name: each.to(precision) for name, each in outputs.items()})
        net.backbone.result = {name: each.to(precision) for name, each in net.backbone.result.items()}
        found.append(net.eval()([torch.zeros(3, 300, 300)])[0])
    assert found[0]["boxes"].dtype == torch.float32
    torch.testing.assert_close(found[0]["boxes"], found[1]["boxes"].float(), rtol=0, atol=1e-3)


def test_ssd300_detects_with_the_released_thresholds():
    net = ssd300_resnet50(3)
    assert (net.score_thresh, net.nms_thresh, net.topk_candidates, net.detections_per_img) == (0.05, 0.5, 200, 200)
    assert net.neg_to_pos_ratio == 3


RENAMED = {
    "feature_extractor.feature_extractor.0.": "backbone.body.conv1.",
    "feature_extractor.feature_extractor.1.": "backbone.body.bn1.",
    "feature_extractor.feature_extractor.4.": "backbone.body.layer1.",
    "feature_extractor.feature_extractor.5.": "backbone.body.layer2.",
    "feature_extractor.feature_extractor.6.": "backbone.body.layer3.",
    "additional_blocks.": "backbone.extra.",
    "loc.": "head.regression_head.module_list.",
    "conf.": "head.classification_head.module_list.",
}


def ours(name: str, tensor: Tensor) -> tuple[str, Tensor]:
    """Name and tensor as our SSD300 has them: heads put out classes by anchor, not anchors by class."""
    [(old, new)] = [item for item in RENAMED.items() if name.startswith(item[0])]
    if (columns := {"loc.": 4, "conf.": 81}.get(old)) is not None:
        tensor = tensor.view(columns, -1, *tensor.shape[1:]).transpose(0, 1).reshape(tensor.shape)
    return name.replace(old, new), tensor


def test_the_filled_network_says_what_the_released_one_says():
    probes = golden("networks")["ssd300"]
    tensors = filled(probes["layout"], probes["seed"])
    net = fill(ssd300_resnet50(), dict(ours(*each) for each in tensors.items()))
    picture = np.random.RandomState(probes["picture_seed"]).uniform(-2, 2, (1, 3, 300, 300))
    with torch.no_grad():
        maps = list(net.backbone(torch.from_numpy(picture)).values())
        outputs = net.head(maps)
    for found, probe in zip(maps, probes["features"], strict=True):
        assert_probed(found, probe, 1e-8)
    original = torch.from_numpy(BOXES["torchvision_order300"]).long().argsort()
    assert_probed(outputs["bbox_regression"][:, original].transpose(1, 2), probes["loc"], 1e-8)
    assert_probed(outputs["cls_logits"][:, original].transpose(1, 2), probes["conf"], 1e-8)
