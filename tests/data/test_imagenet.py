from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.transforms import functional

from pruning_lit.data import ImageNet
from tests.data.small_images import STATISTICS, calibrated, write_images
from tests.places import ROOT

SAMPLE = ROOT / "data" / "imagenet_sample"
WNIDS = ("n02110341", "n01440764", "n07920052")


def write(root, parts=("train", "val"), num_images=4, classes=WNIDS) -> Path:
    """Noise of 20×14 pixels in ``<root>/<part>/<class>/<n>.png``."""
    random = torch.Generator().manual_seed(0)
    for part in parts:
        for name in classes:
            pixels = torch.randint(0, 256, (num_images, 3, 14, 20), generator=random, dtype=torch.uint8)
            write_images(root / part / name, pixels)
    return root


@pytest.fixture
def root(tmp_path) -> Path:
    return write(tmp_path)


def imagenet(root, **settings) -> ImageNet:
    """Set up, 12 training images in batches of 5, decoded without workers unless told otherwise."""
    small = {"image_size": 8, "batch_size": 5, "num_workers": 0, "seed": 3}
    data = ImageNet(root, **(small | STATISTICS | settings))
    data.setup()
    return data


def on_rank(data, rank=0, world_size=1) -> ImageNet:
    convert = SimpleNamespace(convert_input=lambda images: images)
    data.trainer = SimpleNamespace(global_rank=rank, world_size=world_size, precision_plugin=convert)
    return data


def epoch(data, number=0) -> list[tuple[torch.Tensor, torch.Tensor]]:
    loader = data.train_dataloader()
    loader.sampler.set_epoch(number)
    return [data.on_after_batch_transfer(batch, 0) for batch in loader]


def assert_alike(some, others):
    for (images, targets), (other_images, other_targets) in zip(some, others, strict=True):
        assert torch.equal(images, other_images)
        assert torch.equal(targets, other_targets)


def test_classes_are_the_sorted_wnids_and_images_have_one_size(root):
    data = imagenet(root)
    assert (data.classes, data.num_classes, data.shape) == (sorted(WNIDS), 3, (3, 8, 8))
    assert data.example.shape == (1, 3, 8, 8)
    assert (data.num_training, len(data.parts.test), data.has_validation) == (12, 12, False)
    assert [path.parent.name for path in data.parts.train.paths[::4]] == data.classes
    assert data.parts.train.targets.tolist() == [0] * 4 + [1] * 4 + [2] * 4


def test_evaluation_cuts_the_centre_of_the_resized_image(root):
    data = imagenet(root, resize_size=10)
    seen = torch.cat([data.on_after_batch_transfer(batch, 0)[0] for batch in data.test_batches()])
    paths = [root / "val" / name / f"{number}.png" for name in sorted(WNIDS) for number in range(4)]
    for image, path in zip(seen, paths, strict=True):
        cut = functional.center_crop(functional.resize(Image.open(path), 10), 8)
        expected = (functional.to_tensor(cut) - data.mean[:, None, None]) / data.std[:, None, None]
        torch.testing.assert_close(image, expected)


@pytest.mark.parametrize(("image_size", "resized"), [(224, 256), (64, 73), (8, 9)])
def test_the_resized_side_is_eight_sevenths_of_the_cut_unless_given(tmp_path, image_size, resized):
    ramp = np.broadcast_to(np.arange(256, dtype=np.uint8)[None, :, None], (256, 256, 3))
    image = Image.fromarray(np.ascontiguousarray(ramp)).resize((resized, resized), Image.Resampling.BILINEAR)
    prepared = imagenet(write(tmp_path), image_size=image_size).preparation.for_evaluation(image)
    assert torch.equal(prepared, functional.center_crop(functional.pil_to_tensor(image), image_size))


