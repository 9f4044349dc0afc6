"""COCO's layout: what is read, what is trained on, and how images, boxes and masks stay together."""

import json
import os
import signal
from pathlib import Path

import pytest
import torch
from PIL import Image
from torchvision.ops import masks_to_boxes
from torchvision.transforms.functional import pil_to_tensor

from tests.conftest import SHARED
from tests.data.detection_batches import assert_alike, epoch, evaluated, joined, on_rank, resumed
from tests.data.small_coco import CATEGORIES, PAIRS, coco, write_annotations, write_coco, write_part


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return write_coco(tmp_path_factory.mktemp("coco"))


def by_id(batch) -> dict[int, tuple[torch.Tensor, dict[str, torch.Tensor]]]:
    return {int(target["image_id"]): (image, target) for image, target in zip(*batch, strict=True)}


def assert_masks_fill_boxes(targets, within: float = 1.0) -> None:
    """Boxes of the rectangles' masks are their boxes, within a pixel."""
    for target in targets:
        boxes = masks_to_boxes(target["masks"]) + torch.tensor([0.0, 0.0, 1.0, 1.0])
        torch.testing.assert_close(boxes, target["boxes"], rtol=0, atol=within)


def test_evaluation_gives_all_that_is_annotated_at_its_original_size(root):
    data = coco(root, image_size=[30, 50], masks=True)
    content = json.loads((root / PAIRS["test"][1]).read_text())
    images = by_id(evaluated(data, data.test_dataloader()))
    assert list(images) == list(range(11))
    for image_id, (image, target) in images.items():
        entries = [each for each in content["annotations"] if each["image_id"] == image_id]
        assert image.shape == (3, 30, 50)
        height, width = content["images"][image_id]["height"], content["images"][image_id]["width"]
        assert target["size"].tolist() == [height, width]
        assert target["masks"].shape == (len(entries), height, width)
        assert target["boxes"].shape == (len(entries), 4)
        assert target["labels"].tolist() == [each["category_id"] for each in entries]
        assert target["iscrowd"].tolist() == [each["iscrowd"] for each in entries]
        torch.testing.assert_close(target["area"], torch.tensor([each["area"] for each in entries]).reshape(-1).float())
        for box, entry in zip(target["boxes"].tolist(), entries, strict=True):
            x, y, w, h = entry["bbox"]
            assert box == [x, y, x + w, y + h]
    crowd = images[3][1]["masks"][0]
    assert crowd[:, 10:30].all()
    assert crowd.sum() == 20 * 60
    assert images[3][0].dtype == torch.float32
    assert_masks_fill_boxes(target for image_id, (_, target) in images.items() if image_id not in (2, 5))


def test_training_leaves_out_crowds_tiny_boxes_and_images_without_others(root, caplog):
    with caplog.at_level("INFO"):
        data = coco(root, flip=False)
    images = by_id(joined(epoch(data)))
    assert data.num_training == 9
    assert sorted(images) == [0, 1, 2, 4, 6, 7, 8, 9, 10]
    assert not any(target["iscrowd"].any() for _, target in images.values())
    assert [len(images[each][1]["boxes"]) for each in (1, 2)] == [2, 3]
    assert torch.equal(images[4][0] * 255, pil_to_tensor(Image.open(root / "train/4/0.png")).float())
    assert images[4][1].keys() == {"boxes", "labels", "area", "iscrowd", "image_id"}
    told = "train: 11 images, 1 of them without boxes; 20 boxes, 2 around crowds, 1 of less than a pixel, which are not"
    assert told in caplog.text


@pytest.mark.parametrize("image_size", [None, [60, 60]])
@pytest.mark.parametrize("crop", ["none", "any", "every"])
def test_boxes_labels_and_masks_stay_together_through_augmentation(root, crop, image_size):
    data = coco(root, masks=True, crop=crop, image_size=image_size, colour=[0.125, 0.5, 0.5])
    images, targets = joined(batch for number in range(4) for batch in epoch(data, number))
    for image, target in zip(images, targets, strict=True):
        assert image_size is None or list(image.shape[1:]) == image_size
        assert target["masks"].shape[1:] == image.shape[1:]
        height, width = image.shape[1:]
        assert (target["boxes"] <= torch.tensor([width, height] * 2) + 1e-4).all()
        assert (target["boxes"] >= 0).all()
        assert (target["boxes"][:, 2:] - target["boxes"][:, :2] >= 1).all()
        for box, label in zip(target["boxes"].round().long().tolist(), target["labels"].tolist(), strict=True):
            pixels = image[:, box[1] : box[3], box[0] : box[2]].mean((1, 2))
            if len(target["labels"]) == 1:  # others may hide it
                assert pixels.argmax() == [each["id"] for each in CATEGORIES].index(label)
    assert_masks_fill_boxes(targets, within=3.4 if image_size else 1.0)  # 60 of 18 pixels
    sizes = {tuple(image.shape[1:]) for image in images}
    if image_size is None:
        assert (sizes == {(60, 80), (80, 60)}) == (crop == "none")


