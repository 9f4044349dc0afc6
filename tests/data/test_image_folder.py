import logging
import os

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from torchvision.transforms import functional

from pruning_lit.data import ImageFolder
from tests.data.small_images import STATISTICS, write_images


def folder(root, **settings):
    data = ImageFolder(root, batch_size=4, **STATISTICS, **settings)
    data.prepare_data()
    data.setup()
    return data


def image(path):
    return functional.pil_to_tensor(Image.open(path))


def test_images_are_read_class_by_class_in_the_order_of_their_names(make_folder):
    root = make_folder()
    data = folder(root)
    assert (data.classes, data.shape) == (["cat", "dog"], (3, 6, 8))
    for part, name in ((data.parts.train, "train"), (data.parts.test, "test")):
        expected = [image(root / name / animal / f"{number}.png") for animal in ("cat", "dog") for number in (0, 1)]
        assert torch.equal(part.images, torch.stack(expected))
        assert part.targets.tolist() == [0, 0, 1, 1]


def test_other_files_and_hidden_folders_are_passed_over_and_subfolders_searched(make_folder):
    root = make_folder()
    (root / "train" / "cat" / "notes.txt").write_text("not an image")
    for left in (".thumbnails", ".ipynb_checkpoints", "__MACOSX", "@eaDir"):
        for place in (root / "train" / left, root / "train" / "cat" / left):
            write_images(place, torch.zeros(1, 3, 6, 8, dtype=torch.uint8))
    write_images(root / "train" / "cat" / "more", torch.zeros(1, 3, 6, 8, dtype=torch.uint8))
    assert folder(root).parts.train.targets.tolist() == [0, 0, 0, 1, 1]


@pytest.mark.parametrize("only", ["test", "val"])
def test_one_folder_beside_train_is_the_test_part(make_folder, only):
    data = folder(make_folder(parts=("train", only)))
    assert len(data.parts.test) == 4
    assert not data.has_validation


def test_with_both_val_chooses_and_test_reports(make_folder):
    root = make_folder(parts=("train", "val", "test"))
    data = folder(root)
    assert data.has_validation
    assert torch.equal(data.parts.validation.images[0], image(root / "val" / "cat" / "0.png"))
    assert torch.equal(data.parts.test.images[0], image(root / "test" / "cat" / "0.png"))


def test_a_second_validation_part_is_refused(make_folder):
    with pytest.raises(
        ValueError, match=r"dataset.val_fraction is 0.5, but the data have a validation part: set it to 0"
    ):
        folder(make_folder(parts=("train", "val", "test")), val_fraction=0.5)


def test_size_cuts_the_middle_of_the_resized_image(make_folder):
    root = make_folder()
    ramp = np.zeros((60, 100, 3), dtype=np.uint8)
    ramp[:] = np.arange(100)[None, :, None]  # brightness tells the column
    Image.fromarray(ramp).save(root / "train" / "cat" / "0.png")
    resized = folder(root, size=12).parts.train.images
    assert resized.shape == (4, 3, 12, 12)
    columns = 20 + 60 * (torch.arange(12) + 0.5) / 12 - 0.5  # the middle 60 of 100 columns
    torch.testing.assert_close(resized[0, 0, 5].float(), columns, rtol=0, atol=1)


def test_grey_and_transparent_images_become_rgb(make_folder):
    root = make_folder()
    Image.new("L", (8, 6), 7).save(root / "train" / "cat" / "0.png")
    Image.new("RGBA", (8, 6), (1, 2, 3, 0)).save(root / "train" / "cat" / "1.png")
    images = folder(root).parts.train.images
    assert images[0, :, 0, 0].tolist() == [7, 7, 7]
    assert images[1, :, 0, 0].tolist() == [1, 2, 3]


def test_the_cache_gives_what_decoding_gave(make_folder, tmp_path, monkeypatch):
    root, cache = make_folder(), tmp_path / "made" / "images.safetensors"
    decoded = folder(root, cache=cache).parts
    assert [path.name for path in cache.parent.iterdir()] == [cache.name]  # nothing unfinished is left
    monkeypatch.setattr("pruning_lit.data.image_folder.decode", None)  # decoding again would fail
    cached = folder(root, cache=cache).parts
    for one, other in ((decoded.train, cached.train), (decoded.test, cached.test)):
        assert torch.equal(one.images, other.images)
        assert torch.equal(one.targets, other.targets)


@pytest.mark.parametrize("change", ["a file", "its time", "its name", "the size"])
def test_a_stale_cache_is_made_anew(make_folder, tmp_path, caplog, change):
    root, cache = make_folder(height=8), tmp_path / "images.safetensors"
    folder(root, cache=cache)
    path = root / "train" / "dog" / "1.png"
    if change == "a file":
        write_images(root / "train" / "dog", torch.zeros(3, 3, 8, 8, dtype=torch.uint8))
    elif change == "its time":
        os.utime(path, (1, 1))
    elif change == "its name":
        path.rename(path.with_name("a.png"))
    caplog.set_level(logging.INFO, "pruning_lit")
    size = 4 if change == "the size" else None
    assert torch.equal(
        folder(root, cache=cache, size=size).parts.train.images, folder(root, size=size).parts.train.images
    )
    assert "have changed since" in caplog.text
    caplog.clear()
    folder(root, cache=cache, size=size)
    assert caplog.text == ""


