"""Parts of a data set, for training, test and validation, and the split that holds one out."""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import NamedTuple, TypeVar

import torch
from torch import Tensor

from pruning_lit.data.seeding import generator

PlannedBatch = tuple[Tensor, Tensor]  # positions int64 (B,) within a part, draws int64 (B, D), or (0, D) for none
Batch = tuple[Tensor, Tensor, Tensor]  # images uint8 (B, C, H, W), targets int64 (B,), draws still to be carried out


@dataclass(frozen=True)
class Part(ABC):
    """Some images of a data set, wherever they lie; a held-out part is another view of the same images."""

    targets: Tensor  # int64 (N,), of all images
    members: Tensor  # int64 (M,), the images that belong to this part, ascending

    def __len__(self) -> int:
        return len(self.members)

    @property
    @abstractmethod
    def shape(self) -> tuple[int, ...]:
        """Shape of the images in a batch: (C, H, W)."""

    @abstractmethod
    def batches(self, plan: Iterable[PlannedBatch]) -> Iterator[Batch]:
        """Fetch the images at some positions ``0 … M - 1``, batch by batch.

        Args:
            plan: of every batch the positions and, where it is to be augmented, what was drawn for each image.
        """


class Parts(NamedTuple):
    """A data set as read: its classes in the order of the targets (None where there are none), and its parts."""

    classes: list[str] | None
    train: Part
    test: Part
    validation: Part | None = None  # where the data set brings its own


P = TypeVar("P", bound=Part)


def hold_out(part: P, fraction: float, seed: int) -> tuple[P, P]:
    """Split a part in two, class by class, so that both have the classes in (nearly) the same proportions.

    Where an example has not one class but a whole vector or map, all examples are split together.

    Args:
        part: what is split.
        fraction: share of each class that is held out, rounded to whole images; every class keeps at least one.
        seed: of the choice.

    Returns:
        The rest, and the part held out.

    Raises:
        ValueError: no class has enough images to hold one out.
    """
    random = generator("hold out", seed)
    targets = part.targets[part.members]
    if targets.ndim > 1:
        targets = torch.zeros(len(part), dtype=torch.int64)
    chosen = torch.zeros(len(part), dtype=torch.bool)
    for target in targets.unique():
        members = (targets == target).nonzero().flatten()
        num_held = min(round(fraction * len(members)), len(members) - 1)
        chosen[members[torch.randperm(len(members), generator=random)[:num_held]]] = True
    if not chosen.any():
        raise ValueError(
            f"a share of {fraction} of {len(part)} images in {len(targets.unique())} classes is less than one "
            "image of any class: choose a larger dataset.val_fraction, or 0 for no validation part"
        )
    return replace(part, members=part.members[~chosen]), replace(part, members=part.members[chosen])
