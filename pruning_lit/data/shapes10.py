"""Ten procedural objects as point clouds, for classification and for their parts; nothing to download."""

from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.random import Generator, default_rng

from pruning_lit.data.clouds import NO_PART, CloudPart, PointCloudData, part_names
from pruning_lit.data.objects import OBJECTS
from pruning_lit.data.parts import Parts
from pruning_lit.data.surfaces import Points, sample


class Difficulty(NamedTuple):
    """Distance of clouds from clean surfaces.

    Attributes:
        stretch: each axis is stretched by a factor of 1 ± this.
        tilt: standard deviation of the turns about x and y, radians.
        occlude: largest share of the points that is hidden, beyond a plane.
        noise: standard deviation of what points are moved by, where the largest norm is 1; clipped at 3 of them.
        outliers: share of the points that lie anywhere in the cube within the unit ball.
    """

    stretch: float
    tilt: float
    occlude: float
    noise: float
    outliers: float


def draw_cloud(shape: int, num_points: int, difficulty: Difficulty, random: Generator) -> tuple[Points, np.ndarray]:
    """Draw an object, and points on its surface.

    Args:
        shape: number of the object.
        num_points: how many points.
        difficulty: of the cloud.
        random: of the cloud alone.

    Returns:
        Points ``(num_points, 3)``, centred, the largest norm 1; their parts among those of the object, -1 for outliers.
    """
    _, make = list(OBJECTS.values())[shape]
    hidden = random.uniform(0, difficulty.occlude)
    points, parts = sample(make(random), int(np.ceil(num_points / (1 - hidden))), random)
    points *= random.uniform(1 - difficulty.stretch, 1 + difficulty.stretch, 3)
    points = points @ turned(random.uniform(0, 2 * np.pi), *random.normal(0, difficulty.tilt, 2)).T
    direction = random.normal(size=3)
    seen = np.sort(np.argsort(points @ direction)[:num_points])  # in the order as before, which is none
    points, parts = centred(points[seen]), parts[seen]
    points += np.clip(random.normal(0, difficulty.noise, points.shape), -3 * difficulty.noise, 3 * difficulty.noise)
    astray = random.random(num_points) < difficulty.outliers
    points[astray] = random.uniform(-1, 1, (astray.sum(), 3)) / np.sqrt(3)
    parts[astray] = NO_PART
    return centred(points), parts


def turned(about_z: float, about_x: float, about_y: float) -> np.ndarray:
    """The matrix of a turn about z, then x, then y; angles in radians."""
    matrix = np.eye(3)
    for (one, other), angle in (((0, 1), about_z), ((1, 2), about_x), ((2, 0), about_y)):
        step = np.eye(3)
        step[[one, other], [one, other]] = np.cos(angle)
        step[one, other], step[other, one] = -np.sin(angle), np.sin(angle)
        matrix = step @ matrix
    return matrix


def centred(points: Points) -> Points:
    """Points around their mean, the largest norm 1."""
    points = points - points.mean(0)
    return points / np.sqrt((points**2).sum(1).max())


class Shapes10(PointCloudData):
    """Tables, stools, chairs, lamps, mugs, bottles, goblets, rockets, mushrooms and hammers, as clouds to classify.

    They are turned about the vertical axis z, and stand nearly upright; a part of each is hidden. A cloud depends on
    ``shapes_seed``, its part and its number alone; number i is of class i mod 10.

    Args:
        batch_size, val_fraction, split_seed, seed, drop_last: as for ``DataModule``.
        num_points: in each cloud.
        num_train, num_test: number of clouds.
        stretch, tilt, occlude, noise, outliers: see ``Difficulty``.
        shapes_seed: of the clouds, apart from ``seed``.
        **settings: see ``PointCloudData``.

    Raises:
        ValueError: a setting is out of its range.
    """

    always_classes = 10

    def __init__(
        self,
        batch_size: int,
        num_points: int = 512,
        num_train: int = 2000,
        num_test: int = 1000,
        stretch: float = 0.2,
        tilt: float = 0.15,
        occlude: float = 0.4,
        noise: float = 0.03,
        outliers: float = 0.05,
        shapes_seed: int = 0,
        **settings: Any,
    ) -> None:
        super().__init__(batch_size, num_points, **settings)
        if num_train < 2 or num_test < 1:
            raise ValueError(
                f"dataset.num_train is {num_train} and dataset.num_test {num_test}, but it takes at least 2 and 1"
            )
        for name, value in (("stretch", stretch), ("occlude", occlude), ("outliers", outliers)):
            if not 0 <= value < 1:
                raise ValueError(f"dataset.{name} is {value}, but it is a share from 0 to below 1")
        for name, value in (("tilt", tilt), ("noise", noise)):
            if value < 0:
                raise ValueError(f"dataset.{name} is {value}, but a standard deviation is not negative")
        self.num_train, self.num_test, self.shapes_seed = num_train, num_test, shapes_seed
        self.difficulty = Difficulty(stretch, tilt, occlude, noise, outliers)

    def read(self) -> Parts:
        """Draw the clouds."""
        names, numbers = part_names({shape: parts for shape, (parts, _) in OBJECTS.items()})
        if self.with_parts:
            self.categories = numbers
        train, test = (self._part(*each) for each in ((0, self.num_train), (1, self.num_test)))
        return Parts(names if self.with_parts else list(OBJECTS), train, test)

    def _part(self, number: int, num_clouds: int) -> CloudPart:
        first_parts = np.cumsum([0, *(len(parts) for parts, _ in OBJECTS.values())])
        points = torch.empty(num_clouds, self.num_points, 3)
        parts = torch.empty(num_clouds, self.num_points, dtype=torch.int64)
        shapes = torch.arange(num_clouds) % len(OBJECTS)
        for index, shape in enumerate(shapes.tolist()):
            random = default_rng([self.shapes_seed, number, index])
            drawn, of_object = draw_cloud(shape, self.num_points, self.difficulty, random)
            points[index] = torch.from_numpy(drawn)
            parts[index] = torch.from_numpy(np.where(of_object == NO_PART, NO_PART, of_object + first_parts[shape]))
        labels = parts if self.with_parts else None
        return CloudPart(shapes, torch.arange(num_clouds), points, labels, self.augmentation)


class Shapes10Parts(Shapes10):
    """Clouds of ``Shapes10`` with the part of its object that each point belongs to: 24 in all; the object is told.

    Args: see ``Shapes10``.
    """

    always_classes = 24
    with_parts = True
