"""Geometry of point clouds: farthest points, balls, groups of neighbours, interpolation.

Clouds are coordinates ``(B, N, 3)``. Indices and weights carry no gradient; all of them depend on nothing but the
clouds, the given first points included. Distances are summed squares of differences, in the precision of the clouds.

Source: Qi et al. 2017, "PointNet++: Deep Hierarchical Feature Learning on Point Sets in a Metric Space", section 3,
as the public PyTorch version has it.
"""

import torch
from torch import Tensor

BLOCK = 16  # centres whose distances to all points are held at a time: in the cache of a CPU, and few steps for a GPU
NEAR_ZERO = 1e-8  # added to a squared distance before it is inverted


@torch.no_grad()
def farthest_points(points: Tensor, count: int, first: Tensor | None = None) -> Tensor:
    """Points of each cloud, every one as far as can be from those before it.

    Of several at the same distance the one with the smallest index; where all distinct points are taken, 0 repeats.

    Args:
        points: coordinates, shape ``(B, N, 3)``.
        count: number of points to choose.
        first: index of the point to begin with in each cloud, int64, shape ``(B,)``; None: 0.

    Returns:
        Indices in the order of choice, int64, shape ``(B, count)``.

    Raises:
        ValueError: there are fewer points than that.
    """
    if not 1 <= count <= points.shape[1]:
        raise ValueError(f"{count} centres are to be chosen of clouds of {points.shape[1]} points; lower arch.centres")
    x, y, z = points.permute(2, 0, 1).contiguous()
    nearest = torch.full_like(x, torch.inf)  # squared distance to the nearest chosen point
    last = (x.new_zeros(x.shape[0], dtype=torch.long) if first is None else first)[:, None]
    chosen = [last]
    for _ in range(count - 1):
        squared = (x - x.gather(1, last)).square_()
        for axis in (y, z):
            difference = axis - axis.gather(1, last)
            squared.addcmul_(difference, difference)
        nearest = torch.minimum(nearest, squared)
        last = nearest.argmax(1, keepdim=True)
        chosen.append(last)
    return torch.cat(chosen, 1)


@torch.no_grad()
def ball_query(points: Tensor, centres: Tensor, radius: float, num_neighbours: int) -> Tensor:
    """Neighbours of each centre: the first ones, in order of index, within a radius, border included.

    Where there are fewer the first one found takes the other places; where there is none, the nearest point all.

    Args:
        points: coordinates, shape ``(B, N, 3)``.
        centres: coordinates, shape ``(B, S, 3)``.
        radius: in the unit of the coordinates.
        num_neighbours: K; as many as there are points, at most.

    Returns:
        Indices of points, int64, shape ``(B, S, K)``.
    """
    number = points.shape[1]
    places = min(num_neighbours, number)
    order = torch.arange(number, device=points.device)
    found = []
    for block in centres.split(BLOCK, 1):
        squared = square_distances(block, points)
        inside = squared <= squared.amin(2, keepdim=True).clamp(min=radius**2)
        passed = inside.cumsum(2)
        place = torch.where(inside & (passed <= places), passed - 1, places)  # the last one: for what is left out
        empty = place.new_full((*place.shape[:2], places + 1), number)
        found.append(empty.scatter(2, place, order.expand_as(place))[..., :places])
    index = torch.cat(found, 1)
    return torch.where(index == number, index[:, :, :1], index)


@torch.no_grad()
def three_nearest(points: Tensor, centres: Tensor) -> tuple[Tensor, Tensor]:
    """The three centres that are nearest to each point, and the weights of their features in an interpolation.

    Args:
        points: coordinates, shape ``(B, N, 3)``.
        centres: coordinates, shape ``(B, S, 3)``; of fewer than three, all are taken.

    Returns:
        Indices of centres, the nearest first, int64, and weights, in proportion to the inverse of the squared
        distance, with sum 1; both of shape ``(B, N, 3)``.
    """
    nearest = [
        square_distances(block, centres).topk(min(3, centres.shape[1]), dim=2, largest=False, sorted=True)
        for block in points.split(BLOCK, 1)
    ]
    squared = torch.cat([each.values for each in nearest], 1)
    # NEAR_ZERO / (squared + NEAR_ZERO), which ONNX takes for a sum with zero; float16 would not hold it
    weights = 1 / (squared.to(torch.promote_types(squared.dtype, torch.float32)) / NEAR_ZERO + 1)
    return torch.cat([each.indices for each in nearest], 1), (weights / weights.sum(2, keepdim=True)).to(squared)


def square_distances(ones: Tensor, others: Tensor) -> Tensor:
    """Squared distances, shape ``(B, S, N)``, from points ``(B, S, 3)`` to points ``(B, N, 3)``."""
    own, far = ones.mT.contiguous()[..., None], others.mT.contiguous()[:, :, None]
    squared = (own[:, 0] - far[:, 0]).square_()
    for axis in (1, 2):
        difference = own[:, axis] - far[:, axis]
        squared.addcmul_(difference, difference)
    return squared


def gather_points(values: Tensor, index: Tensor) -> Tensor:
    """Coordinates or features of chosen points.

    Args:
        values: shape ``(B, N, C)``.
        index: of points in each cloud, int64, shape ``(B, ...)``.

    Returns:
        Shape ``(B, ..., C)``.
    """
    clouds = torch.arange(values.shape[0], device=values.device).view(-1, *[1] * (index.ndim - 1))
    return values[clouds, index]


def interpolate(features: Tensor, index: Tensor, weights: Tensor) -> Tensor:
    """Weighted mean of the features of three centres, for every point.

    Args:
        features: of the centres, shape ``(B, S, C)``.
        index: as ``three_nearest`` gives them, shape ``(B, N, 3)``.
        weights: likewise.

    Returns:
        Features of the points, shape ``(B, N, C)``.
    """
    first, *others = index.unbind(2)
    total = gather_points(features, first) * weights[..., :1]
    for number, each in enumerate(others, start=1):
        total = torch.addcmul(total, gather_points(features, each), weights[..., number, None])
    return total
