"""Images that stay in their files until they are asked for, decoded and augmented by worker processes."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset
from torchvision.transforms import v2

from pruning_lit.data.image_file import UnreadableImage, open_image
from pruning_lit.data.parts import Batch, Part, PlannedBatch
from pruning_lit.data.workers import from_workers

CARRIED_OUT = torch.empty(0, 1, dtype=torch.int64)  # no draws are left for the device


class Preparation:
    """From an image of any size to a square of bytes.

    Args:
        size: side of the square in pixels.
        resized: for evaluation, the shorter side before the centre is cut out.
        scale: for training, the least and the largest share of the image's area that the random window takes.
        flip: for training, mirror one image in two.

    Source: Szegedy et al. 2015, "Going Deeper with Convolutions", section 6 (training); Krizhevsky et al. 2012,
    "ImageNet Classification with Deep Convolutional Neural Networks", section 2 (evaluation).
    """

    def __init__(self, size: int, resized: int, scale: tuple[float, float], flip: bool) -> None:
        self.size = size
        self._window = v2.Compose(
            [v2.RandomResizedCrop(size, scale), v2.RandomHorizontalFlip(0.5 if flip else 0.0), v2.PILToTensor()]
        )
        self._centre = v2.Compose([v2.Resize(resized), v2.CenterCrop(size), v2.PILToTensor()])

    def for_training(self, image: Image.Image, seed: int) -> Tensor:
        """A random window, resized and perhaps mirrored, uint8 ``(3, size, size)``; it depends on the seed alone."""
        with torch.random.fork_rng(devices=[]):  # without worker processes this is the run's own random state
            torch.default_generator.manual_seed(seed)
            return self._window(image)

    def for_evaluation(self, image: Image.Image) -> Tensor:
        """The centre of the resized image, uint8 ``(3, size, size)``."""
        return self._centre(image)


class Order(NamedTuple):
    """Request to a worker: one image to be decoded and prepared."""

    path: str
    target: int
    seed: int | None  # of its augmentation; None: it is prepared for evaluation


class Decoder(Dataset):
    """Decodes and prepares the images that are ordered. The worker processes hold a copy of it, and no list of files.

    Args:
        preparation: what becomes of an image.
    """

    def __init__(self, preparation: Preparation) -> None:
        self.preparation = preparation

    def __getitems__(self, orders: Sequence[Order]) -> tuple[Tensor, Tensor] | str:
        """Images uint8 ``(B, 3, size, size)`` and targets ``(B,)``, or the sentence about a file that is no image.

        The sentence is not raised here: torch would hand it over together with the worker's traceback.
        """
        try:
            images = torch.stack([self._image(order) for order in orders])
        except UnreadableImage as error:
            return str(error)
        return images, torch.tensor([order.target for order in orders])

    def _image(self, order: Order) -> Tensor:
        image = open_image(order.path)
        if order.seed is None:
            return self.preparation.for_evaluation(image)
        return self.preparation.for_training(image, order.seed)


@dataclass(frozen=True)
class FilePart(Part):
    """Some of the image files of a data set; what is drawn for an image is the seed of its augmentation."""

    paths: list[Path]  # N of them
    preparation: Preparation
    num_workers: int  # processes that decode; 0: this one does

    @property
    def shape(self) -> tuple[int, int, int]:
        """Shape of the images once prepared: (3, size, size)."""
        return 3, self.preparation.size, self.preparation.size

    def batches(self, plan: Iterable[PlannedBatch]) -> Iterator[Batch]:
        """Decode and prepare the images, some batches ahead of time.

        Raises:
            UnreadableImage: a file is no readable image.
            RuntimeError: a worker has died.
        """
        orders = (self._orders(positions, draws) for positions, draws in plan)
        for prepared in from_workers(Decoder(self.preparation), orders, self.num_workers):
            if isinstance(prepared, str):
                raise UnreadableImage(prepared)
            yield *prepared, CARRIED_OUT

    def _orders(self, positions: Tensor, draws: Tensor) -> list[Order]:
        rows = self.members[positions]
        seeds = draws[:, 0].tolist() if len(draws) > 0 else [None] * len(rows)
        return [
            Order(str(self.paths[row]), target, seed)
            for row, target, seed in zip(rows.tolist(), self.targets[rows].tolist(), seeds, strict=True)
        ]
