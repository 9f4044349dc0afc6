"""Small images made on the spot."""

from collections.abc import Iterable
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from pruning_lit.data.in_memory import ImagesInMemory, MemoryPart, whole
from pruning_lit.data.parts import Parts

STATISTICS = {"mean": (0.5, 0.4, 0.3), "std": (0.2, 0.3, 0.4)}


class Noise(ImagesInMemory):
    """Random images of 3×6×5 pixels, 22 to train and 7 to test, three classes."""

    def read(self) -> Parts:
        random = torch.Generator().manual_seed(0)

        def part(num_images: int) -> MemoryPart:
            images = torch.randint(0, 256, (num_images, 3, 6, 5), generator=random, dtype=torch.uint8)
            return whole(images, torch.arange(num_images) % 3)

        return Parts(["a", "b", "c"], part(22), part(7))


def noise(**settings) -> Noise:
    """The noise data set, set up."""
    data = Noise(**({"batch_size": 5, "seed": 3} | STATISTICS | settings))
    data.setup()
    return data


def write_images(folder: Path, images: Tensor) -> None:
    """PNG files ``0.png …`` from uint8 images ``(N, 3, H, W)``."""
    folder.mkdir(parents=True, exist_ok=True)
    for number, image in enumerate(images):
        Image.fromarray(np.ascontiguousarray(image.permute(1, 2, 0).numpy())).save(folder / f"{number}.png")


def calibrated(batches: Iterable[tuple[Tensor, Tensor]]) -> Tensor:
    """The images of calibration batches, one after the other."""
    return torch.cat([images for images, _ in batches])
