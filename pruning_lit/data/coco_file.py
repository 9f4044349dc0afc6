"""Annotation files in COCO's layout, read into arrays."""

import os
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np

from pruning_lit.data.coco_layout import listed_images, load, named_categories, rows_by_image
from pruning_lit.data.segments import Segment, flaw


@dataclass(frozen=True)
class Annotations:
    """Images and boxes of one annotation file; those of image i are rows ``starts[i] … starts[i + 1] - 1``.

    Attributes:
        categories: names by category id, in the order of the file.
        paths: of the images, N of them.
        image_ids: int64 ``(N,)``.
        sizes: height and width of each image, int64 ``(N, 2)``.
        starts: int64 ``(N + 1,)``.
        boxes: float32 ``(A, 4)``, ``x1, y1, x2, y2`` in pixels, as they are in the file.
        category_ids, iscrowd: int64 ``(A,)``.
        area: of each object's segment, float32 ``(A,)``.
        segments: A polygons or run lengths; none where no masks are asked for.
    """

    categories: dict[int, str]
    paths: list[Path]
    image_ids: np.ndarray
    sizes: np.ndarray
    starts: np.ndarray
    boxes: np.ndarray
    category_ids: np.ndarray
    iscrowd: np.ndarray
    area: np.ndarray
    segments: list[Segment]

    @property
    def small(self) -> np.ndarray:
        """Boxes with a side of less than a pixel on their image, bool ``(A,)``."""
        sizes = self.sizes[np.repeat(np.arange(len(self.sizes)), np.diff(self.starts))]
        cut = np.clip(self.boxes, 0, np.concatenate([sizes, sizes], axis=1)[:, [1, 0, 1, 0]])
        return (cut[:, 2:] - cut[:, :2] < 1).any(1)


def read_annotations(folder: Path, file: Path, masks: bool) -> Annotations:
    """Read an annotation file, and see whether the images it lists are there.

    Args:
        folder: of the images.
        file: its ``images``, ``annotations`` and ``categories`` are read. ``iscrowd`` is 0 where it is not given, and
            ``area`` that of the box.
        masks: keep the segments, too.

    Raises:
        FileNotFoundError: the file, the folder or an image is missing.
        ValueError: the file is not JSON, or not in COCO's layout.
    """
    content = load(file, masks)
    where = f"'{file}' is not in COCO's layout"
    categories = named_categories(content, where)
    images = listed_images(content, where)
    paths = [folder / image["file_name"] for image in images.values()]
    _require_images(paths, folder, file)
    rows = rows_by_image(content, images, categories, where)
    if masks:
        _require_segments(rows, images, where)
    ordered = [row for each in rows.values() for row in each]
    boxes = np.array([row["bbox"] for row in ordered], dtype=np.float64).reshape(-1, 4)
    if len(wrong := np.flatnonzero(~np.isfinite(boxes).all(1))):
        raise ValueError(f"{where}: the bbox of annotation {ordered[wrong[0]].get('id')} is {boxes[wrong[0]].tolist()}")
    boxes[:, 2:] += boxes[:, :2]
    return Annotations(
        categories,
        paths,
        np.array(list(images), dtype=np.int64),
        np.array([(each["height"], each["width"]) for each in images.values()], dtype=np.int64).reshape(-1, 2),
        np.cumsum([0, *(len(each) for each in rows.values())]),
        boxes.astype(np.float32),
        np.array([row["category_id"] for row in ordered], dtype=np.int64),
        np.array([row["iscrowd"] for row in ordered], dtype=np.int64),
        np.array([row["area"] for row in ordered], dtype=np.float32),
        [row["segmentation"] for row in ordered] if masks else [],
    )


def _require_segments(rows: Mapping[int, list[dict[str, Any]]], images: Mapping[int, Any], where: str) -> None:
    for image_id, entries in rows.items():
        for entry in entries:
            size = images[image_id]["height"], images[image_id]["width"]
            if found := flaw(entry.get("segmentation"), *size):
                raise ValueError(
                    f"{where}: annotation {entry.get('id')} has {found}; dataset.masks=false does without masks"
                )


def _require_images(paths: list[Path], folder: Path, file: Path) -> None:
    """FileNotFoundError where images are missing, by the names in their folders."""
    if not folder.is_dir():
        raise FileNotFoundError(f"the folder '{folder}' is missing: the images of '{file}' are expected there")
    wanted = defaultdict[Path, list[Path]](list)
    for path in paths:
        wanted[path.parent].append(path)
    missing = list[Path]()
    for parent, inside in wanted.items():
        there = set(os.listdir(parent)) if parent.is_dir() else set()
        missing += [path for path in inside if path.name not in there]
    if missing:
        raise FileNotFoundError(
            f"{len(missing)} of {len(paths)} images of '{file}' are missing, the first is '{missing[0]}'"
        )


def joined(annotations: Sequence[Annotations]) -> Annotations:
    """The images and boxes of several files of the same categories, one after the other."""
    first = annotations[0]
    starts, arrays = first.starts, dict[str, Any]()
    for each in annotations[1:]:
        starts = np.append(starts, each.starts[1:] + starts[-1])
    for name in ("image_ids", "sizes", "boxes", "category_ids", "iscrowd", "area"):
        arrays[name] = np.concatenate([getattr(each, name) for each in annotations])
    paths, segments = ([*chain(*(getattr(each, name) for each in annotations))] for name in ("paths", "segments"))
    return replace(first, paths=paths, segments=segments, starts=starts, **arrays)
