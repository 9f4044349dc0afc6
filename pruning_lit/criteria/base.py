"""What a criterion is."""

from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import Protocol

from torch import Tensor, nn

from pruning_lit.channels import ChannelGraph, ChannelGroup


class Calibration(Protocol):
    """Where a criterion that looks at feature maps gets pictures: the ``calibration`` of a data module."""

    num_training: int

    def calibration(
        self, num_images: int, seed: int, augment: bool, rank: int, world_size: int, batch_size: int
    ) -> Iterator[Tensor]:
        """Normalised pictures, batch by batch: the share of this rank in one seeded set."""
        ...


class NeedsTraining(ValueError):
    """Only training can give these scores, and there has been none."""


class Criterion(ABC):
    """How much each channel of a network matters.

    Attributes:
        comparable: whether the scores of different groups are in one unit, so that the smallest of the whole network
            are known as they are. Else a budget takes the same share of every group, unless told otherwise.
    """

    comparable = False

    def unsupported(self, net: nn.Module, graph: ChannelGraph) -> dict[str, str]:
        """The groups of ``net`` that this criterion leaves whole, each with the reason in words."""
        return {}

    def check(self, groups: list[ChannelGroup]) -> None:  # noqa: B027 - most criteria can judge any group
        """ValueError, before any training, if one of the groups cannot be judged."""

    @abstractmethod
    def scores(
        self, net: nn.Module, graph: ChannelGraph, groups: list[ChannelGroup], data: Calibration
    ) -> dict[str, Tensor]:
        """One float64 score per channel of each group, shape ``(group.size,)``, on the CPU, equal on all ranks.

        Larger means more worth keeping.
        """
