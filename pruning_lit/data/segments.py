"""Segments of COCO's annotations, polygons or run lengths, as masks; pycocotools draws them."""

from collections.abc import Sequence
from importlib.util import find_spec
from typing import Any

import numpy as np

Segment = Any  # polygons, a list of lists (x1, y1, x2, y2, …); or run lengths, {"size": [H, W], "counts": …}


def require_pycocotools() -> None:
    """ValueError where the package that draws masks is missing."""
    if find_spec("pycocotools") is None:
        raise ValueError("dataset.masks=true needs another package: pip install 'pruning_lit[detection]'")


def flaw(segment: Segment, height: int, width: int) -> str | None:
    """A reason why a segment cannot be drawn on an image, or None.

    Args:
        segment: as in an annotation file; polygons may be arrays.
        height: of the image in pixels.
        width: likewise.
    """
    if isinstance(segment, dict):
        if segment.get("size") != [height, width]:
            return f"run lengths of size {segment.get('size')}, but its image has {[height, width]}"
        counts = segment.get("counts")
        if isinstance(counts, list) and sum(counts) == height * width:
            return None
        return None if isinstance(counts, str | bytes) else "run lengths whose counts do not add up to its image"
    if not isinstance(segment, list) or not segment:
        return "no segmentation"
    if any(np.ndim(polygon) != 1 or len(polygon) < 6 or len(polygon) % 2 for polygon in segment):
        return "a polygon that is not 3 or more points x, y"
    return None


def draw_segments(segments: Sequence[Segment], height: int, width: int) -> np.ndarray:
    """Masks of segments, uint8 ``(n, H, W)``.

    Args:
        segments: of one image, without flaws.
        height: of the image in pixels.
        width: likewise.

    Source: Lin et al. 2014, "Microsoft COCO: Common Objects in Context"; drawn by its authors' pycocotools.
    """
    from pycocotools import mask  # late: boxes do without it

    drawn = np.zeros((len(segments), height, width), dtype=np.uint8)
    for row, segment in zip(drawn, segments, strict=True):
        if isinstance(segment, dict) and not isinstance(segment["counts"], list):
            row[:] = mask.decode(segment)
        elif isinstance(segment, dict):
            row[:] = mask.decode(mask.frPyObjects(segment, height, width))
        else:
            row[:] = mask.decode(mask.merge(mask.frPyObjects([list(each) for each in segment], height, width)))
    return drawn
