"""The data module that all point clouds share: classes of clouds, or parts of which their points are."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Generator, Tensor

from pruning_lit.data.base import DataModule
from pruning_lit.data.cloud_augment import CloudAugmentation, augment
from pruning_lit.data.parts import Part, PlannedBatch

NO_PART = -1  # of points that do not count: outliers, and copies that fill a cloud up
Draws = dict[str, Tensor]
CloudBatch = tuple[Tensor, Tensor, Tensor | None, Draws]  # points, categories, parts of points, what was drawn


@dataclass(frozen=True)
class CloudPart(Part):
    """Some of the clouds in a tensor, all with the same number of points; ``targets`` are classes, or categories."""

    points: Tensor  # float (N, points, 3), or (…, 6) with normals
    part_labels: Tensor | None  # int (N, points), or None where points have no parts
    augmentation: CloudAugmentation

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of a cloud: (points, 3), or (points, 6) with normals."""
        return tuple(self.points.shape[1:])

    def cloud(self, row: int, random: Generator | None) -> tuple[Tensor, Tensor | None]:
        """Points, and their parts, of a cloud; the same in training (``random`` is given) and evaluation."""
        return self.points[row], None if self.part_labels is None else self.part_labels[row]

    def batches(self, plan: Iterable[PlannedBatch]) -> Iterator[CloudBatch]:  # type: ignore[override]
        """Copy clouds out, and draw their augmentation, each by its own seed; it is carried out on the device."""
        for positions, seeds in plan:
            rows = self.members[positions]
            randoms: list[Generator] | list[None] = [torch.Generator().manual_seed(int(seed)) for seed in seeds]
            clouds = [
                self.cloud(row, random)
                for row, random in zip(rows.tolist(), randoms or [None] * len(rows), strict=True)
            ]
            points = torch.stack([each for each, _ in clouds])
            parts = [each.long() for _, each in clouds if each is not None]
            drawn = [self.augmentation.draw(points.shape[1], random) for random in randoms if random is not None]
            draws = {name: torch.stack([each[name] for each in drawn]) for name in drawn[0]} if drawn else {}
            yield points, self.targets[rows], torch.stack(parts) if parts else None, draws


class PointCloudData(DataModule):
    """Batches of point clouds; a data set says how to ``read`` its parts.

    Without parts a batch is ``points, classes``: float ``(B, N, 3)``, or ``(B, N, 6)`` with normals, and int64
    ``(B,)``. With parts it is ``(points, category), parts``: the network is told the category, int64 ``(B,)``, and the
    parts of the points are int64 ``(B, N)``, -1 for points that do not count. Parts are numbered through: no two
    categories share one.

    Args:
        batch_size, val_fraction, split_seed, seed, drop_last: as for ``DataModule``.
        num_points: in each cloud.
        dropout, scale, shift, turn, jitter: of training clouds, see ``CloudAugmentation``.

    Attributes:
        with_parts: whether the targets are parts of points; ``classes`` are then the parts.
        categories: with parts, the numbers of those of each category, by its name; else None.
        vertical: the axis that clouds are turned about.

    Raises:
        ValueError: a setting is out of its range.
    """

    classes: list[str]
    num_classes: int
    categories: dict[str, list[int]] | None = None
    with_parts: ClassVar[bool] = False
    vertical: ClassVar[int] = 2

    def __init__(
        self,
        batch_size: int,
        num_points: int,
        dropout: float = 0.0,
        scale: Sequence[float] = (0.8, 1.25),
        shift: float = 0.1,
        turn: bool = False,
        jitter: float = 0.0,
        val_fraction: float = 0.0,
        split_seed: int = 0,
        seed: int = 0,
        drop_last: bool = False,
    ) -> None:
        super().__init__(batch_size, val_fraction, split_seed, seed, drop_last)
        if num_points < 1:
            raise ValueError(f"dataset.num_points is {num_points}, but a cloud has at least 1 point")
        self.num_points = num_points
        self.augmentation = CloudAugmentation(dropout, tuple(scale), shift, turn, jitter)

    @property
    def num_categories(self) -> int | None:
        """Number of categories that a network for parts is told; None without parts."""
        return None if self.categories is None else len(self.categories)

    def draw(self, num_examples: int, random: Generator) -> Tensor:
        """A seed for the augmentation of each cloud, shape ``(num_examples, 1)``."""
        return torch.randint(2**62, (num_examples, 1), generator=random)

    def make_example(self, part: Part) -> Any:
        """The first training cloud: on points that are all alike every neighbourhood would be the same."""
        assert isinstance(part, CloudPart)
        nothing_drawn = torch.empty(0, 1, dtype=torch.int64)
        inputs, _ = self.ready(next(iter(part.batches([(torch.zeros(1, dtype=torch.int64), nothing_drawn)]))))
        return inputs

    def facts(self) -> dict[str, Any]:
        """Also the parts of each category."""
        return {**super().facts(), **({} if self.categories is None else {"categories": self.categories})}

    def ready(self, batch: CloudBatch) -> tuple[Any, Tensor]:
        """Inputs and targets of a batch, augmented on the device it is on.

        Args:
            batch: points ``(B, N, C)``, categories ``(B,)``, parts ``(B, N)`` or None, and what was drawn.
        """
        points, categories, parts, draws = batch
        points = augment(points.float(), draws, self.vertical)
        if parts is None:
            return points, categories
        if "dropped" in draws:  # these points are copies of the first
            parts = torch.where(draws["dropped"], NO_PART, parts)
        return (points, categories), parts


def part_names(categories: dict[str, Sequence[str]]) -> tuple[list[str], dict[str, list[int]]]:
    """Number the parts of all categories through.

    Args:
        categories: by name, the names of their parts.

    Returns:
        Names of the parts (``table top``), and the numbers of each category.
    """
    names, numbers = list[str](), dict[str, list[int]]()
    for category, parts in categories.items():
        numbers[category] = list(range(len(names), len(names) + len(parts)))
        names += [f"{category} {part}" for part in parts]
    return names, numbers
