"""COCO's average precision, held against COCO's own evaluation code."""

import numpy as np
import pytest
import torch
from pycocotools import mask as run_lengths
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from pruning_lit.tasks.coco_precision import FIGURES, NO_BACKEND, CocoPrecision, names_of_figures

KINDS = {"": "bbox", "mask_": "segm"}


def ellipse(box, height, width):
    left, top, right, bottom = box
    y, x = np.mgrid[:height, :width]
    across, down = (x - (left + right) / 2) / (right - left), (y - (top + bottom) / 2) / (bottom - top)
    return (across**2 + down**2 <= 0.25).astype(np.uint8)


def scene(number):
    """Target of an image and made-up detections in it: moved objects, inventions, and some with the wrong class."""
    random = np.random.RandomState(number)
    height, width = random.randint(120, 260, 2)
    count = 0 if number == 3 else random.randint(1, 7)  # one image without objects
    size = random.uniform(8, 110, (count, 2)) * random.choice([0.3, 1, 2], (count, 1))
    corner = random.uniform(0, 1, (count, 2)) * np.clip([width, height] - size, 1, None)
    boxes = np.concatenate([corner, np.minimum(corner + size, [width, height])], 1)
    masks = np.array([ellipse(box, height, width) for box in boxes]).reshape(-1, height, width)
    labels = random.randint(1, 5, count)
    target = {
        "boxes": boxes, "labels": labels, "masks": masks, "area": masks.sum((1, 2)), "image_id": np.array(number),
        "iscrowd": (random.uniform(size=count) < 0.15).astype(int),
    }  # fmt: skip
    moved = np.concatenate([boxes + random.normal(0, 4, boxes.shape), random.uniform(0, 100, (2, 4)).cumsum(1)])
    moved[:, 2:] = np.maximum(moved[:, 2:], moved[:, :2] + 2)
    told = np.where(random.uniform(size=count) < 0.2, labels % 4 + 1, labels)
    found = {
        "boxes": moved, "labels": np.concatenate([told, random.randint(1, 5, 2)]),
        "scores": random.uniform(size=len(moved)).round(2),  # some are equal
        "masks": np.array([ellipse(box, height, width) for box in moved]),
    }  # fmt: skip
    return tensors(found), tensors(target)


def tensors(arrays):
    dtypes = {"boxes": torch.float32, "scores": torch.float32, "area": torch.float32, "masks": torch.uint8}
    return {key: torch.as_tensor(value, dtype=dtypes.get(key, torch.int64)) for key, value in arrays.items()}


def boolean(found):
    return {**found, "masks": found["masks"].bool()}


SCENES = [scene(number) for number in range(24)]


def coded(mask):
    return run_lengths.encode(np.asfortranarray(mask.numpy().astype(np.uint8)))


def official(kind):
    """The figures by COCO's own code, from annotations and results as COCO has them in files."""
    annotations, results = [], []
    for found, target in SCENES:
        image = int(target["image_id"])
        for i, (left, top, right, bottom) in enumerate(target["boxes"].tolist()):
            annotations.append(
                {
                    "id": len(annotations) + 1, "image_id": image, "category_id": int(target["labels"][i]),
                    "bbox": [left, top, right - left, bottom - top], "segmentation": coded(target["masks"][i]),
                    "area": float(target["area"][i]), "iscrowd": int(target["iscrowd"][i]),
                }
            )  # fmt: skip
        for i, (left, top, right, bottom) in enumerate(found["boxes"].tolist()):
            where = {"bbox": [left, top, right - left, bottom - top]} if kind == "bbox" else {}
            results.append(
                {
                    "image_id": image, "category_id": int(found["labels"][i]), "score": float(found["scores"][i]),
                    "segmentation": coded(found["masks"][i]), **where,
                }
            )  # fmt: skip
    truth = COCO()
    truth.dataset = {
        "images": [
            {"id": number, "height": target["masks"].shape[1], "width": target["masks"].shape[2]}
            for number, (_, target) in enumerate(SCENES)
        ],
        "annotations": annotations,
        "categories": [{"id": number} for number in range(1, 5)],
    }
    truth.createIndex()
    evaluation = COCOeval(truth, truth.loadRes(results), kind)
    evaluation.evaluate()
    evaluation.accumulate()
    evaluation.summarize()
    return dict(zip(FIGURES, evaluation.stats[:6], strict=True))


def ours(scenes, masks=False):
    metric = CocoPrecision(masks, over_ranks=False)
    for found, target in scenes:
        metric.update([boolean(found)], [target])
    return {name: float(value) for name, value in metric.compute().items()}


@pytest.mark.parametrize("prefix", KINDS)
def test_the_figures_are_those_of_cocos_code(prefix, capsys):
    figures = ours(SCENES, masks=True)
    expected = official(KINDS[prefix])
    assert 0.05 < expected["ap"] < 0.95
    for name, value in expected.items():
        assert figures[f"{prefix}{name}"] == pytest.approx(value, abs=1e-6), name


def test_areas_and_crowds_count():
    plain = [(found, {key: value for key, value in target.items() if key != "area"}) for found, target in SCENES]
    alone = [(found, {**target, "iscrowd": torch.zeros_like(target["iscrowd"])}) for found, target in SCENES]
    whole = ours(SCENES)
    boxes = ours(plain)  # the areas are those of the boxes, then
    assert boxes["ap"] == whole["ap"]
    assert any(boxes[name] != pytest.approx(whole[name], abs=1e-4) for name in ("ap_small", "ap_medium", "ap_large"))
    assert ours(alone)["ap"] != pytest.approx(whole["ap"], abs=1e-4)


def test_the_order_of_the_images_does_not_count():
    assert ours(SCENES[::-1], masks=True) == ours(SCENES, masks=True)


def test_a_size_that_no_object_has_has_no_figure():
    large = [(found, {**target, "area": torch.full_like(target["area"], 1e5)}) for found, target in SCENES]
    figures = ours(large)
    assert list(figures) == names_of_figures(masks=False) == list(FIGURES)
    assert np.isnan(figures["ap_small"])
    assert figures["ap_large"] == pytest.approx(figures["ap"], abs=0.2)


def test_a_reset_forgets_all_images():
    metric = CocoPrecision(False, over_ranks=False)
    metric.update([SCENES[0][0]], [SCENES[0][1]])
    metric.reset()
    for found, target in SCENES[1:]:
        metric.update([found], [target])
    assert {name: float(value) for name, value in metric.compute().items()} == ours(SCENES[1:])


def test_without_a_package_one_sentence_says_which(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ValueError, match="detection") as refusal:
        CocoPrecision(False, over_ranks=False)
    assert str(refusal.value) == NO_BACKEND
