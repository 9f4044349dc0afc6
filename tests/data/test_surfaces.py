"""Points spread evenly over surfaces."""

import numpy as np
import pytest

from pruning_lit.data.objects import OBJECTS
from pruning_lit.data.surfaces import Box, Frustum, PartSurface, TorusSegment, Zone, disc, sample

NUMBER = 100_000


def points_of(surface):
    return surface.sample(NUMBER, np.random.default_rng(0)).T


def test_points_of_a_box_lie_on_its_faces_by_area():
    box = Box((1, 2, 3), (2, 4, 6))
    points = points_of(box) - np.array([[1], [2], [3]])
    on_face = np.isclose(np.abs(points), np.array([[1], [2], [3]]))
    assert on_face.any(0).all()
    assert on_face.mean(1) == pytest.approx(np.array([24, 12, 8]) / 44, abs=0.01)
    assert box.area == 88
    assert np.abs(points.mean(1)).max() < 0.03


@pytest.mark.parametrize(("radii", "area"), [((2, 2), 12 * np.pi), ((1, 5), 30 * np.pi), ((5, 1), 30 * np.pi)])
def test_points_of_a_frustum_lie_on_its_side_by_area(radii, area):
    frustum = Frustum((1, 4), radii, (10, 20))
    x, y, z = points_of(frustum)
    share = (z - 1) / 3
    expected = radii[0] + share * (radii[1] - radii[0])
    assert np.hypot(x - 10, y - 20) == pytest.approx(expected)
    assert frustum.area == pytest.approx(area)
    below = (radii[0] * 0.5 + (radii[1] - radii[0]) * 0.125) / ((radii[0] + radii[1]) / 2)  # integral of the radius
    assert (share < 0.5).mean() == pytest.approx(below, abs=0.01)


def test_a_disc_is_flat_and_evenly_filled():
    x, y, z = points_of(disc(2.0, 3.0))
    assert set(z) == {2.0}
    assert (np.hypot(x, y) < 1.5).mean() == pytest.approx(0.25, abs=0.01)
    assert disc(2.0, 3.0).area == pytest.approx(9 * np.pi)


def test_points_of_a_zone_lie_on_its_sphere_evenly_by_height():
    zone = Zone(1.0, 2.0, (-1, 0.5))
    x, y, z = points_of(zone)
    assert x**2 + y**2 + (z - 1) ** 2 == pytest.approx(4.0)
    assert (z < 0).mean() == pytest.approx(1 / 3, abs=0.01)
    assert zone.area == pytest.approx(12 * np.pi)


def test_points_of_a_torus_segment_lie_on_the_tube_with_more_on_its_outer_side():
    x, y, z = points_of(TorusSegment((1, 0, 2), 3.0, 1.0))
    ring = np.hypot(x - 1, z - 2)
    assert (ring - 3) ** 2 + y**2 == pytest.approx(1.0)
    assert (ring > 3).mean() == pytest.approx(0.5 + 1 / (np.pi * 3), abs=0.01)  # integral of (R + r cos) over the half
    assert x.min() > 1 - 1e-9
    assert TorusSegment((1, 0, 2), 3.0, 1.0).area == pytest.approx(6 * np.pi**2)


def test_parts_have_points_by_their_area_in_no_order():
    box = Box((0, 0, 0), (1, 1, 1))
    points, parts = sample([PartSurface(0, box), PartSurface(1, disc(9.0, 1.0))], NUMBER, np.random.default_rng(0))
    assert np.array_equal(points[:, 2] > 8, parts == 1)
    for some in (parts, parts[:2000]):
        assert some.mean() == pytest.approx(np.pi / (6 + np.pi), abs=0.05)


@pytest.mark.parametrize("name", OBJECTS)
def test_every_object_has_points_of_all_its_parts_and_stands_on_the_ground(name):
    parts, make = OBJECTS[name]
    for seed in range(20):
        random = np.random.default_rng(seed)
        points, labels = sample(make(random), 4000, random)
        assert set(labels) == set(range(len(parts)))
        assert -0.15 < points[:, 2].min() < 0.05  # handles may hang below
        assert np.isfinite(points).all()
