"""Picture files into one uint8 tensor."""

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

log = logging.getLogger(__name__)
FILES_PER_JOB = 64  # small pictures take 0.05 ms each; a job per file would cost as much again


class UnreadablePicture(ValueError):
    """A file that is no readable picture, in one sentence."""


def decode(paths: Sequence[Path], size: int | None, name: str) -> Tensor:
    """Decode picture files as RGB, on several threads (the decoders release Python's lock).

    Args:
        paths: the files, at least one.
        size: side in pixels that pictures are resized and centre-cropped to; None takes them as they are, all alike.
        name: of the part, for messages.

    Returns:
        uint8, shape ``(N, 3, H, W)``.

    Raises:
        ValueError: a file is no readable picture, or its size differs from the first one's.
    """
    height, width = decode_one(paths[0], size).shape[:2]
    log.info("decoding %d %s pictures of %d×%d pixels", len(paths), name, height, width)
    pictures = torch.empty(len(paths), 3, height, width, dtype=torch.uint8)
    rows = pictures.permute(0, 2, 3, 1).numpy()

    def decode_some(begin: int) -> None:
        for row, path in zip(rows[begin:], paths[begin : begin + FILES_PER_JOB], strict=False):
            picture = decode_one(path, size)
            if picture.shape != row.shape:
                raise ValueError(
                    f"'{path}' has {picture.shape[1]}×{picture.shape[0]} pixels, but '{paths[0]}' before it has "
                    f"{width}×{height}: set dataset.size=… to bring all pictures to one size"
                )
            row[:] = picture

    begins = range(0, len(paths), FILES_PER_JOB)
    silent = getattr(rank_zero_only, "rank", 0) != 0 or not get_console().is_terminal
    with ThreadPoolExecutor() as pool:
        jobs = pool.map(decode_some, begins)  # results, and so the first error, come in the order of the files
        for _ in track(jobs, f"decoding {name}", len(begins), transient=True, disable=silent):
            pass
    return pictures


def decode_one(path: Path, size: int | None) -> np.ndarray:
    """One picture as RGB, uint8, shape ``(H, W, 3)``; see ``decode``."""
    picture = open_picture(path)
    return np.asarray(picture if size is None else ImageOps.fit(picture, (size, size), Image.Resampling.BILINEAR))


def open_picture(path: str | Path) -> Image.Image:
    """A picture file as RGB.

    Raises:
        UnreadablePicture: the file is no readable picture.
    """
    try:
        with Image.open(path) as file:
            return file.convert("RGB")
    except Exception as error:  # Pillow's decoders raise whatever the damage leads to
        raise UnreadablePicture(f"'{path}' is not a readable picture ({error}): replace or remove it") from error
