"""Image data sets: bytes, normalised on the device."""

from abc import abstractmethod
from collections.abc import Sequence
from typing import Any

import torch
from torch import Generator, Tensor

from pruning_lit.data.augment import normalise
from pruning_lit.data.base import DataModule
from pruning_lit.data.parts import Batch, Part, Parts


class ImageData(DataModule):
    """Batches of images as uint8, normalised on the device; a data set says how to ``read`` and augment them.

    Args:
        batch_size, val_fraction, split_seed, seed, drop_last: as for ``DataModule``.
        mean: of each channel on the scale 0 … 1.
        std: standard deviation of each channel on the same scale.
        flip: mirror one training image in two.

    Raises:
        ValueError: a setting is out of its range.
    """

    classes: list[str]
    num_classes: int

    def __init__(
        self,
        batch_size: int,
        mean: Sequence[float],
        std: Sequence[float],
        flip: bool = False,
        val_fraction: float = 0.0,
        split_seed: int = 0,
        seed: int = 0,
        drop_last: bool = False,
    ) -> None:
        super().__init__(batch_size, val_fraction, split_seed, seed, drop_last)
        if any(value <= 0 for value in std):
            raise ValueError(f"dataset.std is {list(std)}, but a standard deviation is above 0")
        self.mean = torch.tensor(list(mean), dtype=torch.float32)
        self.std = torch.tensor(list(std), dtype=torch.float32)
        self.flip = flip

    @abstractmethod
    def draw(self, num_examples: int, random: Generator) -> Tensor:
        """Draw the augmentation of each image of an epoch, int64, one row per image."""

    def augment(self, images: Tensor, draws: Tensor) -> Tensor:
        """Carry out, on the device, the draws that came with a batch; none need be left to do.

        Args:
            images: uint8, shape ``(B, C, H, W)``.
            draws: one row per image, or no rows.
        """
        return images

    def require_readable(self, parts: Parts) -> None:
        """ValueError also where the statistics are of another number of channels."""
        super().require_readable(parts)
        num_channels = parts.train.shape[0]
        for name, values in (("mean", self.mean), ("std", self.std)):
            if len(values) != num_channels:
                raise ValueError(
                    f"dataset.{name} has {len(values)} numbers, but the images have {num_channels} channels"
                )

    def make_example(self, part: Part) -> Tensor:
        """Zeros, ``(1, C, H, W)``."""
        return torch.zeros(1, *part.shape)

    def sample_targets(self) -> Tensor:
        """Targets of all training images: no image need be decoded for them."""
        return self.parts.train.targets[self.parts.train.members]

    def facts(self) -> dict[str, Any]:
        """Also by what images are normalised."""
        return {**super().facts(), "mean": self.mean.tolist(), "std": self.std.tolist()}

    def ready(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Augment and normalise.

        Args:
            batch: uint8 images ``(B, C, H, W)``, targets and draws ``(B, D)``, or ``(0, D)`` for none.

        Returns:
            Float images ``(B, C, H, W)``, and the targets.
        """
        images, targets, draws = batch
        if self.mean.device != images.device:  # once per device, not per batch
            self.mean, self.std = self.mean.to(images.device), self.std.to(images.device)
        return normalise(self.augment(images, draws), self.mean, self.std), targets
