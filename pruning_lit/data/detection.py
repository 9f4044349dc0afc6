"""The data module that all data sets for detection share: batches are lists of images, each with its boxes."""

from abc import abstractmethod
from dataclasses import dataclass
from typing import Any, Self

import torch
from torch import Tensor

from pruning_lit.data.base import DataModule
from pruning_lit.data.parts import Part

Target = dict[str, Tensor]  # see DetectionData
DetectionBatch = tuple[list[Tensor], list[Target]]  # images uint8 (3, H, W), as they come from a part


@dataclass(frozen=True)
class DetectionPart(Part):
    """Some images with their boxes, given as training asks for them or, by default, as evaluation does."""

    training: bool

    @abstractmethod
    def for_training(self) -> Self:
        """Images of this part that have boxes, given as they are trained on."""


class DetectionData(DataModule):
    """Batches ``(images, targets)``, two lists; a data set says how to ``read`` its parts.

    An image is a float tensor ``(3, H, W)`` from 0 to 1, of any size, not normalised: detectors do that. Its target
    has ``boxes`` float ``(n, 4)``, ``x1, y1, x2, y2`` in pixels; ``labels`` int64 ``(n,)`` from 1, as 0 is background;
    ``area`` float ``(n,)`` in pixels, of what is visible of each object; ``iscrowd`` int64 ``(n,)``; ``image_id``
    int64 ``()``; and ``masks`` uint8 ``(n, H, W)`` where they are asked for.

    In training all of these belong to the image as it is given, and every image has a box. In evaluation they are
    those of the original image, whose height and width are ``size`` int64 ``(2,)``; the image itself may be resized,
    may have no boxes, and boxes around crowds are there, too.

    After ``setup`` there are also ``classes``, with the background in front, and ``category_ids``: the number of each
    class in the annotations.

    Args:
        batch_size, val_fraction, split_seed, seed, drop_last: as for ``DataModule``; images are held out one by one,
            whatever is on them.
        flip: mirror one training image in two.
        masks: give the mask of each object.
    """

    classes: list[str]
    num_classes: int
    category_ids: list[int]

    def __init__(
        self,
        batch_size: int,
        flip: bool = True,
        masks: bool = False,
        val_fraction: float = 0.0,
        split_seed: int = 0,
        seed: int = 0,
        drop_last: bool = False,
    ) -> None:
        super().__init__(batch_size, val_fraction, split_seed, seed, drop_last)
        self.flip, self.masks = flip, masks

    def setup(self, stage: str | None = None) -> None:
        """Read the data, once, hold out the validation part, and keep the images with boxes for training.

        Raises:
            ValueError: settings and data do not fit together.
            FileNotFoundError: the data are not there.
        """
        if self._parts is not None:
            return
        super().setup(stage)
        train = self.parts.train
        assert isinstance(train, DetectionPart)
        self._parts = self.parts._replace(train=train.for_training())

    def make_example(self, part: Part) -> Tensor:
        """Zeros, ``(1, 3, H, W)``."""
        return torch.zeros(1, *part.shape)

    def facts(self) -> dict[str, Any]:
        """Classes, and the number of each in the annotations; images may be of any size."""
        return {"classes": self.classes, "category_ids": self.category_ids}

    def ready(self, batch: DetectionBatch) -> DetectionBatch:
        """Images of bytes as numbers from 0 to 1, and their targets."""
        images, targets = batch
        return [image.float() / 255 for image in images], targets
