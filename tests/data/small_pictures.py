"""Small pictures made on the spot."""

from collections.abc import Iterable
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from pruning_lit.data.in_memory import MemoryPart, PicturesInMemory, whole
from pruning_lit.data.parts import Parts

STATISTICS = {"mean": (0.5, 0.4, 0.3), "std": (0.2, 0.3, 0.4)}


class Noise(PicturesInMemory):
    """Random pictures of 3×6×5 pixels, 22 to train and 7 to test, three classes."""

    def read(self) -> Parts:
        random = torch.Generator().manual_seed(0)

        def part(num_pictures: int) -> MemoryPart:
            pictures = torch.randint(0, 256, (num_pictures, 3, 6, 5), generator=random, dtype=torch.uint8)
            return whole(pictures, torch.arange(num_pictures) % 3)

        return Parts(["a", "b", "c"], part(22), part(7))


def noise(**settings) -> Noise:
    """The noise data set, set up."""
    data = Noise(**({"batch_size": 5, "seed": 3} | STATISTICS | settings))
    data.setup()
    return data


def write_pictures(folder: Path, pictures: Tensor) -> None:
    """PNG files ``0.png …`` from uint8 pictures ``(N, 3, H, W)``."""
    folder.mkdir(parents=True, exist_ok=True)
    for number, picture in enumerate(pictures):
        Image.fromarray(np.ascontiguousarray(picture.permute(1, 2, 0).numpy())).save(folder / f"{number}.png")


def calibrated(batches: Iterable[tuple[Tensor, Tensor]]) -> Tensor:
    """The pictures of calibration batches, one after the other."""
    return torch.cat([pictures for pictures, _ in batches])
