"""Augmentation of point clouds, held against the public PyTorch version's."""

import numpy as np
import pytest
import torch

from pruning_lit.data.cloud_augment import CloudAugmentation, augment, normalised, turn
from tests.places import VECTORS

OFF = {"dropout": 0.0, "scale": (1.0, 1.0), "shift": 0.0, "turn": False, "jitter": 0.0}


def golden() -> dict[str, torch.Tensor]:
    with np.load(VECTORS / "pointnet2" / "augmentation.npz") as file:
        return {key: torch.from_numpy(np.asarray(each)) for key, each in file.items()}


def drawn(number: int = 200, num_points: int = 50, **settings) -> dict[str, torch.Tensor]:
    augmentation = CloudAugmentation(**(OFF | settings))
    each = [augmentation.draw(num_points, torch.Generator().manual_seed(seed)) for seed in range(number)]
    return {name: torch.stack([draws[name] for draws in each]) for name in each[0]}


def test_drop_scale_and_shift_are_those_of_the_public_version():
    given = golden()
    draws = {"dropped": given["dropped"], "scale": given["scale"], "shift": given["shift"]}
    torch.testing.assert_close(augment(given["xyz"], draws), given["augmented"], rtol=0, atol=1e-6)


def test_turns_about_y_and_normalisation_are_those_of_the_public_version():
    given = golden()
    angles = given["angle"].expand(len(given["xyz"]))
    torch.testing.assert_close(turn(given["xyz"], angles, 1), given["turned_about_y"], rtol=0, atol=1e-6)
    torch.testing.assert_close(normalised(given["raw"]), given["normalised"], rtol=0, atol=1e-12)


def test_turns_about_z_leave_heights_and_lengths_and_take_normals_along():
    clouds = torch.randn(3, 20, 6, generator=torch.Generator().manual_seed(0))
    turned = augment(clouds, {"angle": torch.tensor([0.5, 1.0, 2.0])})
    assert torch.equal(turned[..., [2, 5]], clouds[..., [2, 5]])
    for part in (slice(3), slice(3, 6)):
        torch.testing.assert_close(turned[..., part].norm(dim=-1), clouds[..., part].norm(dim=-1))
    products = [(each[..., :3] * each[..., 3:]).sum(-1) for each in (clouds, turned)]
    torch.testing.assert_close(*products)


def test_scale_and_shift_leave_normals_alone():
    clouds = torch.randn(200, 20, 6, generator=torch.Generator().manual_seed(0))
    moved = augment(clouds, drawn(scale=(0.8, 1.25), shift=0.1, jitter=0.01, num_points=20))
    assert torch.equal(moved[..., 3:], clouds[..., 3:])
    assert not torch.isclose(moved[..., :3], clouds[..., :3]).all()


def test_numbers_are_drawn_from_their_ranges():
    draws = drawn(num_points=1000, dropout=0.875, scale=(0.8, 1.25), shift=0.1, jitter=0.01, turn=True)
    for name, low, high in (("scale", 0.8, 1.25), ("shift", -0.1, 0.1), ("angle", 0, 2 * torch.pi)):
        assert low <= draws[name].min() < low + 0.1 * (high - low)
        assert high - 0.1 * (high - low) < draws[name].max() <= high
    shares = draws["dropped"].float().mean(1)
    assert shares.min() < 0.1
    assert 0.8 < shares.max() < 0.91
    assert shares.mean() == pytest.approx(0.4375, abs=0.05)  # half of 0.875
    assert draws["jitter"].std() == pytest.approx(0.01, rel=0.05)
    assert draws["jitter"].abs().max() <= 0.05


def test_what_is_switched_off_is_not_drawn():
    assert drawn().keys() == {"scale", "shift"}
    clouds = torch.randn(200, 50, 3, generator=torch.Generator().manual_seed(0))
    assert torch.equal(augment(clouds, drawn()), clouds)
    assert torch.equal(augment(clouds, {}), clouds)


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"dropout": 1.0}, r"dataset\.dropout is 1\.0, but it is a share of the points"),
        ({"scale": (0.8,)}, r"dataset\.scale is \[0\.8\], expected \[smallest, largest\]"),
        ({"scale": (1.2, 0.8)}, r"dataset\.scale is \[1\.2, 0\.8\]"),
        ({"shift": -0.1}, r"dataset\.shift is -0\.1, but a length is not negative"),
        ({"jitter": -1}, r"dataset\.jitter is -1"),
    ],
)
def test_a_wrong_setting_is_refused_in_a_sentence(settings, sentence):
    with pytest.raises(ValueError, match=sentence):
        CloudAugmentation(**(OFF | settings))
