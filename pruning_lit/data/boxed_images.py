"""Augmentation and resizing of images together with their boxes and masks."""

from collections.abc import Sequence
from typing import Literal

import torch
from PIL import Image
from torch import Tensor
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional
from torchvision.tv_tensors import BoundingBoxes, Mask

from pruning_lit.data.detection import Target
from pruning_lit.data.iou_crop import cut_boxes, draw_window

Crop = Literal["none", "any", "every"]


class BoxedPreparation:
    """From an image of any size with its boxes to bytes.

    Args:
        image_size: height and width that images are resized to, whatever their aspect; None leaves their size.
        crop: for training, a random window: ``any`` where some box keeps a drawn IoU, ``every`` where all boxes do.
        flip: for training, mirror one image in two.
        colour: for training, the largest relative change of brightness, contrast and saturation; None for no change.

    Source: Liu et al. 2016, "SSD: Single Shot MultiBox Detector", section 2.2.
    """

    def __init__(
        self, image_size: tuple[int, int] | None, crop: Crop, flip: bool, colour: Sequence[float] | None
    ) -> None:
        self.image_size, self.crop = image_size, crop
        self._any = v2.RandomIoUCrop()
        self._flip = v2.RandomHorizontalFlip(0.5 if flip else 0.0)
        self._colour = v2.Identity() if colour is None else v2.ColorJitter(*colour)

    def for_training(self, image: Image.Image, target: Target, seed: int | None) -> tuple[Tensor, Target]:
        """An image as it is trained on, uint8 ``(3, H, W)``, and what is left of its target.

        Args:
            image: as in its file.
            target: of it, with at least one box.
            seed: of the augmentation, which depends on nothing else; None for none.
        """
        target = self._as_vision(target, image.height, image.width)
        if seed is not None:
            with torch.random.fork_rng(devices=[]):  # without worker processes this is the run's own random state
                torch.default_generator.manual_seed(seed)
                image, target = self._flip(*self._cropped(image, target))
                image, target = self._colour(*self._resized(image, target))
        else:
            image, target = self._resized(image, target)
        return functional.pil_to_tensor(image), {key: each.as_subclass(Tensor) for key, each in whole(target).items()}

    def for_evaluation(self, image: Image.Image) -> Tensor:
        """The resized image, uint8 ``(3, H, W)``; its target stays that of the original."""
        return functional.pil_to_tensor(self._resized(image, {})[0])

    @staticmethod
    def _as_vision(target: Target, height: int, width: int) -> Target:
        boxes = target["boxes"].clamp(min=0).minimum(torch.tensor([width, height] * 2))
        vision = {"boxes": BoundingBoxes(boxes, format="XYXY", canvas_size=(height, width))}
        vision |= {"masks": Mask(target["masks"])} if "masks" in target else {}
        return {**target, **vision}

    def _cropped(self, image: Image.Image, target: Target) -> tuple[Image.Image, Target]:
        if self.crop == "any":
            image, target = self._any(image, target)
        if self.crop == "every":
            image, target = crop_every(image, target)
        return image, target

    def _resized(self, image: Image.Image, target: Target) -> tuple[Image.Image, Target]:
        if self.image_size is None:
            return image, target
        return v2.Resize(list(self.image_size), antialias=True)(image, target)


def crop_every(image: Image.Image, target: Target) -> tuple[Image.Image, Target]:
    """A random window that leaves every box whole enough, with the boxes whose centre it holds; see ``iou_crop``."""
    sides = torch.tensor([image.width, image.height] * 2)
    boxes = target["boxes"].as_subclass(Tensor) / sides
    if (drawn := draw_window(boxes)) is None:
        return image, target
    window, kept = drawn
    left, top, right, bottom = (window * sides).int().tolist()
    height, width = bottom - top, right - left
    image, rest = functional.crop(image, top, left, height, width), only(target, kept)
    cut = cut_boxes(boxes[kept], window) * torch.tensor([width, height] * 2)
    rest["boxes"] = BoundingBoxes(cut, format="XYXY", canvas_size=(height, width))
    if "masks" in rest:
        rest["masks"] = Mask(functional.crop(rest["masks"], top, left, height, width))
    return image, rest


def only(target: Target, kept: Tensor) -> Target:
    """The chosen boxes of a target, with all that belongs to them."""
    return {key: each[kept] if each.ndim else each for key, each in target.items()}


def whole(target: Target) -> Target:
    """A target without boxes of less than a pixel; where it has no others, the largest stays."""
    sides = target["boxes"][:, 2:] - target["boxes"][:, :2]
    kept = (sides >= 1).all(1)
    return only(target, kept if kept.any() else torch.arange(len(kept)) == sides.prod(1).argmax())
