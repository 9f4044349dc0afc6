import pytest
import torch

from pruning_lit.data.augment import crop, draw, mirror, normalise


def images(num=4, height=6, width=5):
    return torch.randint(0, 256, (num, 3, height, width), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)


def test_a_crop_is_a_window_of_the_padded_image():
    batch, pad = images(), 2
    corners = torch.tensor([[0, 0], [4, 4], [2, 2], [1, 3]])
    for image, window, (dy, dx) in zip(batch, crop(batch, corners, pad), corners.tolist(), strict=True):
        padded = torch.zeros(3, 6 + 4, 5 + 4, dtype=torch.uint8)
        padded[:, 2:8, 2:7] = image
        assert torch.equal(window, padded[:, dy : dy + 6, dx : dx + 5])


def test_the_window_in_the_middle_is_the_image():
    assert torch.equal(crop(images(), torch.full((4, 2), 3), 3), images())


def test_only_the_chosen_images_are_mirrored():
    batch = images()
    mirrored = mirror(batch, torch.tensor([1, 0, 0, 1]))
    for number in range(4):
        for column in range(5):
            source = 4 - column if number in (0, 3) else column
            assert torch.equal(mirrored[number, :, :, column], batch[number, :, :, source])


def test_normalised_bytes_are_scaled_to_one_shifted_and_divided():
    batch, mean, std = images(), torch.tensor([0.5, 0.4, 0.3]), torch.tensor([0.2, 0.3, 0.4])
    for channel in range(3):
        expected = (batch[:, channel].double() / 255 - float(mean[channel])) / float(std[channel])
        torch.testing.assert_close(normalise(batch, mean, std)[:, channel].double(), expected, rtol=1e-5, atol=1e-5)


def test_normalising_leaves_the_bytes_alone():
    batch = images()
    normalise(batch, torch.zeros(3), torch.ones(3))
    assert torch.equal(batch, images())


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
def test_the_memory_format_is_kept(memory_format):
    batch = images().contiguous(memory_format=memory_format)
    augmented = mirror(crop(batch, torch.ones(4, 2, dtype=torch.int64), 1), torch.tensor([1, 0, 1, 0]))
    floats = normalise(augmented, torch.zeros(3), torch.ones(3))
    assert augmented.is_contiguous(memory_format=memory_format)
    assert floats.is_contiguous(memory_format=memory_format)


def test_draws_reach_every_window_and_mirror_one_in_two():
    draws = draw(2000, pad=2, flip=True, random=torch.Generator().manual_seed(0))
    assert draws.shape == (2000, 3)
    assert draws[:, :2].unique(dim=0).tolist() == [[dy, dx] for dy in range(5) for dx in range(5)]
    assert 900 < int(draws[:, 2].sum()) < 1100


def test_without_flip_the_windows_are_the_same_and_nothing_is_mirrored():
    flipped, plain = (draw(50, pad=2, flip=flip, random=torch.Generator().manual_seed(0)) for flip in (True, False))
    assert torch.equal(flipped[:, :2], plain[:, :2])
    assert not plain[:, 2].any()