def test_training_images_are_windows_and_half_of_them_mirrored(root):
    write_images(root / "train" / WNIDS[0], torch.randint(0, 256, (4, 3, 8, 8), dtype=torch.uint8))
    data = imagenet(root, scale=(1.0, 1.0), flip=True)  # the whole of a square image, at its own size
    square = Image.open(root / "train" / WNIDS[0] / "0.png")
    seen = torch.stack([data.preparation.for_training(square, seed) for seed in range(40)])
    whole = functional.pil_to_tensor(square)
    plain, mirrored = (seen == whole).flatten(1).all(1), (seen == whole.flip(2)).flatten(1).all(1)
    assert (plain ^ mirrored).all()
    assert 10 <= plain.sum() <= 30
    still = imagenet(root, scale=(1.0, 1.0)).preparation
    assert all(torch.equal(still.for_training(square, seed), whole) for seed in range(10))


def test_training_images_differ_in_every_epoch_and_stream(root):
    data = imagenet(root, batch_size=12)
    ((first, _),) = epoch(data)
    ((second, _),) = epoch(data, number=1)
    data.stream = 1
    ((other, _),) = epoch(data)
    for one, two in ((first, second), (first, other), (second, other)):
        assert not (one[:, None] == two[None]).flatten(2).all(2).any()  # other windows, not only another order


@pytest.mark.parametrize("num_workers", [0, 1])
def test_what_is_seen_depends_on_seed_stream_and_epoch_only(root, num_workers):
    torch.manual_seed(0)
    expected = epoch(imagenet(root, flip=True), number=2)
    torch.manual_seed(1)
    assert_alike(epoch(imagenet(root, flip=True, num_workers=num_workers), number=2), expected)


@pytest.mark.parametrize("num_workers", [0, 1])
def test_the_random_state_of_the_run_is_left_alone(root, num_workers):
    before = torch.get_rng_state()
    epoch(imagenet(root, flip=True, num_workers=num_workers))
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("num_workers", [0, 1])
def test_an_epoch_resumes_in_its_middle(root, num_workers):
    data = imagenet(root, flip=True, num_workers=num_workers)
    expected = epoch(data, number=1)
    loader = data.train_dataloader()
    loader.load_state_dict({"epoch": 1, "finished": 1, "num_pictures": 12, "global_batch": 5, "seed": 3, "stream": 0})
    assert_alike([data.on_after_batch_transfer(batch, 0) for batch in loader], expected[1:])


def test_the_ranks_batches_together_are_those_of_one_process(root):
    alone = epoch(on_rank(imagenet(root, flip=True, batch_size=6)))
    ranks = [epoch(on_rank(imagenet(root, flip=True, batch_size=3), rank, 2)) for rank in range(2)]
    together = [[torch.cat(parts) for parts in zip(*batches, strict=True)] for batches in zip(*ranks, strict=True)]
    assert_alike(together, alone)


@pytest.mark.at_once(1)
@pytest.mark.parametrize("augment", [False, True])
def test_calibration_does_not_depend_on_ranks_batches_or_workers(root, augment):
    data = imagenet(root, flip=True)
    alone = calibrated(data.calibration(9, seed=1, augment=augment))
    assert alone.shape == (9, 3, 8, 8)
    data = imagenet(root, flip=True, num_workers=1)
    ranks = [list(data.calibration(9, 1, augment, rank, world_size=2, batch_size=2)) for rank in range(2)]
    assert torch.equal(calibrated([batch for batches in zip(*ranks, strict=True) for batch in batches]), alone)
    assert not torch.equal(alone, calibrated(data.calibration(9, seed=1, augment=not augment)))


def test_a_held_out_part_is_prepared_as_for_evaluation(root):
    data = imagenet(root, val_fraction=0.25)
    assert data.has_validation
    assert (data.num_training, len(data.parts.validation)) == (9, 3)
    seen = torch.cat([batch[0] for batch in data.val_dataloader()])
    paths = [data.parts.validation.paths[row] for row in data.parts.validation.members.tolist()]
    expected = [data.preparation.for_evaluation(Image.open(path)) for path in paths]
    assert torch.equal(seen, torch.stack(expected))


def test_beside_a_test_part_val_chooses(tmp_path):
    data = imagenet(write(tmp_path, parts=("train", "val", "test")))
    assert data.has_validation
    assert data.parts.test.paths[0] == tmp_path / "test" / min(WNIDS) / "0.png"


