"""The layout of COCO's annotation files, and sentences on files that do not have it."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

KINDS: dict[str, Any] = {"a whole number": int, "a text": str, "a list": list}


def load(file: Path, masks: bool) -> dict[str, Any]:
    """Content of a file; polygons are arrays, which take less memory, or left out where they are not asked for.

    Args:
        file: in JSON.
        masks: keep the segments.

    Raises:
        FileNotFoundError: the file is missing.
        ValueError: it is not JSON.
    """

    def slim(entry: dict[str, Any]) -> dict[str, Any]:
        if not masks:
            entry.pop("segmentation", None)
        elif isinstance(polygons := entry.get("segmentation"), list):
            entry["segmentation"] = [np.array(each, dtype=np.float64) for each in polygons]
        return entry

    try:
        with open(file, encoding="utf-8") as text:
            content = json.load(text, object_hook=slim)
    except FileNotFoundError as error:
        raise FileNotFoundError(
            f"the annotation file '{file}' is missing: dataset.root is the folder that it is looked for in"
        ) from error
    except (ValueError, TypeError, RecursionError) as error:
        raise ValueError(f"'{file}' is not an annotation file in JSON ({error})") from error
    if not isinstance(content, dict):
        raise ValueError(f"'{file}' is not in COCO's layout: expected a mapping with 'images', 'annotations' …")
    return content


def _entries(content: Mapping[str, Any], part: str, kinds: Mapping[str, str], where: str) -> Iterator[dict[str, Any]]:
    """Entries of a part of the file, each with all that it must have."""
    if not isinstance(content.get(part), list):
        raise ValueError(f"{where}: it has no list '{part}'")
    for number, entry in enumerate(content[part]):
        for key, kind in kinds.items():
            value = entry.get(key) if isinstance(entry, dict) else None
            if not isinstance(value, KINDS[kind]) or isinstance(value, bool):
                name = f"entry {number} of '{part}'"
                raise ValueError(f"{where}: {key!r} of {name} must be {kind}, got {json.dumps(value, default=str)}")
        yield entry


def named_categories(content: Mapping[str, Any], where: str) -> dict[int, str]:
    """Names of the categories by id; ``where`` begins the sentence of an error."""
    categories = dict[int, str]()
    for entry in _entries(content, "categories", {"id": "a whole number", "name": "a text"}, where):
        if entry["id"] in categories:
            raise ValueError(f"{where}: two categories have the id {entry['id']}")
        categories[entry["id"]] = entry["name"]
    if not categories:
        raise ValueError(f"{where}: it has no categories")
    return categories


def listed_images(content: Mapping[str, Any], where: str) -> dict[int, dict[str, Any]]:
    """Entries of the images by id, in the order of the file; ``where`` begins the sentence of an error."""
    kinds = {"id": "a whole number", "file_name": "a text", "height": "a whole number", "width": "a whole number"}
    images = dict[int, dict[str, Any]]()
    for entry in _entries(content, "images", kinds, where):
        if entry["id"] in images:
            raise ValueError(f"{where}: two images have the id {entry['id']}")
        images[entry["id"]] = entry
    if not images:
        raise ValueError(f"{where}: it has no images")
    return images


def rows_by_image(
    content: Mapping[str, Any], images: Mapping[int, Any], categories: Mapping[int, str], where: str
) -> dict[int, list[dict[str, Any]]]:
    """Annotations of each image, in the order of the file.

    Args:
        content: of the file.
        images: by their ids.
        categories: by their ids.
        where: begins the sentence of an error.
    """
    kinds = {"image_id": "a whole number", "category_id": "a whole number", "bbox": "a list"}
    rows: dict[int, list[dict[str, Any]]] = {each: [] for each in images}
    for number, entry in enumerate(_entries(content, "annotations", kinds, where)):
        name = f"annotation {entry.get('id', f'number {number}')}"
        if entry["category_id"] not in categories:
            raise ValueError(f"{where}: the category {entry['category_id']} of {name} is none of its categories")
        if entry["image_id"] not in rows:
            raise ValueError(f"{where}: the image {entry['image_id']} of {name} is none of its images")
        if len(entry["bbox"]) != 4 or not all(isinstance(each, int | float) for each in entry["bbox"]):
            raise ValueError(f"{where}: the bbox of {name} is {entry['bbox']}, expected [x, y, width, height]")
        entry.setdefault("iscrowd", 0)
        entry.setdefault("area", entry["bbox"][2] * entry["bbox"][3])
        for key in ("iscrowd", "area"):
            if not isinstance(entry[key], int | float):
                raise ValueError(f"{where}: the {key} of {name} is {entry[key]!r}, expected a number")
        rows[entry["image_id"]].append(entry)
    return rows
