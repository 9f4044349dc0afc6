"""Shapes on noise: their boxes are those of their masks, and they are always the same."""

import pytest
import torch
from torchvision.ops import masks_to_boxes
from torchvision.transforms.v2.functional import horizontal_flip
from torchvision.tv_tensors import BoundingBoxes

from pruning_lit.data import CocoShapes
from pruning_lit.data.seeding import generator
from pruning_lit.data.shapes import BRIGHT, CLASSES, DARK, NOISE, boxes_of, draw_mask, draw_scene
from tests.data.detection_batches import assert_alike, epoch, evaluated, joined, on_rank, resumed


def shapes(**settings) -> CocoShapes:
    data = CocoShapes(**({"batch_size": 4, "num_train": 22, "num_test": 7, "seed": 3} | settings))
    data.setup()
    return on_rank(data)


@pytest.mark.parametrize("augmented", [True, False])
def test_boxes_and_areas_are_those_of_the_masks(augmented):
    data = shapes(num_train=60, num_test=60, masks=True)
    images, targets = joined(epoch(data)) if augmented else evaluated(data, data.test_dataloader())
    for image, target in zip(images, targets, strict=True):
        masks = target["masks"]
        assert masks.shape[1:] == image.shape[1:] == (64, 64)
        # torchvision's go from the first pixel to the last, ours from edge to edge
        assert torch.equal(target["boxes"], masks_to_boxes(masks) + torch.tensor([0.0, 0.0, 1.0, 1.0]))
        assert torch.equal(target["area"], masks.sum((1, 2)).float())
        assert target["area"].min() > 30
        assert masks.sum(0).max() == 1  # what is hidden belongs to what hides it
        assert target["labels"].min() >= 1
        assert len({len(target[key]) for key in ("boxes", "labels", "area", "iscrowd", "masks")}) == 1
    assert {len(target["labels"]) for target in targets} == {1, 2, 3, 4}
    assert set(torch.cat([target["labels"] for target in targets]).tolist()) == {1, 2, 3, 4}


def test_all_that_is_bright_is_told():
    least = 0.5 * (DARK[1] + BRIGHT[0])
    for index in range(20):
        image, _, masks = draw_scene(64, generator(index))
        bright = image.float().mean(0) > least
        wrong = (bright != masks.any(0)).float().mean()
        assert wrong < 0.01, NOISE  # noise of single pixels


@pytest.mark.parametrize(("label", "filled"), [(1, torch.pi / 4), (2, 1.0), (3, 0.5), (4, torch.pi / 4 * 0.75)])
def test_each_class_fills_its_box_as_its_shape_does(label, filled):
    for number in range(5):
        mask = draw_mask(label, 400, generator(CLASSES[label], number))
        (box,) = boxes_of(mask[None])
        width, height = box[2:] - box[:2]
        assert 79 <= min(width, height) <= max(width, height) <= 201
        assert mask.sum() / (width * height) == pytest.approx(filled, abs=0.03)


def test_an_image_depends_on_seed_part_and_index_alone():
    few, many = shapes(num_test=3), shapes(num_test=9, num_train=5, seed=8, batch_size=2)
    first, more = (evaluated(data, data.test_dataloader()) for data in (few, many))
    assert_alike(first, (more[0][:3], more[1][:3]))
    another = shapes(shapes_seed=1)
    others = [evaluated(another, another.test_dataloader()), joined(epoch(shapes(num_train=3, flip=False)))]
    for images, _ in others:
        assert not any(torch.equal(image, each) for image in first[0] for each in images)


def test_training_mirrors_one_image_in_two_with_its_boxes_and_masks():
    plain, mirrored = (joined(epoch(shapes(masks=True, flip=flip, num_train=40))) for flip in (False, True))
    flipped = [not torch.equal(*images) for images in zip(plain[0], mirrored[0], strict=True)]
    assert 10 < sum(flipped) < 30
    for number, is_flipped in enumerate(flipped):
        before, after = plain[1][number], mirrored[1][number]
        if is_flipped:
            assert torch.equal(plain[0][number].flip(2), mirrored[0][number])
            assert torch.equal(before["masks"].flip(2), after["masks"])
            boxes = BoundingBoxes(before["boxes"], format="XYXY", canvas_size=(64, 64))
            assert torch.equal(horizontal_flip(boxes).as_subclass(torch.Tensor), after["boxes"])
        else:
            assert torch.equal(before["boxes"], after["boxes"])


def test_an_epoch_resumes_in_its_middle_and_differs_from_others():
    expected = epoch(shapes(masks=True), number=1)
    for batch, again in zip(resumed(shapes(masks=True), number=1, finished=2), expected[2:], strict=True):
        assert_alike(batch, again)
    order = [[int(target["image_id"]) for target in joined(epoch(shapes(), number))[1]] for number in (0, 1)]
    assert order[0] != order[1]
    assert sorted(order[0]) == list(range(22))


def test_the_ranks_batches_together_are_those_of_one_process():
    alone = epoch(shapes(num_train=24))
    ranks = [epoch(on_rank(shapes(num_train=24, batch_size=2), rank, 2)) for rank in range(2)]
    for batch, *shares in zip(alone, *ranks, strict=True):
        assert_alike(batch, joined(shares))


def test_a_held_out_part_is_of_other_images_and_given_as_in_evaluation():
    data = shapes(val_fraction=0.3)
    _, train = joined(epoch(data))
    _, validation = evaluated(data, data.val_dataloader())
    ids = [sorted(int(target["image_id"]) for target in part) for part in (train, validation)]
    assert sorted(ids[0] + ids[1]) == list(range(22))
    assert len(ids[1]) == 7
    assert all(target["size"].tolist() == [64, 64] for target in validation)
    assert not any("size" in target for target in train)


def test_calibration_gives_images_as_trained_whatever_the_processes():
    data = shapes()
    alone = joined(data.calibration(9, seed=1))
    ranks = [list(data.calibration(9, 1, rank=rank, world_size=2, batch_size=2)) for rank in range(2)]
    assert_alike(alone, joined(batch for batches in zip(*ranks, strict=True) for batch in batches))
    assert len(alone[0]) == 9
    assert "size" not in alone[1][0]
    assert len(data.sample_targets()) == 16


def test_classes_and_shapes_are_known_after_setup():
    data = shapes(image_size=96)
    assert data.classes == ["background", "disc", "rectangle", "triangle", "ring"]
    assert (data.num_classes, data.category_ids, data.shape) == (5, [0, 1, 2, 3, 4], (3, 96, 96))
    assert torch.equal(data.example, torch.zeros(1, 3, 96, 96))
    assert data.facts() == {"classes": data.classes, "category_ids": data.category_ids}
    image = epoch(data)[0][0][0]
    assert image.dtype == torch.float32
    assert 0 <= image.min() < 0.2 < 0.5 < image.max() <= 1


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"num_train": 1}, r"num_train is 1 and dataset\.num_test 7"),
        ({"num_test": 0}, r"num_train is 22 and dataset\.num_test 0"),
        ({"image_size": 31}, r"image_size is 31, but shapes can be told apart from 32 pixels on"),
        ({"batch_size": 0}, r"dataset\.batch_size is 0"),
    ],
)
def test_a_wrong_setting_is_refused_in_a_sentence(settings, sentence):
    with pytest.raises(ValueError, match=sentence):
        shapes(**settings)
