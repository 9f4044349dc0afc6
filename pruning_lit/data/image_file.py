"""One image file as RGB, upright, whatever its mode and depth."""

import logging
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

log = logging.getLogger(__name__)
READING = 2  # the number of these rules: what was kept of files read by others is read anew
TIFF_BITS, TIFF_PHOTOMETRIC, MIN_IS_WHITE = 258, 262, 0
UNDETERMINED = {"I": "32-bit integers", "F": "floating-point numbers"}


class UnreadableImage(ValueError):
    """A file that is no readable image, in one sentence."""


def open_image(path: str | Path) -> Image.Image:
    """An image file as RGB, turned as its EXIF orientation says.

    Grey levels of up to 16 bits are scaled so that the largest number their depth can hold is white; transparency is
    dropped; of several frames the first counts.

    Raises:
        UnreadableImage: the file is no readable image, or nothing says which of its numbers is white.
    """
    try:
        with open(path, "rb") as stream, Image.open(stream) as file:  # of a path, Pillow maps turned TIFFs wrongly
            white = _white(file)
            file.load()
            _turn_upright(file)
            if white is not None:
                return _scaled(file, *white).convert("RGB")
            if file.mode not in UNDETERMINED:
                return file.convert("RGB")
    except Exception as error:  # Pillow's decoders raise whatever the damage leads to
        raise UnreadableImage(f"'{path}' is not a readable image ({error}): replace or remove it") from error
    raise UnreadableImage(
        f"'{path}' has {UNDETERMINED[file.mode]} as pixels (mode {file.mode}), and nothing says which is white: "
        "save it with 8 or 16 bits per channel"
    )


def _white(file: Image.Image) -> tuple[int, bool] | None:
    """Largest number of a grey image of 9 to 16 bits, and whether black it is; None for all other images."""
    if file.format == "TIFF" and file.mode.startswith("I;16"):
        tags = file.tag_v2  # type: ignore[attr-defined]
        return 2 ** tags.get(TIFF_BITS, (16,))[0] - 1, tags.get(TIFF_PHOTOMETRIC) == MIN_IS_WHITE
    if file.mode.startswith("I;16") or (file.mode == "I" and file.format in ("PNG", "PPM")):  # these have no 32 bits
        return 2**16 - 1, False
    return None


def _scaled(image: Image.Image, largest: int, inverted: bool) -> Image.Image:
    """Grey levels ``0 … largest`` as 0 … 255, rounded."""
    levels = np.asarray(image).astype(np.uint32)
    grey = ((levels * 510 + largest) // (2 * largest)).astype(np.uint8)
    return Image.fromarray(255 - grey if inverted else grey)


def _turn_upright(image: Image.Image) -> None:
    try:
        ImageOps.exif_transpose(image, in_place=True)
    except Exception:  # damaged EXIF data; the image itself may be whole
        log.debug("the EXIF data of an image cannot be read", exc_info=True)
