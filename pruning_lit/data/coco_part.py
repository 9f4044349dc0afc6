"""Images with boxes that stay in their files until they are asked for, decoded and augmented by worker processes."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple, Self

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from pruning_lit.data.boxed_images import BoxedPreparation
from pruning_lit.data.coco_file import Annotations
from pruning_lit.data.detection import DetectionBatch, DetectionPart, Target
from pruning_lit.data.image_file import UnreadableImage, open_image
from pruning_lit.data.parts import PlannedBatch
from pruning_lit.data.segments import Segment, draw_segments
from pruning_lit.data.workers import from_workers

EXAMPLE_SIZE = (800, 1344)  # height and width of the example where detectors resize images themselves


class Order(NamedTuple):
    """Request to a worker: one image to be decoded and prepared, with its boxes.

    Attributes:
        path: of the image.
        size: height and width that the annotations are made for.
        target: arrays by name, as in ``DetectionData``; no tensors, each of which would take a file handle.
        segments: of the masks; None where there are none to be drawn.
        training: it is prepared for training, else for evaluation.
        seed: of the augmentation; None for none.
    """

    path: str
    size: tuple[int, int]
    target: dict[str, np.ndarray]
    segments: list[Segment] | None
    training: bool
    seed: int | None


class BoxedDecoder(Dataset):
    """Decodes and prepares the images that are ordered. The worker processes hold a copy of it, and no annotations.

    Args:
        preparation: what becomes of an image and its boxes.
    """

    def __init__(self, preparation: BoxedPreparation) -> None:
        self.preparation = preparation

    def __getitems__(self, orders: Sequence[Order]) -> Any:
        """A batch, packed; or the sentence about a file that is no image, which torch would raise with a traceback."""
        try:
            return pack([self.example(order) for order in orders])
        except UnreadableImage as error:
            return str(error)

    def example(self, order: Order) -> tuple[Tensor, Target]:
        """Image uint8 ``(3, H, W)`` and target of one order."""
        image = open_image(order.path)
        if (image.height, image.width) != order.size:
            raise UnreadableImage(
                f"'{order.path}' has {image.height}×{image.width} pixels (height×width), but its annotations are for "
                f"{order.size[0]}×{order.size[1]}"
            )
        target = {key: torch.from_numpy(each) for key, each in order.target.items()}
        if order.segments is not None:
            target["masks"] = torch.from_numpy(draw_segments(order.segments, *order.size))
        if order.training:
            return self.preparation.for_training(image, target, order.seed)
        return self.preparation.for_evaluation(image), {**target, "size": torch.tensor(order.size)}


def pack(examples: Sequence[tuple[Tensor, Target]]) -> tuple[Tensor, list[tuple[int, ...]], list[dict[str, Any]]]:
    """Pack a batch so that it goes from process to process as one tensor: each one takes a file handle.

    Returns:
        All images and masks in a row, uint8; their shapes; and all else of the targets, as arrays.
    """
    large = [image for image, _ in examples] + [target["masks"] for _, target in examples if "masks" in target]
    rest = [{key: each.numpy() for key, each in target.items() if key != "masks"} for _, target in examples]
    return torch.cat([each.flatten() for each in large]), [tuple(each.shape) for each in large], rest


def unpack(bytes_: Tensor, shapes: Sequence[tuple[int, ...]], rest: Sequence[dict[str, Any]]) -> DetectionBatch:
    """Images and targets of a packed batch."""
    sizes = [int(np.prod(shape)) for shape in shapes]
    large = [each.view(shape) for each, shape in zip(bytes_.split(sizes), shapes, strict=True)]
    targets = [{key: torch.as_tensor(each) for key, each in target.items()} for target in rest]
    images, masks = large[: len(rest)], large[len(rest) :]
    for target, mask in zip(targets, masks, strict=False):  # all have masks, or none
        target["masks"] = mask
    return images, targets


@dataclass(frozen=True)
class CocoPart(DetectionPart):
    """Some images of annotation files; what is drawn for an image is the seed of its augmentation."""

    annotations: Annotations
    labels: np.ndarray  # int64 (A,), of the boxes: 1 … num_classes - 1
    trainable: np.ndarray  # bool (A,), boxes around no crowd, of at least a pixel
    preparation: BoxedPreparation
    num_workers: int  # processes that decode; 0: this one does
    masks: bool

    @property
    def shape(self) -> tuple[int, int, int]:
        """Shape of the images once resized; of images that keep their size the one that detectors resize them to."""
        return 3, *(self.preparation.image_size or EXAMPLE_SIZE)

    def for_training(self) -> Self:
        """Images of this part with boxes that can be trained on, given as they are trained on."""
        num_boxes = np.add.reduceat(np.append(self.trainable, False), self.annotations.starts[:-1], dtype=np.int64)
        num_boxes[np.diff(self.annotations.starts) == 0] = 0  # where there are none, reduceat gives the next one
        members = self.members[torch.from_numpy(num_boxes > 0)[self.members]]
        if len(members) == 0:
            raise ValueError("no image of the training part has a box to be learned from")
        return replace(self, members=members, training=True)

    def batches(self, plan: Iterable[PlannedBatch]) -> Iterator[Any]:
        """Decode and prepare the images, some batches ahead of time.

        Raises:
            UnreadableImage: a file is no readable image, or not of the size in the annotations.
            RuntimeError: a worker has died.
        """
        orders = (self._orders(positions, draws) for positions, draws in plan)
        for packed in from_workers(BoxedDecoder(self.preparation), orders, self.num_workers):
            if isinstance(packed, str):
                raise UnreadableImage(packed)
            yield unpack(*packed)

    def _orders(self, positions: Tensor, draws: Tensor) -> list[Order]:
        rows = self.members[positions].tolist()
        seeds = draws[:, 0].tolist() if len(draws) > 0 else [None] * len(rows)
        return [self._order(row, seed) for row, seed in zip(rows, seeds, strict=True)]

    def _order(self, row: int, seed: int | None) -> Order:
        of = self.annotations
        boxes = np.arange(of.starts[row], of.starts[row + 1])
        boxes = boxes[self.trainable[boxes]] if self.training else boxes
        target = {
            "boxes": of.boxes[boxes],
            "labels": self.labels[boxes],
            "area": of.area[boxes],
            "iscrowd": of.iscrowd[boxes],
            "image_id": np.array(of.image_ids[row]),
        }
        height, width = of.sizes[row].tolist()
        segments = [of.segments[box] for box in boxes] if self.masks else None
        return Order(str(of.paths[row]), (height, width), target, segments, self.training, seed)
