"""Several handwritten digits on one canvas, for tasks other than classification; nothing to download."""

from abc import abstractmethod
from collections.abc import Sequence
from typing import ClassVar, NamedTuple

import torch
from torch import Generator, Tensor
from torch.nn import functional as F

from pruning_lit.data.image_data import ImageData
from pruning_lit.data.in_memory import whole
from pruning_lit.data.parts import Parts, hold_out
from pruning_lit.data.sampler import draw_nothing
from pruning_lit.data.seeding import generator

SIDE = 32  # pixels of the canvas
CELL, DIGIT = 16, 12  # of one of its four cells, and of a digit somewhere in a cell
INK = 64  # grey value from which a pixel belongs to a digit


class Canvases(NamedTuple):
    """Canvases and what is on them.

    Attributes:
        images: uint8 ``(N, 3, 32, 32)``, three equal channels.
        labels: int64 ``(N, 10)``, 1 where the digit is on the canvas, else 0.
        masks: int64 ``(N, 32, 32)``, 0 for background, else the digit plus 1.
    """

    images: Tensor
    labels: Tensor
    masks: Tensor


def draw_canvases(grey: Tensor, digits: Tensor, num_images: int, seed: int) -> Canvases:
    """Place one to four digits on each canvas, at most one in each quarter.

    What is on a canvas depends on ``seed`` and its index alone, not on how many there are.

    Args:
        grey: the digits to choose from, uint8 ``(M, 12, 12)``.
        digits: which they are, int64 ``(M,)``.
        num_images: number of canvases.
        seed: of the choice and the places.
    """
    images = torch.zeros(num_images, SIDE, SIDE, dtype=torch.uint8)
    labels, masks = torch.zeros(num_images, 10, dtype=torch.int64), torch.zeros(num_images, SIDE, SIDE).long()
    for index in range(num_images):
        random = generator("canvas", seed, index)
        cells = torch.randperm(4, generator=random)[: int(torch.randint(1, 5, (), generator=random))].tolist()
        for cell in cells:
            chosen = int(torch.randint(len(digits), (), generator=random))
            dy, dx = torch.randint(CELL - DIGIT + 1, (2,), generator=random).tolist()
            top, left = CELL * (cell // 2) + dy, CELL * (cell % 2) + dx
            window = (index, slice(top, top + DIGIT), slice(left, left + DIGIT))
            images[window] = grey[chosen]
            masks[window] = torch.where(grey[chosen] >= INK, digits[chosen] + 1, 0)
            labels[index, digits[chosen]] = 1
    return Canvases(images[:, None].repeat(1, 3, 1, 1), labels, masks)


class DigitCanvases(ImageData):
    """Canvases of 32×32 pixels with one to four of scikit-learn's digits.

    Training and test part are made of different digits, those of ``Digits``.

    Args:
        num_train, num_test: number of canvases.
        canvas_seed: of what is on them, apart from ``seed``.
        batch_size, mean, std, val_fraction, split_seed, seed, drop_last: as for ``ImageData``.

    Attributes:
        names: of the classes, in the order of the network's outputs.
    """

    always_shape = (3, SIDE, SIDE)
    names: ClassVar[list[str]]

    def __init__(
        self,
        batch_size: int,
        mean: Sequence[float],
        std: Sequence[float],
        num_train: int = 2000,
        num_test: int = 500,
        canvas_seed: int = 0,
        val_fraction: float = 0.0,
        split_seed: int = 0,
        seed: int = 0,
        drop_last: bool = False,
    ) -> None:
        super().__init__(
            batch_size, mean, std, val_fraction=val_fraction, split_seed=split_seed, seed=seed, drop_last=drop_last
        )
        if num_train < 2 or num_test < 1:
            raise ValueError(
                f"dataset.num_train is {num_train} and dataset.num_test {num_test}, but it takes at least 2 and 1"
            )
        self.num_train, self.num_test, self.canvas_seed = num_train, num_test, canvas_seed

    @abstractmethod
    def targets(self, canvases: Canvases) -> Tensor:
        """The part of the canvases that is to be learned, shape ``(N, …)``."""

    def read(self) -> Parts:
        """Draw the canvases."""
        from sklearn.datasets import load_digits  # late: other data sets do without scikit-learn

        digits = load_digits()
        enlarged = F.interpolate(torch.from_numpy(digits.images).float()[:, None], size=DIGIT, mode="bilinear")
        grey, target = (enlarged[:, 0] * (255 / 16)).round().to(torch.uint8), torch.from_numpy(digits.target).long()
        parts = []
        for number, (part, num_images) in enumerate(
            zip(hold_out(whole(grey, target), 0.2, seed=0), (self.num_train, self.num_test), strict=True)
        ):
            canvases = draw_canvases(*part.take(torch.arange(len(part))), num_images, 2 * self.canvas_seed + number)
            parts.append(whole(canvases.images, self.targets(canvases)))
        return Parts(self.names, *parts)

    def draw(self, num_examples: int, random: Generator) -> Tensor:
        """No augmentation."""
        return draw_nothing(num_examples, random)


class MultiLabelDigits(DigitCanvases):
    """Canvases of digits, and which digits are on each: targets ``(N, 10)`` of 0 and 1."""

    always_classes = 10
    names: ClassVar = [str(digit) for digit in range(10)]

    def targets(self, canvases: Canvases) -> Tensor:
        """The digits on each canvas."""
        return canvases.labels


class SegmentedDigits(DigitCanvases):
    """Canvases of digits, and the digit that each pixel belongs to: targets ``(N, 32, 32)``, 0 for background."""

    always_classes = 11
    names: ClassVar = ["background", *(str(digit) for digit in range(10))]

    def targets(self, canvases: Canvases) -> Tensor:
        """The class of every pixel."""
        return canvases.masks
