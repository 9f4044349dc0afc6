"""Objects in images of one's own, found by a finished detector, or their classes, by a classifier."""

import json
from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from matplotlib.figure import Figure
from omegaconf import DictConfig
from PIL import Image
from torch import Tensor, nn
from torchvision.datasets.folder import IMG_EXTENSIONS
from torchvision.transforms.v2 import functional as F

from pruning_lit.command_line.paths import named_paths
from pruning_lit.data.image_file import UnreadableImage, open_image
from pruning_lit.models.detector_views import is_detector
from pruning_lit.reports.detections import draw
from pruning_lit.reports.plots import save
from pruning_lit.runs.evaluation import chosen_device
from pruning_lit.runs.file_trust import needs_builder
from pruning_lit.runs.image_classes import classify
from pruning_lit.runs.stored import open_stored
from pruning_lit.system.atomic import write_text
from pruning_lit.tasks.detection import Detection
from pruning_lit.tasks.multi_label import MultiLabel

DPI = 100
LEAST_SIDE = 400  # pixels of a drawn image's shorter side, so that names can be read


def predict(config: DictConfig, folder: Path, allowed: Sequence[str] = ()) -> Path:
    """Write what a network says of images into ``folder``, and print it.

    A detector: ``predictions.json`` and the images with boxes; a classifier: ``predictions.csv``, see ``classify``.

    Args:
        config: see ``conf/predict.yaml``.
        folder: for the files.
        allowed: packages, modules or full names of code of the user's own that the file may name.

    Returns:
        The path of ``predictions.json``: ``images``, ``categories`` and ``annotations`` as COCO has them, each
        annotation with a ``score``; or that of ``predictions.csv``.

    Raises:
        ValueError, FileNotFoundError: one sentence on what a user can mend.
    """
    if not isinstance(config.score, int | float) or not 0 <= config.score <= 1:
        raise ValueError(f"score is {config.score!r}, but it is between 0 and 1")
    path, *more = named_paths(config.path, "the folder of a run, a network file or a checkpoint")
    if more:
        raise ValueError(f"path={path},…: predict asks one network; of several, call it once for each")
    source = Path(str(config.images))
    files, device = image_files(source), chosen_device(config.accelerator)
    stored = open_stored(path, allowed)
    builder = config.get("arch") if needs_builder(stored.arch) else None
    if config.get("arch") and builder is None:
        print("arch was not used: the file names a builder that it may.")
    net = stored.network(builder, torch.zeros(1, 3, 32, 32), stored.trained_on.num_classes, Detection.view)
    net, classes = net.float().eval().to(device), list(stored.trained_on.classes or ())
    names = [file.name if source.is_file() else file.relative_to(source).as_posix() for file in files]
    images = readable(dict(zip(names, files, strict=True)))
    if not is_detector(net):
        target = folder / "predictions.csv"
        threshold = stored.trained_on.threshold
        threshold = threshold_of(stored.task()) if threshold is None else threshold
        classify(net, images, stored.trained_on, stored.dataset(), target, threshold)
        print(f"written: {target}")
        return target
    told_of, found, sizes = [], [], []
    for name, each in images:
        told_of.append(name)
        image = F.to_dtype(F.to_image(each), torch.float32, scale=True)
        objects = detections(net, image.to(device), config.score)
        found.append(objects)
        sizes.append((image.shape[1], image.shape[2]))
        if config.draw:
            picture = folder / "images" / f"{name}.png"
            picture.parent.mkdir(parents=True, exist_ok=True)
            save(drawn(image, objects, classes), picture)
        scored = zip(objects["labels"].tolist(), objects["scores"].tolist(), strict=True)
        told = ", ".join(f"{name_of(label, classes)} {score:.2f}" for label, score in scored)
        print(f"{name}: {told or 'nothing'}")
    target = folder / "predictions.json"
    write_text(target, json.dumps(in_coco(told_of, sizes, found, classes, stored.trained_on.category_ids)) + "\n")
    print(f"written: {target}{' and images/' * bool(config.draw)}")
    return target


def threshold_of(task: Mapping[str, Any] | None) -> float | None:
    """Probability from which a class is found by a network for any number of classes; None for one of any other."""
    if task is None or not str(task.get("_target_")).endswith(f".{MultiLabel.__name__}"):
        return None
    return float(task.get("threshold", 0.5))


