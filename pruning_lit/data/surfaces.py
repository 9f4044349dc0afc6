"""Surfaces of simple bodies, sampled evenly by area."""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from math import cos, hypot, pi, sin
from typing import NamedTuple

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

Points = NDArray[np.float64]  # (n, 3)
Place = tuple[float, float, float]


class Surface(ABC):
    """A surface; the vertical axis is z."""

    @property
    @abstractmethod
    def area(self) -> float:
        """Its size."""

    @abstractmethod
    def sample(self, number: int, random: Generator) -> Points:
        """Points spread evenly over it."""


@dataclass(frozen=True)
class Box(Surface):
    """The six faces of a box.

    Args:
        centre: of the box.
        size: along each axis.
    """

    centre: Place
    size: Place

    @property
    def area(self) -> float:
        """Twice the three faces."""
        x, y, z = self.size
        return 2 * (x * y + y * z + z * x)

    def sample(self, number: int, random: Generator) -> Points:
        """Points on the faces, each face by its area."""
        x, y, z = self.size
        faces = np.cumsum([y * z, z * x, x * y])  # across x, y, z
        across = np.searchsorted(faces, random.random(number) * faces[-1])
        points = random.random((number, 3)) - 0.5
        rows = np.arange(number)
        points[rows, across] = np.where(points[rows, across] < 0, -0.5, 0.5)
        return points * self.size + self.centre


@dataclass(frozen=True)
class Frustum(Surface):
    """The side of a frustum around a vertical axis; of no height it is a disc or a ring.

    Args:
        z: heights of both ends.
        radii: of both ends.
        at: place of the axis.
    """

    z: tuple[float, float]
    radii: tuple[float, float]
    at: tuple[float, float] = (0.0, 0.0)

    @property
    def area(self) -> float:
        """``pi (r + R)`` times the slant."""
        (low, high), (one, other) = self.z, self.radii
        return pi * (one + other) * hypot(high - low, other - one)

    def sample(self, number: int, random: Generator) -> Points:
        """Points by area: the density along the slant grows with the radius."""
        (low, high), (one, other) = self.z, self.radii
        radius = np.sqrt(one**2 + random.random(number) * (other**2 - one**2))
        share = random.random(number) if one == other else (radius - one) / (other - one)
        angle = 2 * pi * random.random(number)
        x, y = radius * np.cos(angle) + self.at[0], radius * np.sin(angle) + self.at[1]
        return np.stack([x, y, low + share * (high - low)], axis=1)


@dataclass(frozen=True)
class Zone(Surface):
    """A zone of a sphere between two heights.

    Args:
        centre: height of the sphere's centre on the z axis.
        radius: of the sphere.
        heights: from and to, in radii, -1 to 1.
    """

    centre: float
    radius: float
    heights: tuple[float, float]

    @property
    def area(self) -> float:
        """``2 pi r`` times the height (Archimedes)."""
        return 2 * pi * self.radius**2 * (self.heights[1] - self.heights[0])

    def sample(self, number: int, random: Generator) -> Points:
        """Points evenly by height."""
        height = random.uniform(*self.heights, number)
        angle, radius = 2 * pi * random.random(number), self.radius * np.sqrt(1 - height**2)
        return np.stack([radius * np.cos(angle), radius * np.sin(angle), self.centre + self.radius * height], axis=1)


@dataclass(frozen=True)
class TorusSegment(Surface):
    """A bent tube in the plane of x and z, a half of a torus that opens towards -x.

    Args:
        centre: of the torus.
        radius: of the bend.
        tube: radius of the tube.
    """

    centre: Place
    radius: float
    tube: float

    @property
    def area(self) -> float:
        """Half of ``4 pi**2 R r``."""
        return 2 * pi**2 * self.radius * self.tube

    def sample(self, number: int, random: Generator) -> Points:
        """Points by area: there is more of it on the outer side."""
        around = pi * (random.random(number) - 0.5)  # the outer side, from which some go to the inner one
        inner = random.random(number) > (1 + self.tube / self.radius * np.cos(around)) / 2
        around = np.where(inner, pi - around, around)
        along, out = pi * (random.random(number) - 0.5), self.radius + self.tube * np.cos(around)
        ring = np.stack([out * np.cos(along), self.tube * np.sin(around), out * np.sin(along)], axis=1)
        return ring + self.centre


class PartSurface(NamedTuple):
    """A surface, and the number of the part that it belongs to, among those of its object."""

    part: int
    surface: Surface


def disc(z: float, radius: float) -> Frustum:
    """A disc at a height."""
    return Frustum((z, z), (0.0, radius))


def corners(half: float, other: float) -> list[tuple[float, float]]:
    """The four corners of a rectangle around the axis."""
    return [(x * half, y * other) for x in (-1, 1) for y in (-1, 1)]


def around(radius: float, number: int) -> list[tuple[float, float]]:
    """Places evenly on a circle around the axis."""
    return [(radius * cos(2 * pi * i / number), radius * sin(2 * pi * i / number)) for i in range(number)]


def sample(surfaces: list[PartSurface], number: int, random: Generator) -> tuple[Points, NDArray[np.int64]]:
    """Points evenly over several surfaces, in no order.

    Args:
        surfaces: of an object.
        number: how many points.
        random: to draw from.

    Returns:
        The points ``(number, 3)``, and the part that each belongs to.
    """
    areas = np.array([each.surface.area for each in surfaces])
    counts = random.multinomial(number, areas / areas.sum())
    points = np.concatenate([each.surface.sample(count, random) for each, count in zip(surfaces, counts, strict=True)])
    parts = np.repeat([each.part for each in surfaces], counts)
    order = random.permutation(number)
    return points[order], parts[order]
