"""Operations on point clouds: the golden indices to the last one, and what the specification says of the edges."""

import pytest
import torch

from pruning_lit.models.point_operations import (
    ball_query,
    farthest_points,
    gather_points,
    interpolate,
    three_nearest,
)
from tests.models.pointnet_golden import golden


@pytest.mark.parametrize("case", ["0", "1", "2", "3", "_doubles"])
def test_farthest_points_are_the_golden_ones(case):
    vectors = golden("farthest_points")
    points, count, start = (vectors[f"{key}{case}"] for key in ("xyz", "count", "start"))
    first = torch.full((len(points),), start)
    assert torch.equal(farthest_points(points, count, first), vectors[f"index{case}"])
    if start == 0:
        assert torch.equal(farthest_points(points, count), vectors[f"index{case}"])


@pytest.mark.parametrize("case", ["0", "1", "2", "3", "_edge"])
def test_balls_hold_the_golden_points(case):
    vectors = golden("balls")
    points, centres, radius, number = (vectors[f"{key}{case}"] for key in ("xyz", "centres", "radius", "nsample"))
    assert torch.equal(ball_query(points, centres, radius, number), vectors[f"index{case}"])


def test_an_empty_ball_takes_the_nearest_point():
    points = torch.tensor([[[0.0, 0, 0], [1, 0, 0], [3, 0, 0]]])
    centres = torch.tensor([[[1.6, 0, 0], [0, 0, 0]]])
    assert ball_query(points, centres, 0.5, 2).tolist() == [[[1, 1], [0, 0]]]


def test_a_ball_holds_no_more_neighbours_than_there_are_points():
    assert ball_query(torch.rand(2, 5, 3), torch.rand(2, 3, 3), 9.0, 8).tolist() == [[list(range(5))] * 3] * 2


def test_neighbours_are_grouped_as_the_golden_ones():
    vectors = golden("grouping")
    points, features, centres = (vectors[key] for key in ("xyz", "features", "centres"))
    index = farthest_points(points, vectors["count"])
    assert torch.equal(gather_points(points, index), centres)
    index = ball_query(points, centres, vectors["radius"], vectors["nsample"])
    relative = gather_points(points, index) - centres[:, :, None]
    exact = {"rtol": 0, "atol": 1e-12}
    torch.testing.assert_close(relative, vectors["grouped_xyz_only"], **exact)
    torch.testing.assert_close(torch.cat([relative, gather_points(features, index)], 3), vectors["grouped"], **exact)


def test_features_are_interpolated_as_the_golden_ones():
    vectors = golden("feature_propagation")
    index, weights = three_nearest(vectors["xyz"], vectors["centres"])
    assert torch.equal(index, vectors["neighbours"])
    torch.testing.assert_close(weights, vectors["weights"], rtol=0, atol=1e-10)
    interpolated = interpolate(vectors["centre_features"], index, weights)
    torch.testing.assert_close(interpolated, vectors["interpolated"], rtol=0, atol=1e-10)


def test_each_cloud_of_a_batch_is_looked_at_alone():
    torch.manual_seed(0)
    points, first = torch.randn(3, 70, 3), torch.tensor([4, 0, 69])
    together = farthest_points(points, 40, first)
    alone = [farthest_points(cloud[None], 40, start[None]) for cloud, start in zip(points, first, strict=True)]
    assert torch.equal(together, torch.cat(alone))


def test_more_centres_than_points_are_refused():
    with pytest.raises(ValueError, match=r"8 centres are to be chosen of clouds of 5 points; lower arch\.centres"):
        farthest_points(torch.zeros(1, 5, 3), 8)


def test_weights_of_the_nearest_are_numbers_in_half_precision():
    points = torch.rand(1, 8, 3, generator=torch.Generator().manual_seed(0)) * 20
    _, expected = three_nearest(points, points[:, :5] + 1)
    for dtype in (torch.float16, torch.bfloat16):
        _, weights = three_nearest(points.to(dtype), (points[:, :5] + 1).to(dtype))
        assert weights.dtype == dtype
        torch.testing.assert_close(weights.float(), expected, rtol=0.1, atol=0.05)