def test_flips_mirror_boxes_with_their_image(root):
    plain, mirrored = (by_id(joined(epoch(coco(root, flip=flip, masks=True)))) for flip in (False, True))
    flipped = [each for each in plain if not torch.equal(plain[each][0], mirrored[each][0])]
    assert 0 < len(flipped) < 9
    for image_id in flipped:
        (before, told), (after, now) = plain[image_id], mirrored[image_id]
        assert torch.equal(before.flip(2), after)
        assert torch.equal(told["masks"].flip(2), now["masks"])
        x1, y1, x2, y2 = told["boxes"].T
        width = before.shape[2]
        assert torch.equal(torch.stack([width - x2, y1, width - x1, y2], 1), now["boxes"])


def test_the_release_crops_less_than_torchvision(root):
    areas = {}
    for crop in ("any", "every"):
        data = coco(root, crop=crop)
        batches = [batch for number in range(10) for batch in epoch(data, number)]
        areas[crop] = torch.tensor([image.shape[1] * image.shape[2] / 4800 for image in joined(batches)[0]])
        assert areas[crop].min() < 0.4
    assert (areas["every"] == 1).float().mean() > 1.3 * (areas["any"] == 1).float().mean()


def test_labels_are_category_ids_or_without_gaps(root):
    data = coco(root)
    assert data.classes == ["background", "N/A", "green", "N/A", "blue", "N/A", "N/A", "red"]
    assert (data.num_classes, data.category_ids) == (8, list(range(8)))
    data = coco(root, labels="contiguous")
    assert data.classes == ["background", "red", "green", "blue"]
    assert (data.num_classes, data.category_ids) == (4, [0, 7, 2, 4])
    with_gaps, without = (evaluated(each, each.test_dataloader())[1] for each in (coco(root), data))
    for target, other in zip(with_gaps, without, strict=True):
        assert [data.category_ids[label] for label in other["labels"]] == target["labels"].tolist()


def test_examples_have_the_size_of_the_images_or_that_of_detectors(root):
    assert coco(root).shape == (3, 800, 1344)
    data = coco(root, image_size=[64, 96])
    assert torch.equal(data.example, torch.zeros(1, 3, 64, 96))
    assert data.facts()["category_ids"] == data.category_ids
    assert len(data.sample_targets()) == 9


@pytest.mark.parametrize("num_workers", [0, 1])
def test_an_epoch_resumes_in_its_middle_whatever_the_workers(root, num_workers):
    settings = {"crop": "any", "masks": True, "colour": [0.1, 0.5, 0.5], "group_by_orientation": True}
    torch.manual_seed(0)
    expected = epoch(coco(root, **settings), number=1)
    before = torch.get_rng_state()
    again = resumed(coco(root, num_workers=num_workers, **settings), number=1, finished=1)
    assert torch.equal(torch.get_rng_state(), before)
    for batch, other in zip(again, expected[1:], strict=True):
        assert_alike(batch, other)


@pytest.mark.parametrize("grouped", [False, True])
def test_the_ranks_batches_together_are_those_of_one_process(root, grouped):
    settings = {"crop": "every", "group_by_orientation": grouped, "drop_last": True}
    alone = epoch(coco(root, batch_size=4, **settings))
    ranks = [epoch(on_rank(coco(root, batch_size=2, **settings), rank, 2)) for rank in range(2)]
    for batch, *shares in zip(alone, *ranks, strict=True):
        assert_alike(batch, joined(shares))


def test_images_of_like_orientation_share_a_batch(root):
    data = coco(root, batch_size=2, group_by_orientation=True)
    wide = [[image.shape[2] > image.shape[1] for image in images] for images, _ in epoch(data)]
    assert sum(len(set(batch)) > 1 for batch in wide) <= 1
    assert [sum(batch) for batch in wide].count(0) == 1  # two images are upright, seven are wide
    mixed = [
        len({image.shape for image in images}) > 1
        for number in range(5)
        for images, _ in epoch(coco(root, batch_size=2), number)
    ]
    assert sum(mixed) > 5


