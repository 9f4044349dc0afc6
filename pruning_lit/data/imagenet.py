"""ImageNet, or anything in its layout, read from disk while it is used."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Generator, Tensor

from pruning_lit.data.image_data import ImageData
from pruning_lit.data.listing import Listing, class_names, list_parts
from pruning_lit.data.on_disk import FilePart, Preparation
from pruning_lit.data.parts import Parts
from pruning_lit.data.workers import require_workers


class ImageNet(ImageData):
    """Images of any size in ``train/<class>/…`` and ``val/<class>/…``, classes in the order of their sorted names.

    Worker processes decode, crop and mirror them; none are kept. Training takes random windows resized to a square,
    evaluation the centre of the resized image. Beside a ``test`` folder ``val`` is the validation part; alone it is
    reported on.

    Args:
        root: the folder that holds ``train`` and ``val``.
        image_size: side in pixels of what the network sees.
        resize_size: for evaluation, the shorter side before the centre is cut out; None: 8/7 of ``image_size``.
        scale: for training, the least and the largest share of the image's area that the random window takes.
        num_workers: worker processes per process of the run, at most one per processor; 0: none.
        **settings: see ``ImageData``.

    Raises:
        ValueError: a setting is out of its range.

    Source: Russakovsky et al. 2015, "ImageNet Large Scale Visual Recognition Challenge".
    """

    always_classes = 1000

    def __init__(
        self,
        root: str | Path,
        image_size: int = 224,
        resize_size: int | None = None,
        scale: Sequence[float] = (0.08, 1.0),
        num_workers: int = 8,
        **settings: Any,
    ) -> None:
        super().__init__(**settings)
        if image_size < 1:
            raise ValueError(f"dataset.image_size is {image_size}, but an image's side has at least 1 pixel")
        resize_size = round(image_size * 8 / 7) if resize_size is None else resize_size
        if resize_size < image_size:
            raise ValueError(
                f"dataset.resize_size is {resize_size}, but the centre cut out of it has {image_size} pixels: make it "
                "as large as dataset.image_size at least, or null"
            )
        if len(scale) != 2 or not 0 < scale[0] <= scale[1] <= 1:
            raise ValueError(f"dataset.scale is {list(scale)}, but it is two shares of the area, above 0 and up to 1")
        require_workers(num_workers)
        self.root = Path(root)
        self.num_workers = num_workers
        self.preparation = Preparation(image_size, resize_size, (scale[0], scale[1]), self.flip)

    def read(self) -> Parts:
        """List the files of all parts.

        Raises:
            FileNotFoundError: folders or images are missing.
            ValueError: the parts have different classes.
        """
        parts = {name: self._part(listing) for name, listing in list_parts(self.root).items()}
        return Parts(class_names(self.root / "train"), parts["train"], parts["test"], parts.get("validation"))

    def draw(self, num_examples: int, random: Generator) -> Tensor:
        """A seed for the augmentation of each image, shape ``(num_examples, 1)``."""
        return torch.randint(2**62, (num_examples, 1), generator=random)

    def _part(self, listing: Listing) -> FilePart:
        targets = torch.tensor(listing.targets, dtype=torch.int64)
        return FilePart(targets, torch.arange(len(targets)), listing.paths, self.preparation, self.num_workers)
