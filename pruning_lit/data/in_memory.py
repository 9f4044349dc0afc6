"""Images kept in memory as bytes, augmented a whole batch at a time on the device."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Generator, Tensor

from pruning_lit.data.augment import crop, draw, mirror
from pruning_lit.data.image_data import ImageData
from pruning_lit.data.parts import Batch, Part, PlannedBatch


@dataclass(frozen=True)
class MemoryPart(Part):
    """Some of the images in a tensor; a held-out part is another view of the same bytes."""

    images: Tensor  # uint8 (N, C, H, W)

    @property
    def shape(self) -> tuple[int, int, int]:
        """Shape of the stored images: (C, H, W)."""
        _, channels, height, width = self.images.shape
        return channels, height, width

    def take(self, positions: Tensor) -> tuple[Tensor, Tensor]:
        """Copies of the images and targets at some positions ``0 … M - 1``."""
        rows = self.members[positions]
        return self.images[rows], self.targets[rows]

    def batches(self, plan: Iterable[PlannedBatch]) -> Iterator[Batch]:
        """Copy the images out; the draws are carried out later, on the device."""
        for positions, draws in plan:
            yield *self.take(positions), draws


def whole(images: Tensor, targets: Tensor) -> MemoryPart:
    """The part that all images ``(N, C, H, W)`` with targets ``(N,)`` belong to."""
    return MemoryPart(targets, torch.arange(len(targets)), images)


class ImagesInMemory(ImageData):
    """Small images of one size, all in memory as uint8; a data set says how to ``read`` them.

    Batches are cut on the CPU (no worker processes: indexing is faster than sending), carried to the device as bytes,
    and cropped, mirrored and normalised there.

    Args:
        pad: training windows move by up to this many pixels over a black margin; 0 switches cropping off.
        **settings: see ``ImageData``.

    Raises:
        ValueError: a setting is out of its range.
    """

    def __init__(self, pad: int = 0, **settings: Any) -> None:
        super().__init__(**settings)
        if pad < 0:
            raise ValueError(f"dataset.pad is {pad}, but a margin has at least 0 pixels")
        self.pad = pad

    def draw(self, num_examples: int, random: Generator) -> Tensor:
        """Windows and mirrorings, shape ``(num_examples, 3)``; see ``augment.draw``."""
        return draw(num_examples, self.pad, self.flip, random)

    def augment(self, images: Tensor, draws: Tensor) -> Tensor:
        """Crop and mirror a batch as drawn."""
        if len(draws) > 0 and self.pad > 0:
            images = crop(images, draws[:, :2], self.pad)
        if len(draws) > 0 and self.flip:
            images = mirror(images, draws[:, 2])
        return images