def test_grey_images_become_rgb(root):
    for name in WNIDS:
        Image.new("L", (9, 9), 128).save(root / "val" / name / "0.png")
    first = next(iter(imagenet(root).test_batches()))[0][0]
    assert first.tolist() == [[[128] * 8] * 8] * 3


def test_an_abandoned_epoch_leaves_no_workers_behind(root):
    batches = iter(imagenet(root, num_workers=1).train_dataloader())
    next(batches)
    before = torch.multiprocessing.active_children()
    batches.close()
    assert len(before) == 1
    assert not torch.multiprocessing.active_children()


@pytest.mark.parametrize("num_workers", [0, 1])
@pytest.mark.parametrize("part", ["train", "val"])
def test_a_file_that_is_no_image_is_named_in_one_sentence(root, num_workers, part):
    path = root / part / WNIDS[0] / "1.png"
    path.write_bytes(path.read_bytes()[:60])
    data = imagenet(root, num_workers=num_workers)
    with pytest.raises(ValueError, match=rf"^'.*{part}/n02110341/1.png' is not a readable image \(.*\): replace or"):
        list(data.train_dataloader() if part == "train" else data.test_batches())


def test_missing_folders_and_empty_classes_are_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"'.*nowhere/train' is missing: images are expected in '.*/<class>/'"):
        imagenet(tmp_path / "nowhere")
    write(tmp_path, parts=("train",))
    with pytest.raises(FileNotFoundError, match=r"has no folder 'test' or 'val' beside 'train'"):
        imagenet(tmp_path)
    write(tmp_path, parts=("val",), classes=WNIDS[:2])
    with pytest.raises(ValueError, match=r"'.*val' must have the same class folders .* missing \['n07920052'\]"):
        imagenet(tmp_path)
    (tmp_path / "val" / WNIDS[2]).mkdir()
    with pytest.raises(FileNotFoundError, match=r"class folder '.*val/n07920052' has no images"):
        imagenet(tmp_path)


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"image_size": 0}, "dataset.image_size is 0, but an image's side has at least 1 pixel"),
        ({"resize_size": 7}, "dataset.resize_size is 7, but the centre cut out of it has 8 pixels: make it as large"),
        (
            {"scale": (0.0, 1.0)},
            r"dataset.scale is \[0.0, 1.0\], but it is two shares of the area, above 0 and up to 1",
        ),
        ({"scale": (0.5,)}, r"dataset.scale is \[0.5\], but it is two shares"),
        ({"scale": (0.5, 0.4)}, r"dataset.scale is \[0.5, 0.4\], but it is two shares"),
        ({"num_workers": -1}, r"dataset.num_workers is -1, but it is a number of processes \(0: none\)"),
        ({"batch_size": 0}, "dataset.batch_size is 0"),
        ({"mean": [0.5]}, "dataset.mean has 1 numbers, but the images have 3 channels"),
    ],
)
def test_a_wrong_setting_is_refused_in_a_sentence(root, settings, sentence):
    with pytest.raises(ValueError, match=sentence):
        imagenet(root, **settings)


@pytest.mark.skipif(not SAMPLE.is_dir(), reason="data/imagenet_sample is absent: a hundred images of ImageNet")
def test_images_of_the_real_imagenet_are_read():
    data = imagenet(SAMPLE, image_size=64, batch_size=50, num_workers=1)
    assert (data.num_classes, data.num_training, data.classes[0]) == (100, 100, "n01440764")  # tench
    batches = [data.on_after_batch_transfer(batch, 0) for batch in data.test_batches()]
    assert torch.cat([targets for _, targets in batches]).tolist() == list(range(100))
    images = torch.cat([images for images, _ in batches]) * data.std[:, None, None] + data.mean[:, None, None]
    torch.testing.assert_close(images.mean((0, 2, 3)), torch.tensor([0.485, 0.456, 0.406]), rtol=0, atol=0.05)
    assert len(epoch(data)) == 2
