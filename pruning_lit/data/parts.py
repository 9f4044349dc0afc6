"""What a data set hands over, and how a part of it is held out."""

from dataclasses import dataclass, replace
from typing import NamedTuple

import torch
from torch import Tensor

from pruning_lit.data.seeding import generator


@dataclass(frozen=True)
class Part:
    """Some of the pictures in a tensor; a held-out part is another view of the same bytes."""

    pictures: Tensor  # uint8 (N, C, H, W)
    targets: Tensor  # int64 (N,)
    members: Tensor  # int64 (M,), the rows of the two that belong to this part, ascending

    def take(self, positions: Tensor) -> tuple[Tensor, Tensor]:
        """Copies of the pictures and targets at some positions ``0 … M - 1``."""
        rows = self.members[positions]
        return self.pictures[rows], self.targets[rows]

    def __len__(self) -> int:
        return len(self.members)


class Parts(NamedTuple):
    """A data set as read: its classes in the order of the targets, and its parts."""

    classes: list[str]
    train: Part
    test: Part
    validation: Part | None = None  # where the data set brings its own


def whole(pictures: Tensor, targets: Tensor) -> Part:
    """The part that all pictures ``(N, C, H, W)`` with targets ``(N,)`` belong to."""
    return Part(pictures, targets, torch.arange(len(targets)))


def hold_out(part: Part, fraction: float, seed: int) -> tuple[Part, Part]:
    """Split a part in two, class by class, so that both have the classes in (nearly) the same proportions.

    Args:
        part: what is split.
        fraction: share of each class that is held out, rounded to whole pictures; every class keeps at least one.
        seed: of the choice.

    Returns:
        The rest, and the part held out.

    Raises:
        ValueError: no class has enough pictures to hold one out.
    """
    random = generator("hold out", seed)
    targets = part.targets[part.members]
    chosen = torch.zeros(len(part), dtype=torch.bool)
    for target in targets.unique():
        members = (targets == target).nonzero().flatten()
        num_held = min(round(fraction * len(members)), len(members) - 1)
        chosen[members[torch.randperm(len(members), generator=random)[:num_held]]] = True
    if not chosen.any():
        raise ValueError(
            f"a share of {fraction} of {len(part)} pictures in {len(targets.unique())} classes is less than one "
            "picture of any class: choose a larger dataset.val_fraction, or 0 for no validation part"
        )
    return replace(part, members=part.members[~chosen]), replace(part, members=part.members[chosen])