def test_a_cache_of_files_read_by_other_rules_is_made_anew(make_folder, tmp_path, monkeypatch):
    root, cache = make_folder(), tmp_path / "images.safetensors"
    with monkeypatch.context() as before:
        before.setattr("pruning_lit.data.listing.READING", 1)
        white = torch.full((4, 3, 6, 8), 255, dtype=torch.uint8)
        before.setattr("pruning_lit.data.image_folder.decode", lambda *_: white.clone())
        folder(root, cache=cache)
    assert torch.equal(folder(root, cache=cache).parts.train.images, folder(root).parts.train.images)


def test_images_of_16_bits_are_not_read_as_white(make_folder):
    root = make_folder()
    Image.fromarray(np.full((6, 8), 25700, dtype=np.uint16)).save(root / "train" / "cat" / "0.png")
    assert folder(root).parts.train.images[0].unique().tolist() == [100]


@pytest.mark.parametrize("left", [0, 60, -100])
def test_a_damaged_cache_is_made_anew(make_folder, tmp_path, caplog, left):
    root, cache = make_folder(), tmp_path / "images.safetensors"
    expected = folder(root, cache=cache).parts.train.images.clone()
    cache.write_bytes(cache.read_bytes()[:left])
    assert torch.equal(folder(root, cache=cache).parts.train.images, expected)
    assert "cannot be read" in caplog.text


def test_a_flipped_bit_in_the_cache_is_noticed(make_folder, tmp_path, caplog):
    root, cache = make_folder(), tmp_path / "images.safetensors"
    expected = folder(root, cache=cache).parts.train.images.clone()
    content = bytearray(cache.read_bytes())
    content[content.index(expected.numpy().tobytes())] ^= 1
    cache.write_bytes(content)
    assert torch.equal(folder(root, cache=cache).parts.train.images, expected)
    assert "is damaged (its checksum differs) and is made anew" in caplog.text


def test_a_file_of_another_kind_is_not_overwritten_by_a_cache(make_folder, tmp_path):
    for name, tensors in (("weights.safetensors", True), ("notes.txt", False)):
        path = tmp_path / name
        save_file({"weight": torch.zeros(3)}, path) if tensors else path.write_text("what I had in mind")
        before = path.read_bytes()
        with pytest.raises(ValueError, match=r"dataset.cache names .* which is no cache of images"):
            folder(make_folder(), cache=path)
        assert path.read_bytes() == before


def test_a_missing_folder_is_named(tmp_path):
    with pytest.raises(
        FileNotFoundError, match=r"'.*nowhere/train' is missing: images are expected in '.*/train/<class>/'"
    ):
        folder(tmp_path / "nowhere")


def test_an_empty_folder_is_named(tmp_path):
    (tmp_path / "train").mkdir()
    with pytest.raises(FileNotFoundError, match=r"'.*train' is empty: images are expected in"):
        folder(tmp_path)


def test_a_missing_test_part_is_refused(make_folder):
    with pytest.raises(FileNotFoundError, match=r"has no folder 'test' or 'val' beside 'train'"):
        folder(make_folder(parts=("train",)))


def test_a_class_without_images_is_named(make_folder):
    root = make_folder()
    (root / "train" / "emu").mkdir()
    with pytest.raises(FileNotFoundError, match=r"class folder '.*emu' has no images"):
        folder(root)


def test_different_classes_are_named(make_folder):
    root = make_folder()
    (root / "test" / "dog").rename(root / "test" / "emu")
    with pytest.raises(
        ValueError, match=r"'.*test' must have the same class folders .* missing \['dog'\], unknown \['emu'\]"
    ):
        folder(root)


@pytest.mark.parametrize("content", [b"no image at all", "cut off"])
def test_a_corrupt_image_is_named(make_folder, content):
    root = make_folder()
    path = root / "train" / "dog" / "1.png"
    path.write_bytes(path.read_bytes()[:60] if content == "cut off" else content)
    with pytest.raises(ValueError, match=r"'.*train/dog/1.png' is not a readable image \(.*\): replace or remove it"):
        folder(root)


def test_the_first_image_of_another_size_is_named(make_folder):
    root = make_folder()
    for name in ("dog", "cat"):
        Image.new("RGB", (9, 7)).save(root / "train" / name / "1.png")
    with pytest.raises(
        ValueError, match=r"cat/1.png' has 7×9 pixels \(height×width\), but '.*cat/0.png' .* 6×8: set dat"
    ):
        folder(root)


def test_a_test_part_of_another_size_is_refused(make_folder):
    make_folder(parts=("train",))
    with pytest.raises(
        ValueError, match=r"test/cat/0.png' has 4×4 pixels \(height×width\), training images have 6×8: set dat"
    ):
        folder(make_folder(parts=("test",), height=4, width=4))


def test_a_size_below_one_and_a_folder_as_cache_are_refused(make_folder, tmp_path):
    with pytest.raises(ValueError, match=r"dataset.size is 0, but an image's side has at least 1 pixel"):
        folder(make_folder(), size=0)
    with pytest.raises(ValueError, match=r"dataset.cache is the folder '.*': name a file"):
        folder(make_folder(), cache=tmp_path)
