"""Coloured shapes on noise, with exact boxes and masks; nothing to download."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any, NamedTuple, Self

import torch
from torch import Generator, Tensor

from pruning_lit.data.detection import DetectionData, DetectionPart, Target
from pruning_lit.data.parts import Parts, PlannedBatch
from pruning_lit.data.seeding import generator

CLASSES = ["background", "disc", "rectangle", "triangle", "ring"]
LEAST_VISIBLE = 0.5  # share of every shape that those in front of it leave to be seen
DARK, BRIGHT, NOISE = (32, 96), (128, 256), 12.0  # levels of grounds and of shapes, deviation of every pixel


class Scene(NamedTuple):
    """An image, and what is on it.

    Attributes:
        image: uint8 ``(3, size, size)``.
        labels: int64 ``(n,)``, 1 … 4.
        masks: bool ``(n, size, size)``, the pixels of each shape that can be seen.
    """

    image: Tensor
    labels: Tensor
    masks: Tensor


def draw_scene(size: int, random: Generator) -> Scene:
    """Draw one to four shapes, each perhaps partly behind the next.

    A shape that would hide more than half of another one is left out, so that all that is on the image is told.

    Args:
        size: side of the image in pixels.
        random: the generator to draw from.
    """
    canvas = _colour(DARK, random).expand(3, size, size)
    labels, masks, areas = list[int](), torch.zeros(0, size, size, dtype=torch.bool), torch.zeros(0)
    for _ in range(int(torch.randint(1, 5, (), generator=random))):
        label = int(torch.randint(1, len(CLASSES), (), generator=random))
        mask, colour = draw_mask(label, size, random), _colour(BRIGHT, random)
        visible = masks & ~mask
        if (visible.sum((1, 2)) < LEAST_VISIBLE * areas).any():
            continue
        canvas = torch.where(mask, colour, canvas)
        labels.append(label)
        masks, areas = torch.cat([visible, mask[None]]), torch.cat([areas, mask.sum()[None]])
    image = canvas + NOISE * torch.randn(3, size, size, generator=random)
    return Scene(image.clamp(0, 255).to(torch.uint8), torch.tensor(labels), masks)


def draw_mask(label: int, size: int, random: Generator) -> Tensor:
    """Pixels of a shape somewhere on the image, bool ``(size, size)``; all of it lies within.

    Args:
        label: of the shape, its place in ``CLASSES``.
        size: side of the image in pixels; width and height of a shape are a fifth to a half of it.
        random: the generator to draw from.
    """
    half = size * (0.1 + 0.15 * torch.rand(2, generator=random))
    if CLASSES[label] in ("disc", "ring"):
        half = half[:1].expand(2)
    centre = half + (size - 2 * half) * torch.rand(2, generator=random)
    pixels = torch.arange(size) + 0.5
    x, y = (pixels[None] - centre[0]) / half[0], (pixels[:, None] - centre[1]) / half[1]  # -1 … 1 within the shape
    if CLASSES[label] == "rectangle":
        return (x.abs() <= 1) & (y.abs() <= 1)
    if CLASSES[label] == "triangle":  # its tip is on top
        return (x.abs() <= (1 + y) / 2) & (y <= 1)
    radius = (x**2 + y**2).sqrt()
    return (radius <= 1) & (radius >= (0.5 if CLASSES[label] == "ring" else 0))


def _colour(levels: tuple[int, int], random: Generator) -> Tensor:
    return torch.randint(*levels, (3, 1, 1), generator=random)


def boxes_of(masks: Tensor) -> Tensor:
    """The tightest box around each mask.

    Args:
        masks: bool ``(n, H, W)``, none empty.

    Returns:
        Float ``(n, 4)``: ``x1, y1, x2, y2`` in pixels, from edge to edge, so that a single pixel has a box of area 1.
    """
    sides = []
    for present in (masks.any(1), masks.any(2)):  # columns, rows
        first = present.int().argmax(1)
        last = present.shape[1] - present.flip(1).int().argmax(1)
        sides.append((first, last))
    (x1, x2), (y1, y2) = sides
    return torch.stack([x1, y1, x2, y2], dim=1).float()


@dataclass(frozen=True)
class ShapesPart(DetectionPart):
    """Images that are drawn whenever they are asked for."""

    size: int
    shapes_seed: int
    name: str  # of the part: each has images of its own
    masks: bool

    @property
    def shape(self) -> tuple[int, int, int]:
        """Shape of the images: (3, size, size)."""
        return 3, self.size, self.size

    def for_training(self) -> Self:
        """Images of this part, given as they are trained on: all have boxes."""
        return replace(self, training=True)

    def batches(self, plan: Iterable[PlannedBatch]) -> Iterator[Any]:
        """Draw the images, and mirror those for which 1 was drawn."""
        for positions, draws in plan:
            mirrored = draws[:, 0].tolist() if len(draws) > 0 else [0] * len(positions)
            rows = self.members[positions].tolist()
            examples = [self.example(row, bool(each)) for row, each in zip(rows, mirrored, strict=True)]
            yield [image for image, _ in examples], [target for _, target in examples]

    def example(self, index: int, mirrored: bool) -> tuple[Tensor, Target]:
        """Image and target of an index; they depend on it and the seed alone."""
        scene = draw_scene(self.size, generator("shapes", self.shapes_seed, self.name, index))
        image, masks = (each.flip(2) if mirrored else each for each in (scene.image, scene.masks))
        target = {
            "boxes": boxes_of(masks),
            "labels": scene.labels,
            "area": masks.sum((1, 2)).float(),
            "iscrowd": torch.zeros_like(scene.labels),
            "image_id": torch.tensor(index),
        }
        target |= {"masks": masks.to(torch.uint8)} if self.masks else {}
        return image, target if self.training else {**target, "size": torch.tensor([self.size, self.size])}


class CocoShapes(DetectionData):
    """Discs, rectangles, triangles and rings, one to four on an image, with boxes and masks as COCO has them.

    Args:
        num_train, num_test: number of images.
        image_size: side of the images in pixels.
        shapes_seed: of what is on them, apart from ``seed``.
        batch_size, flip, masks, val_fraction, split_seed, seed, drop_last: as for ``DetectionData``.

    Raises:
        ValueError: a setting is out of its range.
    """

    always_classes = 5

    def __init__(
        self,
        batch_size: int,
        num_train: int = 2000,
        num_test: int = 500,
        image_size: int = 64,
        shapes_seed: int = 0,
        flip: bool = True,
        masks: bool = False,
        val_fraction: float = 0.0,
        split_seed: int = 0,
        seed: int = 0,
        drop_last: bool = False,
    ) -> None:
        super().__init__(batch_size, flip, masks, val_fraction, split_seed, seed, drop_last)
        if num_train < 2 or num_test < 1:
            raise ValueError(
                f"dataset.num_train is {num_train} and dataset.num_test {num_test}, but it takes at least 2 and 1"
            )
        if image_size < 32:
            raise ValueError(f"dataset.image_size is {image_size}, but shapes can be told apart from 32 pixels on")
        self.num_train, self.num_test = num_train, num_test
        self.image_size, self.shapes_seed = image_size, shapes_seed

    def read(self) -> Parts:
        """Number the images; they are drawn when they are asked for."""
        self.category_ids = list(range(len(CLASSES)))
        return Parts(list(CLASSES), self._part("train", self.num_train), self._part("test", self.num_test))

    def _part(self, name: str, num_images: int) -> ShapesPart:
        rows = torch.arange(num_images)
        return ShapesPart(torch.zeros_like(rows), rows, False, self.image_size, self.shapes_seed, name, self.masks)

    def draw(self, num_examples: int, random: Generator) -> Tensor:
        """Mirrorings, 0 or 1 for each image, shape ``(num_examples, 1)``."""
        return torch.randint(0, 2, (num_examples, 1), generator=random) * int(self.flip)
