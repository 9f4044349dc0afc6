"""Pictures kept in memory as bytes, augmented a whole batch at a time on the device."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Generator, Tensor

from pruning_lit.data.augment import crop, draw, mirror
from pruning_lit.data.parts import Batch, Part, PlannedBatch
from pruning_lit.data.pictures import Pictures


@dataclass(frozen=True)
class MemoryPart(Part):
    """Some of the pictures in a tensor; a held-out part is another view of the same bytes."""

    pictures: Tensor  # uint8 (N, C, H, W)

    @property
    def shape(self) -> tuple[int, int, int]:
        """See ``Part``."""
        _, channels, height, width = self.pictures.shape
        return channels, height, width

    def take(self, positions: Tensor) -> tuple[Tensor, Tensor]:
        """Copies of the pictures and targets at some positions ``0 … M - 1``."""
        rows = self.members[positions]
        return self.pictures[rows], self.targets[rows]

    def batches(self, plan: Iterable[PlannedBatch]) -> Iterator[Batch]:
        """Copy the pictures out; the draws are carried out later, on the device."""
        for positions, draws in plan:
            yield *self.take(positions), draws


def whole(pictures: Tensor, targets: Tensor) -> MemoryPart:
    """The part that all pictures ``(N, C, H, W)`` with targets ``(N,)`` belong to."""
    return MemoryPart(targets, torch.arange(len(targets)), pictures)


class PicturesInMemory(Pictures):
    """Small pictures of one size, all in memory as uint8; a data set says how to ``read`` them.

    Batches are cut on the CPU (no worker processes: indexing is faster than sending), carried to the device as bytes,
    and cropped, mirrored and normalised there.

    Args:
        pad: training windows move by up to this many pixels over a black margin; 0 switches cropping off.
        **settings: see ``Pictures``.

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

    def augment(self, pictures: Tensor, draws: Tensor) -> Tensor:
        """Crop and mirror a batch as drawn."""
        if len(draws) > 0 and self.pad > 0:
            pictures = crop(pictures, draws[:, :2], self.pad)
        if len(draws) > 0 and self.flip:
            pictures = mirror(pictures, draws[:, 2])
        return pictures
