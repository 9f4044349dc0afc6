"""Augmentation of point clouds: numbers drawn per cloud on the CPU, carried out on whatever device the clouds are."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Generator, Tensor

CLIP = 5  # standard deviations at which jitter ends


@dataclass(frozen=True)
class CloudAugmentation:
    """Settings of augmentation: turn, point dropout, scale, shift and jitter, in this order.

    Args:
        dropout: largest share of the points that are dropped; 0: none.
        scale: range of the factor on all coordinates.
        shift: largest move along each axis.
        turn: turn about the vertical axis, by any angle.
        jitter: standard deviation of what each coordinate is moved by, clipped at 5 of them; 0: none.

    Raises:
        ValueError: a setting is out of its range.

    Source: Qi et al. 2017, "PointNet++", as the public PyTorch version has it, which knows no turns and no jitter.
    """

    dropout: float
    scale: Sequence[float]
    shift: float
    turn: bool
    jitter: float

    def __post_init__(self) -> None:
        if not 0 <= self.dropout < 1:
            raise ValueError(f"dataset.dropout is {self.dropout}, but it is a share of the points, 0 to below 1")
        if len(self.scale) != 2 or not 0 < self.scale[0] <= self.scale[1]:
            raise ValueError(f"dataset.scale is {list(self.scale)}, expected [smallest, largest] factor above 0")
        for name, length in (("shift", self.shift), ("jitter", self.jitter)):
            if length < 0:
                raise ValueError(f"dataset.{name} is {length}, but a length is not negative")

    def draw(self, num_points: int, random: Generator) -> dict[str, Tensor]:
        """Draw what happens to one cloud; what is switched off is left out.

        Args:
            num_points: in the cloud, N.
            random: of the cloud.

        Returns:
            ``angle ()``; ``dropped``, boolean ``(N,)``; ``scale ()``; ``shift (3,)``; ``jitter (N, 3)``.
        """
        drawn: dict[str, Tensor] = {}
        if self.turn:
            drawn["angle"] = 2 * math.pi * torch.rand((), generator=random)
        if self.dropout:
            ratio = self.dropout * torch.rand((), generator=random)
            drawn["dropped"] = torch.rand(num_points, generator=random) <= ratio
        low, high = self.scale
        drawn["scale"] = low + (high - low) * torch.rand((), generator=random)
        drawn["shift"] = self.shift * (2 * torch.rand(3, generator=random) - 1)
        if self.jitter:
            moved = torch.randn(num_points, 3, generator=random).clamp(-CLIP, CLIP)
            drawn["jitter"] = self.jitter * moved
        return drawn


def augment(points: Tensor, draws: Mapping[str, Tensor], vertical: int = 2) -> Tensor:
    """Carry out what was drawn for a batch of clouds.

    Args:
        points: ``(B, N, 3)``, or ``(B, N, 6)`` with normals.
        draws: as ``CloudAugmentation.draw`` gives them, with a batch dimension in front; a dropped point becomes a copy
            of the first.
        vertical: the axis that clouds are turned about: 1 for y, 2 for z.
    """
    if "angle" in draws:
        points = torch.cat([turn(each, draws["angle"], vertical) for each in points.split(3, dim=-1)], dim=-1)
    if "dropped" in draws:
        points = torch.where(draws["dropped"][..., None], points[:, :1], points)
    places, normals = points[..., :3], points[..., 3:]
    if "scale" in draws:
        places = places * draws["scale"][:, None, None].to(points)
    if "shift" in draws:
        places = places + draws["shift"][:, None].to(points)
    if "jitter" in draws:
        places = places + draws["jitter"].to(points)
    return torch.cat([places, normals], dim=-1)


def turn(vectors: Tensor, angle: Tensor, vertical: int) -> Tensor:
    """Turn row vectors about an axis.

    About y the matrix is ``[[c, 0, s], [0, 1, 0], [-s, 0, c]]``; about z ``[[c, s, 0], [-s, c, 0], [0, 0, 1]]``.

    Args:
        vectors: ``(B, N, 3)``.
        angle: radians, ``(B,)``.
        vertical: 1 for y, 2 for z.
    """
    cos, sin = (each.to(vectors)[:, None] for each in (angle.cos(), angle.sin()))
    one, other = (axis for axis in range(3) if axis != vertical)
    turned = vectors.clone()
    turned[..., one] = cos * vectors[..., one] - sin * vectors[..., other]
    turned[..., other] = sin * vectors[..., one] + cos * vectors[..., other]
    return turned


def normalised(places: Tensor) -> Tensor:
    """Centre clouds on the mean of their points and divide by the largest norm.

    Args:
        places: ``(…, N, 3)``; a cloud of a single place stays at 0.
    """
    places = places - places.mean(-2, keepdim=True)
    largest = places.norm(dim=-1).amax(-1)[..., None, None]
    return places / torch.where(largest > 0, largest, 1)
