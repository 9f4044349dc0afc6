"""COCO, or anything in its layout, read from disk while it is used."""

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Generator, Tensor

from pruning_lit.data.boxed_images import BoxedPreparation, Crop
from pruning_lit.data.coco_file import Annotations, joined, read_annotations
from pruning_lit.data.coco_part import EXAMPLE_SIZE, CocoPart
from pruning_lit.data.detection import DetectionData
from pruning_lit.data.parts import Parts
from pruning_lit.data.segments import require_pycocotools
from pruning_lit.data.workers import require_workers

log = logging.getLogger(__name__)
MISSING = "N/A"  # name of a number that is no category's, as torchvision has it


class Coco(DetectionData):
    """Images of any size with boxes, in any folders with annotation files in COCO's layout.

    Worker processes decode, crop, mirror and resize them; none are kept. Boxes around crowds, and those of less than a
    pixel, are not trained on, nor are images without other boxes; all of them are there in evaluation.

    Args:
        root: the folder that the others are below.
        train: folders of images, each with its annotation file; all are trained on.
        test: the folder and the annotation file that are reported on.
        validation: likewise those that choose the best epoch; None: ``val_fraction`` of ``train``, if that is above 0.
        image_size: height and width that images are resized to, whatever their aspect; None leaves that to the
            detector.
        labels: ``category_ids`` of the annotation files, as torchvision's trained detectors have them; or
            ``contiguous``, in the order of the categories, without gaps.
        crop: for training, a random window: ``any`` where some box keeps a drawn IoU with it (SSD), ``every`` where
            all boxes do (CHEX's release); or ``none``.
        colour: for training, the largest relative change of brightness, contrast and saturation; None for no change.
        group_by_orientation: the images of a step are all upright, or all wide, as far as that goes.
        num_workers: worker processes per process of the run, at most one per processor; 0: none.
        **settings: see ``DetectionData``.

    Raises:
        ValueError: a setting is out of its range.

    Source: Lin et al. 2014, "Microsoft COCO: Common Objects in Context".
    """

    example_size = EXAMPLE_SIZE

    def __init__(
        self,
        root: str | Path,
        train: Sequence[Sequence[str]],
        test: Sequence[str],
        validation: Sequence[str] | None = None,
        image_size: Sequence[int] | None = None,
        labels: Literal["category_ids", "contiguous"] = "category_ids",
        crop: Crop = "none",
        colour: Sequence[float] | None = None,
        group_by_orientation: bool = False,
        num_workers: int = 4,
        **settings: Any,
    ) -> None:
        super().__init__(**settings)
        require_workers(num_workers)
        for name, pair in (*(("train", pair) for pair in train or [()]), ("test", test), ("validation", validation)):
            if pair is not None and (isinstance(pair, str) or len(pair) != 2):
                raise ValueError(f"dataset.{name} has {pair!r} where [folder of images, annotation file] is expected")
        if image_size is not None and (len(image_size) != 2 or min(image_size) < 1):
            raise ValueError(f"dataset.image_size is {list(image_size)}, expected [height, width] in pixels, or null")
        if crop not in ("none", "any", "every"):
            raise ValueError(f"dataset.crop is {crop!r}, but it is one of none, any, every")
        if labels not in ("category_ids", "contiguous"):
            raise ValueError(f"dataset.labels is {labels!r}, but it is one of category_ids, contiguous")
        if colour is not None and (len(colour) != 3 or not all(0 <= each <= 1 for each in colour)):
            raise ValueError(
                f"dataset.colour is {list(colour)}, expected changes of brightness, contrast and saturation, each from "
                "0 to 1, or null"
            )
        if self.masks:
            require_pycocotools()
        self.root, self.labels, self.num_workers = Path(root), labels, num_workers
        self.train, self.test, self.validation = train, test, validation
        self.group_by_orientation = group_by_orientation
        size = None if image_size is None else (image_size[0], image_size[1])
        self.preparation = BoxedPreparation(size, crop, self.flip, colour)

    def read(self) -> Parts:
        """Read the annotation files, and see whether all images are there.

        Raises:
            FileNotFoundError: a folder, a file or an image is missing.
            ValueError: a file is not in COCO's layout, or its categories are not those of the others.
        """
        files = {name: [self.root / file for _, file in pairs] for name, pairs in self._pairs().items()}
        read = {
            name: [read_annotations(self.root / folder, self.root / file, self.masks) for folder, file in pairs]
            for name, pairs in self._pairs().items()
        }
        categories = read["train"][0].categories
        for name, annotations in read.items():
            for file, each in zip(files[name], annotations, strict=True):
                if each.categories != categories:
                    raise ValueError(f"'{file}' has other categories than '{files['train'][0]}'")
        classes = self._number(categories)
        parts = {name: self._part(name, joined(annotations)) for name, annotations in read.items()}
        return Parts(classes, parts["train"], parts["test"], parts.get("validation"))

    def draw(self, num_examples: int, random: Generator) -> Tensor:
        """A seed for the augmentation of each image, shape ``(num_examples, 1)``."""
        return torch.randint(2**62, (num_examples, 1), generator=random)

    def kinds(self) -> Tensor | None:
        """Orientation of each training image, 1 where it is wide, if images are grouped by it."""
        part = self.parts.train
        if not self.group_by_orientation or not isinstance(part, CocoPart):
            return None
        return torch.from_numpy(part.annotations.sizes)[part.members].diff(dim=1).flatten().gt(0).long()

    def _pairs(self) -> dict[str, Sequence[Sequence[str]]]:
        pairs = {"train": self.train, "test": [self.test]}
        return pairs if self.validation is None else {**pairs, "validation": [self.validation]}

    def _number(self, categories: dict[int, str]) -> list[str]:
        """Classes by label; ``category_ids`` is set, too."""
        if self.labels == "contiguous":
            self.category_ids = [0, *categories]
            return ["background", *categories.values()]
        if (least := min(categories)) < 1:
            raise ValueError(
                f"the category {categories[least]!r} has the id {least}, but labels begin with 1, as 0 is background: "
                "set dataset.labels=contiguous"
            )
        self.category_ids = list(range(max(categories) + 1))
        return ["background", *(categories.get(each, MISSING) for each in self.category_ids[1:])]

    def _part(self, name: str, annotations: Annotations) -> CocoPart:
        label_of = {category: label for label, category in enumerate(self.category_ids)}
        labels = np.array([label_of[each] for each in annotations.category_ids.tolist()], dtype=np.int64)
        crowds, small = annotations.iscrowd > 0, annotations.small
        log.info(
            "%s: %d images, %d of them without boxes; %d boxes, %d around crowds, %d of less than a pixel%s",
            name,
            len(annotations.paths),
            (np.diff(annotations.starts) == 0).sum(),
            len(labels),
            crowds.sum(),
            (small & ~crowds).sum(),
            ", which are not trained on" if name == "train" else "",
        )
        rows = torch.arange(len(annotations.paths))
        return CocoPart(
            targets=torch.zeros_like(rows),
            members=rows,
            training=False,
            annotations=annotations,
            labels=labels,
            trainable=~crowds & ~small,
            preparation=self.preparation,
            num_workers=self.num_workers,
            masks=self.masks,
        )