def test_held_out_images_are_evaluated_with_all_that_is_annotated(root):
    data = coco(root, val_fraction=0.5, split_seed=1)
    train, validation = by_id(joined(epoch(data))), by_id(evaluated(data, data.val_dataloader()))
    assert not set(train) & set(validation)
    assert len(validation) == 6  # of eleven, crowds and images without boxes among them
    assert set(train) | set(validation) >= {0, 1, 2, 4, 6, 7, 8, 9, 10}
    assert all("size" in target for _, target in validation.values())
    content = json.loads((root / PAIRS["train"][1]).read_text())["annotations"]
    for image_id, (_, target) in validation.items():
        assert len(target["boxes"]) == sum(each["image_id"] == image_id for each in content)


def test_several_training_sets_and_a_validation_set(root):
    data = coco(root, train=[PAIRS["train"], PAIRS["test"]], validation=PAIRS["train"])
    assert data.num_training == 18
    alone = [by_id(joined(epoch(coco(root, train=[PAIRS[name]], flip=False)))) for name in ("train", "test")]
    images, targets = joined(epoch(coco(root, train=[PAIRS["train"], PAIRS["test"]], flip=False)))
    seen = {"train": 0, "test": 0}
    for image, target in zip(images, targets, strict=True):
        for name, part in zip(seen, alone, strict=True):
            if torch.equal(image, part[int(target["image_id"])][0]):
                assert torch.equal(target["boxes"], part[int(target["image_id"])][1]["boxes"])
                seen[name] += 1
    assert seen == {"train": 9, "test": 9}
    assert sorted(by_id(evaluated(data, data.val_dataloader()))) == list(range(11))


def test_calibration_resizes_images_and_boxes_without_augmentation(root):
    data = coco(root, image_size=[30, 40], crop="any", colour=[0.5, 0.5, 0.5], masks=True)
    images, targets = joined(data.calibration(9, seed=1))
    plain = by_id(joined(epoch(coco(root, image_size=[30, 40], flip=False, masks=True))))
    for image, target in zip(images, targets, strict=True):
        assert torch.equal(image, plain[int(target["image_id"])][0])
        assert torch.equal(target["boxes"], plain[int(target["image_id"])][1]["boxes"])
    ranks = [list(data.calibration(9, 1, rank=rank, world_size=2, batch_size=2)) for rank in range(2)]
    assert_alike((images, targets), joined(batch for batches in zip(*ranks, strict=True) for batch in batches))


def test_a_box_that_resizing_makes_tiny_goes_unless_it_is_the_last(tmp_path):
    write_coco(tmp_path)
    content = write_part(tmp_path, "train", num_images=3)
    first, second = content["annotations"][0], content["annotations"][-1]
    first["bbox"], second["bbox"] = [3, 3, 2, 40], [5, 5, 2, 2]
    write_annotations(tmp_path / PAIRS["train"][1], content)
    images = by_id(joined(epoch(coco(tmp_path, image_size=[10, 10], masks=True))))
    assert images[0][1]["boxes"].shape == (1, 4)
    assert images[0][1]["masks"].shape == (1, 10, 10)
    assert len(images[2][1]["labels"]) == 3


def test_boxes_are_cut_to_their_image_in_training_alone(tmp_path):
    write_coco(tmp_path)
    for name in PAIRS:
        content = write_part(tmp_path, name, num_images=1)
        content["annotations"][0]["bbox"] = [70, -10, 30, 90]
        write_annotations(tmp_path / PAIRS[name][1], content)
    data = coco(tmp_path, flip=False)
    assert joined(epoch(data))[1][0]["boxes"].tolist() == [[70, 0, 80, 60]]
    assert evaluated(data, data.test_dataloader())[1][0]["boxes"].tolist() == [[70, -10, 100, 80]]


def test_what_is_not_given_is_no_crowd_and_as_large_as_its_box(tmp_path):
    content = write_part(write_coco(tmp_path), "test")
    for each in content["annotations"]:
        del each["iscrowd"], each["area"], each["id"], each["segmentation"]
    write_annotations(tmp_path / PAIRS["test"][1], content)
    data = coco(tmp_path)
    for target in evaluated(data, data.test_dataloader())[1]:
        assert target["iscrowd"].sum() == 0
        sides = target["boxes"][:, 2:] - target["boxes"][:, :2]
        assert torch.equal(target["area"], sides.prod(1))


