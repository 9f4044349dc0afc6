"""The release's random windows, held against golden ones."""

import json

import pytest
import torch
from PIL import Image

from pruning_lit.data import iou_crop
from pruning_lit.data.boxed_images import BoxedPreparation
from tests.places import ROOT

CROPS = json.loads((ROOT / "tests/golden/detection/ssd.json").read_text())["crop"]


@pytest.mark.parametrize("case", CROPS, ids=range(len(CROPS)))
def test_a_given_window_keeps_and_cuts_the_boxes_that_the_release_does(case, monkeypatch):
    height, width = case["picture_hw"]
    window = torch.tensor([case["left"], case["top"], case["left"] + case["w"], case["top"] + case["h"]])
    boxes, least = torch.tensor(case["boxes"]), -1.0 if case["min_iou"] is None else case["min_iou"]
    kept = iou_crop.inside(boxes, window, least)
    assert kept.any() == case["accepted"]
    if not case["accepted"]:
        return
    monkeypatch.setattr("pruning_lit.data.boxed_images.draw_window", lambda boxes: (window, kept))
    preparation = BoxedPreparation(None, "every", flip=False, colour=None)
    target = {"boxes": boxes * torch.tensor([width, height] * 2), "labels": torch.tensor(case["labels"])}
    image, cropped = preparation.for_training(Image.new("RGB", (width, height)), target, seed=0)
    assert list(image.shape[1:]) == case["size_hw"]
    assert cropped["labels"].tolist() == case["out_labels"]
    shares = cropped["boxes"] / torch.tensor([image.shape[2], image.shape[1]] * 2)
    torch.testing.assert_close(shares, torch.tensor(case["out_boxes"]), rtol=0, atol=1e-5)


def test_there_are_accepted_and_refused_windows_among_them():
    assert [case["accepted"] for case in CROPS].count(True) == 10 == len(CROPS) / 2


def test_drawn_windows_obey_the_rules():
    boxes = torch.tensor([[0.1, 0.1, 0.6, 0.7], [0.3, 0.2, 0.9, 0.9]])
    torch.manual_seed(0)
    drawn = [iou_crop.draw_window(boxes) for _ in range(2000)]
    windows = torch.stack([each[0] for each in drawn if each is not None])
    sides = windows[:, 2:] - windows[:, :2]
    assert 0.3 <= sides.min() < 0.33
    assert 0.97 < sides.max() <= 1
    ratio = sides[:, 0] / sides[:, 1]
    assert 0.5 <= ratio.min() < 0.6
    assert 1.7 < ratio.max() <= 2
    assert windows.min() >= 0
    assert windows.max() <= 1
    assert all(each[1].any() for each in drawn if each is not None)
    assert {tuple(each[1].tolist()) for each in drawn if each is not None} >= {(True, True), (True, False)}
    assert 0.3 < sum(each is None for each in drawn) / 2000 < 0.8  # a refused window draws the rule anew


def test_every_box_has_to_reach_the_least_iou():
    boxes, window = torch.tensor([[0.0, 0.0, 0.5, 1.0], [0.5, 0.0, 0.6, 0.1]]), torch.tensor([0.0, 0.0, 0.6, 1.0])
    assert iou_crop.inside(boxes, window, -1.0).tolist() == [True, True]
    assert iou_crop.inside(boxes, window, 0.5).tolist() == [False, False]  # the second has an IoU of 1 / 60
    assert iou_crop.inside(boxes[:1], window, 0.5).tolist() == [True]
    assert torch.allclose(iou_crop.cut_boxes(boxes, window)[0], torch.tensor([0.0, 0.0, 5 / 6, 1.0]))
