"""Operations on point clouds: ours over the loop of the public PyTorch version of PointNet++.

    python benchmarks/point_operations.py

*Public* is written from the description of that version: a loop of sampling that writes through boolean masks, balls by
sorting an index of all points, three nearest points by sorting all distances, distances as -2xy + x^2 + y^2, groups as
``(B, S, K, C)``. Both sides run in one process, in turns, on one thread; the time of each is the least of all rounds.
Clouds are normalised as the recipe does. Results are compared: where distances are rounded in another way, the
membership of a point on the border of a ball differs.
"""

import argparse
import time
from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor, nn

from pruning_lit.measure.machine import hardware, versions
from pruning_lit.models.point_operations import (
    ball_query,
    farthest_points,
    gather_points,
    interpolate,
    three_nearest,
)


def public_distances(ones: Tensor, others: Tensor) -> Tensor:
    product = -2 * torch.matmul(ones, others.permute(0, 2, 1))
    return product + (ones**2).sum(-1)[:, :, None] + (others**2).sum(-1)[:, None]


def public_pick(points: Tensor, index: Tensor) -> Tensor:
    shape = [len(index), *[1] * (index.ndim - 1)]
    batch = torch.arange(len(points)).view(shape).repeat(1, *index.shape[1:])
    return points[batch, index, :]


def public_farthest(points: Tensor, count: int) -> Tensor:
    centres = torch.zeros(len(points), count, dtype=torch.long)
    distance = torch.ones(points.shape[:2]) * 1e10
    farthest, batch = torch.zeros(len(points), dtype=torch.long), torch.arange(len(points))
    for i in range(count):
        centres[:, i] = farthest
        centre = points[batch, farthest, :].view(-1, 1, 3)
        squared = ((points - centre) ** 2).sum(-1)
        closer = squared < distance
        distance[closer] = squared[closer]
        farthest = torch.max(distance, -1)[1]
    return centres


def public_ball(points: Tensor, centres: Tensor, radius: float, number: int) -> Tensor:
    length = points.shape[1]
    squared = public_distances(centres, points)
    index = torch.arange(length).view(1, 1, length).repeat(len(points), centres.shape[1], 1)
    index[squared > radius**2] = length
    index = index.sort(dim=-1)[0][:, :, :number]
    first = index[:, :, :1].repeat(1, 1, number)
    missing = index == length
    index[missing] = first[missing]
    return index


def public_group(points: Tensor, features: Tensor, centres: Tensor, index: Tensor) -> Tensor:
    relative = public_pick(points, index) - centres.view(len(centres), -1, 1, 3)
    return torch.cat([relative, public_pick(features, index)], dim=-1).permute(0, 3, 2, 1)


def our_group(points: Tensor, features: Tensor, centres: Tensor, index: Tensor) -> Tensor:
    index = index.mT.contiguous()
    grouped = gather_points(torch.cat([points, features], 2), index)
    grouped -= torch.cat([centres, torch.zeros_like(gather_points(features, index[:, 0]))], 2)[:, None]
    return grouped.permute(0, 3, 1, 2)


def public_interpolation(points: Tensor, centres: Tensor, features: Tensor) -> Tensor:
    distances, index = public_distances(points, centres).sort(dim=-1)
    inverse = 1.0 / (distances[:, :, :3] + 1e-8)
    weights = inverse / inverse.sum(dim=2, keepdim=True)
    return torch.sum(public_pick(features, index[:, :, :3]) * weights.view(*weights.shape, 1), dim=2)


def our_interpolation(points: Tensor, centres: Tensor, features: Tensor) -> Tensor:
    return interpolate(features, *three_nearest(points, centres))


def in_turns(public: Callable[[], Tensor], ours: Callable[[], Tensor], rounds: int) -> tuple[float, float, str]:
    """Seconds of both, and how far their results differ."""
    times: tuple[list[float], list[float]] = ([], [])
    for _ in range(rounds):
        results = []
        for side, run in zip(times, (public, ours), strict=True):
            start = time.perf_counter()
            results.append(run())
            side.append(time.perf_counter() - start)
    one, other = results
    if one.is_floating_point():
        return min(times[0]), min(times[1]), f"{float((one - other).abs().max()):.0e}"
    return min(times[0]), min(times[1]), f"{float((one != other).float().mean()):.1e} of the indices"


@torch.no_grad()
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5, help="in each of which both sides run once")
    parser.add_argument("--batch", type=int, default=24, help="number of clouds; 24 in the recipe")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    print(f"{hardware(torch.device('cpu'))}, one thread; {', '.join(f'{k} {v}' for k, v in versions().items())}\n")
    batch, rounds = arguments.batch, arguments.rounds
    print(f"batches of {batch}\n\n| operation | public | ours | public / ours | difference |\n|---|---|---|---|---|")
    total = [0.0, 0.0]

    def row(name: str, public: Callable[[], Tensor], ours: Callable[[], Tensor]) -> None:
        one, other, difference = in_turns(public, ours, rounds)
        total[0] += one
        total[1] += other
        print(f"| {name} | {1e3 * one:.1f} ms | {1e3 * other:.1f} ms | {one / other:.1f}x | {difference} |", flush=True)

    points = torch.randn(batch, 1024, 3)
    points = points / points.norm(dim=2).amax(1)[:, None, None]
    levels = [("sa1", 512, 0.2, 32, 3), ("sa2", 128, 0.4, 64, 128)]  # of PointNet++ with one scale, with normals
    clouds, fine = [points], points
    for name, count, radius, number, width in levels:
        features = torch.randn(batch, fine.shape[1], width)
        index = farthest_points(fine, count)
        centres = gather_points(fine, index)
        ball = ball_query(fine, centres, radius, number)
        size = f"{name}: {fine.shape[1]} -> {count}"
        row(f"farthest points, {size}", partial(public_farthest, fine, count), partial(farthest_points, fine, count))
        scale = (fine, centres, radius, number)
        row(f"balls of {number}, {size}", partial(public_ball, *scale), partial(ball_query, *scale))
        tensors = (fine, features, centres, ball)
        row(f"groups of {3 + width} channels, {size}", partial(public_group, *tensors), partial(our_group, *tensors))
        clouds.append(centres)
        fine = centres
    for coarse, near, width in ((2, 1, 256), (1, 0, 128)):
        features = torch.randn(batch, clouds[coarse].shape[1], width)
        size, given = f"{clouds[coarse].shape[1]} -> {clouds[near].shape[1]}", (clouds[near], clouds[coarse], features)
        row(
            f"interpolation of {width} channels, {size}",
            partial(public_interpolation, *given),
            partial(our_interpolation, *given),
        )
    print(f"| all | {1e3 * total[0]:.1f} ms | {1e3 * total[1]:.1f} ms | {total[0] / total[1]:.1f}x | |")
    groups = our_group(clouds[1], torch.randn(batch, 512, 128), clouds[2], ball)
    layer, plain = (
        nn.Conv2d(131, 128, 1),
        groups.mT.clone(memory_format=torch.channels_last).mT,
    )  # as the public ones lie
    one, other, difference = in_turns(partial(layer, plain), partial(layer, groups), rounds)
    print(
        f"| not in it: the first convolution of sa2 on such groups | {1e3 * one:.1f} ms | {1e3 * other:.1f} ms | "
        f"{one / other:.1f}x | {difference} |"
    )


if __name__ == "__main__":
    main()
