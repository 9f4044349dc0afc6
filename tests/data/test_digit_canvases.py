"""Digits on canvases: what is on them, and that it is always the same."""

import pytest
import torch
from torch import Tensor

from pruning_lit.data.digit_canvases import Canvases, MultiLabelDigits, SegmentedDigits, draw_canvases

GREY = torch.arange(1, 11, dtype=torch.uint8)[:, None, None].mul(20).expand(10, 12, 12)  # the digit tells its grey
STATISTICS = {"mean": [0.1] * 3, "std": [0.2] * 3}


def drawn(num_images: int, seed: int = 0) -> Canvases:
    return draw_canvases(GREY, torch.arange(10), num_images, seed)


def test_labels_and_masks_tell_what_is_on_the_images():
    canvases = drawn(200)
    assert torch.equal(canvases.images[:, 0], canvases.images[:, 2])
    digits = canvases.images[:, 0].long() // 20  # 0: background
    assert torch.equal(canvases.masks, torch.where(digits > 3, digits, 0))  # fainter ones are no ink
    for image, labels in zip(digits, canvases.labels, strict=True):
        assert sorted(set(image.flatten().tolist()) - {0}) == (labels.nonzero().flatten() + 1).tolist()
    assert set((digits > 0).flatten(1).sum(1).tolist()) == {144, 288, 432, 576}  # one to four, none over another


def test_a_canvas_depends_on_seed_and_index_alone():
    few, many, other = drawn(5), drawn(9), drawn(9, seed=1)
    assert torch.equal(few.images, many.images[:5])
    assert torch.equal(few.masks, many.masks[:5])
    assert not torch.equal(many.images, other.images)


def batches(data, loader) -> list[Tensor]:
    data.setup()
    return [targets for _, targets, _ in loader()]


def test_targets_come_with_their_images():
    data = SegmentedDigits(8, **STATISTICS, num_train=20, num_test=6, val_fraction=0.2)
    data.setup()
    assert (data.num_classes, data.shape, data.num_training) == (11, (3, 32, 32), 16)
    for images, masks, _ in data.train_dataloader():
        assert masks.shape == (len(images), 32, 32)
        assert ((images[:, 0] >= 64) == (masks > 0)).all()
    assert sum(len(masks) for _, masks, _ in data.val_dataloader()) == 4
    assert sum(len(masks) for _, masks, _ in data.test_dataloader()) == 6


def test_labels_are_those_of_the_masks_and_the_test_part_has_other_digits():
    labelled, segmented = (
        kind(8, **STATISTICS, num_train=30, num_test=30) for kind in (MultiLabelDigits, SegmentedDigits)
    )
    labels, masks = (torch.cat(batches(data, data.test_dataloader)) for data in (labelled, segmented))
    found = torch.stack([(masks == digit + 1).flatten(1).any(1) for digit in range(10)], dim=1)
    assert torch.equal(found, labels.bool())
    assert not torch.equal(labels, torch.cat(batches(labelled, labelled.train_dataloader))[:30])
    assert labelled.num_classes == 10


def test_too_few_canvases_are_refused():
    with pytest.raises(ValueError, match=r"num_train is 1 and dataset\.num_test 5"):
        MultiLabelDigits(8, **STATISTICS, num_train=1, num_test=5)