def image_files(path: Path) -> list[Path]:
    """An image file, or all those in a folder and below it, sorted; FileNotFoundError where there are none."""
    if path.is_file():
        return [path]
    if not path.exists():
        raise FileNotFoundError(f"images={path}: there is no such file or folder")
    found = sorted(each for each in path.rglob("*") if each.suffix.lower() in IMG_EXTENSIONS)
    if not found:
        raise FileNotFoundError(f"images={path}: there are no images in this folder ({', '.join(IMG_EXTENSIONS)})")
    return found


def readable(files: Mapping[str, Path]) -> Iterator[tuple[str, Image.Image]]:
    """Images of the files, with their names; of a file that is none a line is printed, and the others go on.

    Raises:
        ValueError: none can be read.
    """
    unread: UnreadableImage | None = None
    num_read = 0
    for name, file in files.items():
        try:
            image = open_image(file)
        except UnreadableImage as error:
            unread = error
            if len(files) > 1:
                print(f"{name}: left out, {error}")
            continue
        num_read += 1
        yield name, image
    if unread is not None and not num_read:
        raise unread


@torch.no_grad()
def detections(net: nn.Module, image: Tensor, score: float) -> dict[str, Tensor]:
    """Detections in an image ``(3, H, W)``, best first, on the CPU; masks are boolean ``(n, H, W)``."""
    (found,) = Detection(0).outputs(net, ([image], [{}]))
    return {key: value[found["scores"] >= score].cpu() for key, value in found.items()}


def in_coco(
    names: Sequence[str],
    sizes: Sequence[tuple[int, int]],
    found: Sequence[dict[str, Tensor]],
    classes: Sequence[str],
    category_ids: Sequence[int] | None,
) -> dict[str, list[dict[str, Any]]]:
    """Detections in COCO's layout, each annotation with a score.

    Args:
        names: of the files.
        sizes: heights and widths of the images.
        found: in each image, as ``detections`` gives it.
        classes: names by label; empty: not known, labels are names then.
        category_ids: the number of each label's category; None: not known, labels are numbers then.
    """
    largest = max((int(label) for objects in found for label in objects["labels"]), default=0)
    ids = category_ids or range(max(len(classes), largest + 1))
    annotations: list[dict[str, Any]] = []
    for image, objects in enumerate(found, start=1):
        for i, (left, top, right, bottom) in enumerate(objects["boxes"].tolist()):
            annotation: dict[str, Any] = {
                "id": len(annotations) + 1,
                "image_id": image,
                "category_id": ids[int(objects["labels"][i])],
                "bbox": [left, top, right - left, bottom - top],
                "area": (right - left) * (bottom - top),
                "iscrowd": 0,
                "score": float(objects["scores"][i]),
            }
            if "masks" in objects:
                mask = objects["masks"][i]
                annotation |= {"area": int(mask.sum()), "segmentation": run_lengths(mask)}
            annotations.append(annotation)
    return {
        "images": [
            {"id": number, "file_name": name, "height": height, "width": width}
            for number, (name, (height, width)) in enumerate(zip(names, sizes, strict=True), start=1)
        ],
        "categories": [{"id": ids[label], "name": name_of(label, classes)} for label in range(1, len(ids))],
        "annotations": annotations,
    }


def run_lengths(mask: Tensor) -> dict[str, Any]:
    """A mask ``(H, W)`` as COCO's uncompressed runs: of zeros, of ones, of zeros …, column by column."""
    flat = mask.t().flatten().int()
    changes = (flat.diff() != 0).nonzero().flatten() + 1
    edges = [0, *changes.tolist(), len(flat)]
    counts = [end - begin for begin, end in pairwise(edges)]
    return {"size": list(mask.shape), "counts": [0, *counts] if bool(flat[:1].any()) else counts}


def drawn(image: Tensor, found: dict[str, Tensor], classes: Sequence[str]) -> Figure:
    """The image with boxes, names, scores and masks, at its own size, or larger where it is small."""
    height, width = image.shape[1:]
    scale = max(1.0, LEAST_SIDE / min(height, width))
    figure = Figure(figsize=(scale * width / DPI, scale * height / DPI), dpi=DPI)
    draw(figure.add_axes((0, 0, 1, 1)), image, found, classes)
    return figure


def name_of(label: int, classes: Sequence[str]) -> str:
    """Name of a label, or the label itself."""
    return classes[label] if label < len(classes) else str(label)