def test_run_lengths_are_read_in_both_forms(tmp_path):
    from pycocotools import mask

    content = write_part(write_coco(tmp_path), "test")
    data = coco(tmp_path, masks=True)
    expected = evaluated(data, data.test_dataloader())
    for each in content["annotations"]:
        if each["iscrowd"]:
            packed = mask.frPyObjects(each["segmentation"], *each["segmentation"]["size"])
            each["segmentation"] = {"size": packed["size"], "counts": packed["counts"].decode()}
    write_annotations(tmp_path / PAIRS["test"][1], content)
    data = coco(tmp_path, masks=True)
    assert_alike(evaluated(data, data.test_dataloader()), expected)


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    import tarfile

    archive = SHARED / "data" / "coco_tiny.tar.gz"
    if not archive.is_file():
        pytest.skip("no coco_tiny.tar.gz in the folder PRUNING_LIT_DATA")
    folder = tmp_path_factory.mktemp("coco_tiny")
    with tarfile.open(archive) as file:
        file.extractall(folder, filter="data")
    return folder


@pytest.mark.parametrize("masks", [False, True])
def test_images_of_the_real_coco_are_read(tiny, masks):
    pairs = {part: [f"{part}2017", f"annotations/instances_{part}2017.json"] for part in ("train", "val")}
    data = coco(tiny, train=[pairs["train"]], test=pairs["val"], masks=masks, crop="every", image_size=[64, 64])
    assert [data.num_classes, *(data.classes[each] for each in (1, 12, 90))] == [91, "person", "N/A", "toothbrush"]
    _, train = joined(epoch(data))
    assert len(train) == 80
    assert not any(target["iscrowd"].any() for target in train)
    images, test = evaluated(data, data.test_dataloader())
    assert (len(test), sum(len(target["boxes"]) for target in test)) == (80, 815)
    assert sum(int(target["iscrowd"].sum()) for target in test) == 11
    assert max(len(target["boxes"]) for target in test) == 45
    assert all(image.shape == (3, 64, 64) for image in images)
    of_train = coco(tiny, train=[pairs["train"]], test=pairs["train"], image_size=[8, 8])
    _, all_of_train = evaluated(of_train, of_train.test_dataloader())
    assert sum(len(target["boxes"]) for target in all_of_train) == 705
    assert sum(int(target["iscrowd"].sum()) for target in all_of_train) == 6
    if masks:
        far = 0
        for target in test:
            few = target["iscrowd"] == 0
            areas = target["masks"][few].sum((1, 2)).float()
            torch.testing.assert_close(areas, target["area"][few], rtol=0.25, atol=25)  # of polygons, not of pixels
            boxes = masks_to_boxes(target["masks"][few]) + torch.tensor([0.0, 0.0, 1.0, 1.0])
            far += int(((boxes - target["boxes"][few]).abs() > 1.5).any(1).sum())
        assert far < 25  # of 804: tips of polygons that are thinner than a pixel have no pixels


@pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="open files are counted where Linux lists them")
def test_a_batch_from_a_worker_does_not_hold_a_file_open_for_every_tensor(root):
    data = coco(root, batch_size=3, masks=True, num_workers=1)
    before = len(os.listdir("/proc/self/fd"))
    batches = list(data.train_dataloader())
    assert len(batches) == 3
    assert len(os.listdir("/proc/self/fd")) < before + 12  # nine images have 54 tensors; some are of the workers


def test_where_a_worker_dies_it_is_told(root):
    batches = iter(coco(root, batch_size=1, num_workers=1).train_dataloader())
    next(batches)
    [worker] = torch.multiprocessing.active_children()
    os.kill(worker.pid, signal.SIGKILL)
    with pytest.raises(RuntimeError, match="DataLoader worker"):
        list(batches)


@pytest.mark.parametrize(("colour", "channels"), [([0.9, 0, 0], "brightness"), ([0, 0, 1.0], "saturation")])
def test_colours_change_as_much_as_they_may_and_boxes_do_not(root, colour, channels):
    plain, changed = (by_id(joined(epoch(coco(root, colour=each, flip=False)))) for each in (None, colour))
    grey = {image_id: (image.amax(0) - image.amin(0)).mean() for image_id, (image, _) in plain.items()}
    ratios = []
    for image_id, (image, target) in changed.items():
        assert torch.equal(target["boxes"], plain[image_id][1]["boxes"])
        if channels == "brightness":
            ratios.append(float(image.mean() / plain[image_id][0].mean()))
        else:
            ratios.append(float((image.amax(0) - image.amin(0)).mean() / grey[image_id]))
    assert min(ratios) < 0.8
    assert max(ratios) > 1.02  # clipped at white
