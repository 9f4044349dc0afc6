"""Image files into one uint8 tensor."""

import logging
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps
from pytorch_lightning.utilities import rank_zero_only
from rich import get_console
from rich.progress import track
from torch import Tensor

from pruning_lit.data.image_file import open_image

log = logging.getLogger(__name__)
FILES_PER_JOB = 64  # small images take 0.05 ms each; a job per file would cost as much again


def decode(paths: Sequence[Path], size: int | None, name: str) -> Tensor:
    """Decode image files as RGB, on several threads (the decoders release Python's lock).

    Args:
        paths: the files, at least one.
        size: side in pixels that images are resized and centre-cropped to; None takes them as they are, all alike.
        name: of the part, for messages.

    Returns:
        uint8, shape ``(N, 3, H, W)``.

    Raises:
        ValueError: a file is no readable image, or its size differs from the first one's.
    """
    height, width = decode_one(paths[0], size).shape[:2]
    log.info("decoding %d %s images of %d×%d pixels (height×width)", len(paths), name, height, width)
    images = torch.empty(len(paths), 3, height, width, dtype=torch.uint8)
    rows = images.permute(0, 2, 3, 1).numpy()

    def decode_some(begin: int) -> None:
        for row, path in zip(rows[begin:], paths[begin : begin + FILES_PER_JOB], strict=False):
            image = decode_one(path, size)
            if image.shape != row.shape:
                raise ValueError(
                    f"'{path}' has {image.shape[0]}×{image.shape[1]} pixels (height×width), but '{paths[0]}' before it "
                    f"has {height}×{width}: set dataset.size=… to bring all images to one size"
                )
            row[:] = image

    begins = range(0, len(paths), FILES_PER_JOB)
    silent = getattr(rank_zero_only, "rank", 0) != 0 or not get_console().is_terminal
    with ThreadPoolExecutor() as pool:
        jobs = pool.map(decode_some, begins)  # results, and so the first error, come in the order of the files
        for _ in track(jobs, f"decoding {name}", len(begins), transient=True, disable=silent):
            pass
    return images


def decode_one(path: Path, size: int | None) -> np.ndarray:
    """One image as RGB, uint8, shape ``(H, W, 3)``; see ``decode``."""
    image = open_image(path)
    return np.asarray(image if size is None else ImageOps.fit(image, (size, size), Image.Resampling.BILINEAR))
