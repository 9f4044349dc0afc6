"""A small data set in COCO's layout: bright rectangles on noise, with their boxes and masks."""

import json
from copy import deepcopy
from pathlib import Path
from typing import Any

import torch

from pruning_lit.data import Coco
from tests.data.detection_batches import on_rank
from tests.data.small_images import write_images

CATEGORIES = [{"id": 7, "name": "red"}, {"id": 2, "name": "green"}, {"id": 4, "name": "blue"}]
HEIGHT, WIDTH = 60, 80
PAIRS = {name: [name, f"annotations/{name}.json"] for name in ("train", "test")}


def annotation(image_id: int, box: list[float], category_id: int, **others: Any) -> dict[str, Any]:
    """An annotation with the polygon of its box, ``[x, y, width, height]``."""
    x, y, width, height = box
    polygon = [x, y, x + width, y, x + width, y + height, x, y + height]
    facts = {"segmentation": [polygon], "area": 0.9 * width * height, "iscrowd": 0}
    return {"image_id": image_id, "bbox": box, "category_id": category_id, **facts, **others}


def write_part(root: Path, name: str, num_images: int = 11) -> dict[str, Any]:
    """Write a part, and return what is in its annotation file.

    Every image has one to three rectangles, but image 5 none and image 3 only a crowd; image 1 has a crowd beside its
    rectangles, and image 2 a box of half a pixel. Every third image stands upright.
    """
    random = torch.Generator().manual_seed(len(name))
    images, annotations = [], []
    for image_id in range(num_images):
        height, width = (WIDTH, HEIGHT) if image_id % 3 == 2 else (HEIGHT, WIDTH)
        pixels = torch.randint(0, 60, (3, height, width), generator=random, dtype=torch.uint8)
        for _ in range(0 if image_id in (3, 5) else 1 + image_id % 3):
            channel = int(torch.randint(3, (), generator=random))
            w, h = torch.randint(8, 30, (2,), generator=random).tolist()
            x, y = (int(torch.randint(most, (), generator=random)) for most in (width - w, height - h))
            colour = torch.tensor([255 * (channel == each) for each in range(3)])
            pixels[:, y : y + h, x : x + w] = colour[:, None, None]
            annotations.append(annotation(image_id, [x, y, w, h], CATEGORIES[channel]["id"]))
        if image_id in (1, 3):
            counts = [height * 10, height * 20, height * (width - 30)]
            crowd = {"segmentation": {"size": [height, width], "counts": counts}, "iscrowd": 1}
            annotations.append(annotation(image_id, [10, 0, 20, height], 4) | crowd)
        if image_id == 2:
            annotations.append(annotation(image_id, [5, 5, 0.5, 9], 4))
        write_images(root / name / str(image_id), pixels[None])
        images.append({"id": image_id, "file_name": f"{image_id}/0.png", "height": height, "width": width})
    content = {"images": images, "annotations": annotations, "categories": deepcopy(CATEGORIES)}
    for number, each in enumerate(annotations):
        each["id"] = 100 + number
    write_annotations(root / PAIRS[name][1], content)
    return content


def write_annotations(file: Path, content: Any) -> None:
    """Write an annotation file."""
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(content))


def write_coco(root: Path) -> Path:
    """Write a training and a test part."""
    for name in PAIRS:
        write_part(root, name)
    return root


def coco(root: Path, **settings: Any) -> Coco:
    """The data set, set up, without workers unless told otherwise."""
    small = {"train": [PAIRS["train"]], "test": PAIRS["test"], "batch_size": 4, "num_workers": 0, "seed": 3}
    data = Coco(root, **(small | settings))
    data.setup()
    return on_rank(data)
