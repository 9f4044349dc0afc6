"""The interface of a criterion, and the argument of its scores."""

import logging
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

from lightning_utilities.core.apply_func import apply_to_collection
from torch import Tensor, nn

from pruning_lit.channels import ChannelGraph, ChannelGroup
from pruning_lit.channels.inputs import first_tensor
from pruning_lit.criteria.ranks import rank_and_world_size
from pruning_lit.tasks import Task
from pruning_lit.tasks.base import Batch

log = logging.getLogger(__name__)
FEWER = "the scores look at all %d training images, not at %d"


@runtime_checkable
class Calibration(Protocol):
    """The part of a data module that criteria need which go by feature maps or gradients."""

    num_training: int

    def calibration(
        self, num_images: int, seed: int, augment: bool, rank: int, world_size: int, batch_size: int
    ) -> Iterator[Batch]:
        """Batches as training sees them, on the CPU: the share of this rank in one seeded set."""
        ...


class NeedsTraining(ValueError):
    """Only training can give these scores, and there has been none."""


class NeedsData(ValueError):
    """Only batches of data can give these scores, and there are none at hand."""


@dataclass(frozen=True)
class Scoring:
    """All that scores may depend on.

    Attributes:
        net: the network.
        graph: of its ``view``, in which what cannot be pruned is protected.
        groups: those that are scored.
        data: for criteria that go by feature maps or gradients: a data module, or any iterable of batches, such as a
            ``DataLoader``; None: there are only weights to look at.
        task: for criteria that go by the loss.
    """

    net: nn.Module
    graph: ChannelGraph
    groups: list[ChannelGroup]
    data: Calibration | Iterable[Any] | None = None
    task: Task | None = None

    @property
    def view(self) -> nn.Module:
        """The part of the network that the graph knows; for a classifier all of it."""
        return self.task.view(self.net) if self.task else self.net

    def batches(
        self, num_images: int, seed: int, augment: bool, batch_size: int, shared: bool = True
    ) -> Iterator[Batch]:
        """Seeded calibration batches: this rank's share, or, not ``shared``, all of them on every rank.

        Fewer than ``num_images`` training images are all looked at, with a warning. The log says what is scored, as
        that may take its time. Of an iterable the first batches are taken as they come, the last one cut to size, and
        every rank has its own.

        Raises:
            NeedsData: there are no data.
        """
        if self.data is None:
            raise NeedsData("these scores depend on images, and there are none to look at")
        if not isinstance(self.data, Calibration):
            return first_examples(self.data, num_images)
        available = min(num_images, self.data.num_training)
        if available < num_images:
            log.warning(FEWER, available, num_images)
        rank, world_size = rank_and_world_size()
        if rank == 0:
            log.info("scoring %d groups of channels on %d images", len(self.groups), available)
        if not shared:
            rank, world_size = 0, 1
        return self.data.calibration(available, seed, augment, rank, world_size, batch_size)

    def view_inputs(
        self, num_images: int, seed: int, augment: bool, batch_size: int, shared: bool = True
    ) -> Iterator[Any]:
        """Inputs of such batches as ``view`` takes them; see ``batches``."""
        for inputs, _ in self.batches(num_images, seed, augment, batch_size, shared):
            yield from self.task.view_inputs(self.net, inputs) if self.task else [inputs]


def require_positive(**settings: Any) -> None:
    """ValueError, by name, for settings of a criterion that are no whole numbers of at least 1."""
    for name, value in settings.items():
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise ValueError(f"criterion.{name} must be a whole number of at least 1, got {value!r}")


def first_examples(batches: Iterable[Any], num_images: int) -> Iterator[Batch]:
    """Batches ``(inputs, targets)`` of the first examples of an iterable.

    Args:
        batches: pairs ``(inputs, targets)``, or inputs alone: a tensor, a list of one, or a dictionary.
        num_images: how many examples; fewer where there are fewer, with a warning.
    """
    left = num_images
    for batch in batches:
        alone = not isinstance(batch, tuple | list) or len(batch) < 2
        inputs, targets = (batch[0] if isinstance(batch, tuple | list) else batch, None) if alone else batch[:2]
        size = len(first_tensor(inputs))
        yield apply_to_collection((inputs, targets), Tensor, lambda each, last=left: each[:last])
        left -= size
        if left <= 0:
            return
    log.warning(FEWER, num_images - left, num_images)


class Criterion(ABC):
    """Criterion that scores the importance of every channel of a network.

    Attributes:
        comparable: whether the scores of different groups are in one unit, so that the smallest of the whole network
            are known as they are. Else a budget takes the same share of every group, unless told otherwise.
        additive: whether the scores of channels that go together add up to the score of what is lost, so that a budget
            can ask for the largest sum of those that stay.
        by_width: whether scores depend on how many channels stay, which ``scores`` can only assume.
        needs_pixels: whether scores depend on which elements of a feature map are neighbours.
    """

    comparable = False
    additive = False
    by_width = False
    needs_pixels = False

    def unsupported(self, net: nn.Module, graph: ChannelGraph) -> dict[str, str]:
        """The groups of ``net`` that this criterion leaves whole, each with the reason in words."""
        return {}

    def protect(self, net: nn.Module, graph: ChannelGraph) -> ChannelGraph:
        """``graph``, in which what this criterion leaves whole is protected, too."""
        return graph.protect(self.unsupported(net, graph))

    def require_task(self, task: Task | type[Task]) -> None:
        """ValueError where the feature maps of a task's networks mean nothing to this criterion."""
        if self.needs_pixels and not task.maps_are_images:
            raise ValueError(
                f"{type(self).__name__} looks at feature maps as images, and those of point clouds are none: their "
                "elements have no neighbours; choose criterion=channel_independence, column_subset, taylor, bn_scale "
                "or magnitude"
            )

    def check(self, groups: list[ChannelGroup]) -> None:  # noqa: B027 - most criteria can judge any group
        """ValueError, before any training, if one of the groups cannot be judged."""

    def notes(self, scoring: Scoring, scores: Mapping[str, Tensor]) -> list[str]:
        """Sentences for the report on the scores that were found."""
        return []

    @abstractmethod
    def scores(self, scoring: Scoring) -> dict[str, Tensor]:
        """One float64 score per channel of each group, shape ``(group.size,)``, on the CPU, equal on all ranks.

        Larger means more worth keeping.
        """
