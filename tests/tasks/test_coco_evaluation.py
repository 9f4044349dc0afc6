"""``evaluate`` on real annotations of COCO: the figures of COCO's own code on its files."""

import json
import tarfile

import numpy as np
import pytest
import torch
from pycocotools import mask as codes
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval
from torch import Tensor, nn

from pruning_lit.data import Coco
from pruning_lit.tasks import Detection, InstanceSegmentation, evaluate
from pruning_lit.tasks.coco_precision import FIGURES
from pruning_lit.tasks.detection import at_original_size
from tests.conftest import shared_file

SIZE = (96, 128)  # to which images are brought


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    archive, folder = shared_file("data/coco_tiny.tar.gz"), tmp_path_factory.mktemp("coco_tiny")
    with tarfile.open(archive) as file:
        file.extractall(folder, filter="data")
    (annotations,) = folder.rglob("instances_val2017.json")
    return annotations.parents[1]


class Remembering(nn.Module):
    """A detector that finds what is annotated, moved a little, some of it under another name, in the resized image."""

    def __init__(self, annotations: COCO, masks: bool) -> None:
        super().__init__()
        self.weight, self.annotations, self.masks = nn.Parameter(torch.zeros(1)), annotations, masks
        self.images = iter([each["id"] for each in annotations.dataset["images"]])
        self.results: list[dict] = []

    def forward(self, images: list[Tensor]) -> list[dict[str, Tensor]]:
        return [self.found(next(self.images), image) for image in images]

    def found(self, number: int, image: Tensor) -> dict[str, Tensor]:
        assert image.shape[1:] == SIZE
        entry, random = self.annotations.imgs[number], np.random.RandomState(number % 1000)
        scale = np.array([SIZE[1] / entry["width"], SIZE[0] / entry["height"]] * 2)
        boxes, labels, masks = [], [], []
        for each in self.annotations.imgToAnns[number]:
            left, top, width, height = each["bbox"]
            boxes.append(np.array([left, top, left + width, top + height]) + random.normal(0, 0.04 * width, 4))
            boxes[-1][2:] = np.maximum(boxes[-1][2:], boxes[-1][:2] + 1)
            labels.append(each["category_id"] if random.uniform() < 0.8 else random.randint(1, 90))
            masks.append(np.roll(self.annotations.annToMask(each), random.randint(-3, 4), 1))
        found = {
            "boxes": torch.tensor(np.array(boxes).reshape(-1, 4) * scale).float(),
            "labels": torch.tensor(labels).long(),
        }
        found["scores"] = torch.tensor(random.uniform(0.05, 1, len(labels))).float()
        if self.masks:
            planes = torch.tensor(np.array(masks).reshape(-1, entry["height"], entry["width"])).float()
            found["masks"] = nn.functional.interpolate(planes[:, None], size=SIZE, mode="bilinear", antialias=True)
        self.results.append({"image_id": number, **found})
        return found


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["bbox", "segm"])
def test_the_figures_are_those_of_cocos_code_on_its_files(root, kind, capsys):
    masks = kind == "segm"
    truth = COCO(str(root / "annotations" / "instances_val2017.json"))
    pairs = {part: [f"{part}2017", f"annotations/instances_{part}2017.json"] for part in ("train", "val")}
    data = Coco(
        root, train=[pairs["train"]], test=pairs["val"], batch_size=7, image_size=list(SIZE), masks=masks, num_workers=0
    )
    data.setup()
    task = (InstanceSegmentation if masks else Detection)(data.num_classes)
    net = Remembering(truth, masks)
    figures = evaluate(net, data, task)
    results = []
    for found in net.results:
        target = {"size": torch.tensor([truth.imgs[found["image_id"]][key] for key in ("height", "width")])}
        there = at_original_size(found, SIZE, target)
        for i, (left, top, right, bottom) in enumerate(there["boxes"].double().tolist()):
            result = {"image_id": found["image_id"], "category_id": int(found["labels"][i])}
            result["score"] = float(found["scores"][i])
            if masks:
                result["segmentation"] = codes.encode(np.asfortranarray(there["masks"][i].numpy().astype(np.uint8)))
            else:
                result["bbox"] = [left, top, right - left, bottom - top]
            results.append(result)
    evaluation = COCOeval(truth, truth.loadRes(json.loads(json.dumps(results)) if not masks else results), kind)
    evaluation.evaluate()
    evaluation.accumulate()
    evaluation.summarize()
    prefix = "mask_" if masks else ""
    for name, value in zip(FIGURES, evaluation.stats[:6], strict=True):
        assert figures[f"{prefix}{name}"] == pytest.approx(value, abs=5e-4), name
    assert 0.1 < figures[f"{prefix}ap"] < 0.9
