"""One pass over some pictures, in which every feature map is scored as it appears; no map is stored."""

import logging
from collections.abc import Callable, Iterable, Iterator, Mapping

import torch
import torch.distributed as dist
from torch import Tensor, nn

from pruning_lit.channels import ChannelGroup, observe
from pruning_lit.criteria.base import Calibration

log = logging.getLogger(__name__)
Score = Callable[[Tensor], Tensor]  # maps (N, C, H, W) to scores (N, C)
Measure = Callable[[int, Tensor], Tensor]  # number of an operation and its result to what is added up


def calibration_batches(
    data: Calibration, num_images: int, seed: int, augment: bool, batch_size: int, shared: bool = True
) -> Iterator[Tensor]:
    """The pictures to look at: this rank's share of a seeded set, or, not ``shared``, all of them on every rank.

    A data set with fewer than ``num_images`` training pictures gives all it has, with a warning.
    """
    available = min(num_images, data.num_training)
    if available < num_images:
        log.warning("the scores look at all %d training pictures, not at %d", available, num_images)
    several = shared and dist.is_available() and dist.is_initialized()
    rank, world_size = (dist.get_rank(), dist.get_world_size()) if several else (0, 1)
    return data.calibration(available, seed, augment, rank, world_size, batch_size)


def mean_scores(
    net: nn.Module, groups: list[ChannelGroup], batches: Iterable[Tensor], score: Score
) -> dict[int, Tensor]:
    """Mean over pictures of the scores of every map by which a group is judged.

    Args:
        net: the network that the groups were traced in; put in eval mode for the pass.
        groups: their taps say which maps; a map shared by several is scored once.
        batches: pictures ``(N, C, H, W)`` of this rank; under distributed training sums and counts are added over all
            ranks.
        score: maps to one score per picture and channel.

    Returns:
        Tap number to float64 means, shape ``(channels of the map,)``, on the CPU; equal however the pictures are split.
    """

    def summed(maps: Tensor) -> Tensor:
        """The last entry counts the pictures."""
        scores = score(maps if maps.ndim == 4 else maps[..., None, None])
        return torch.cat([scores.sum(0), scores.new_tensor([len(scores)])])

    feature_maps = {tap.operation: tap.channels for group in groups for tap in group.feature_maps}
    totals = sums(
        net, {tap: (channels + 1,) for tap, channels in feature_maps.items()}, batches, lambda tap, maps: summed(maps)
    )
    return {tap: (total[:-1] / total[-1]).cpu() for tap, total in totals.items()}


def sums(
    net: nn.Module,
    shapes: Mapping[int, tuple[int, ...]],
    batches: Iterable[Tensor],
    measure: Measure,
    shared: bool = True,
) -> dict[int, Tensor]:
    """What is measured on chosen maps, added over all pictures and all ranks.

    Args:
        net: put in eval mode for the pass.
        shapes: number of an operation, see ``observe``, to the shape of what is measured on its result.
        batches: as for ``mean_scores``.
        measure: operation and its result to a tensor of that shape.
        shared: whether the ranks have shares of the pictures; else each has them all, and nothing is added up.

    Returns:
        Operation to float64 sums, on the device of the network, equal on all ranks.

    Raises:
        ValueError: there are no pictures.
    """
    like = next(net.parameters())  # device and precision
    totals = {
        index: torch.zeros(shape, dtype=torch.float64, device=like.device) for index, shape in sorted(shapes.items())
    }
    num_pictures = torch.zeros((), dtype=torch.int64, device=like.device)

    def listener(index: int) -> Callable[[Tensor], None]:
        def add(maps: Tensor) -> None:
            totals[index] += measure(index, maps)

        return add

    listeners = {index: listener(index) for index in totals}
    for batch in batches:
        observe(net, (batch.to(like),), listeners)
        num_pictures += len(batch)
    if shared and dist.is_available() and dist.is_initialized():
        for total in (num_pictures, *totals.values()):  # in the order of the operations, the same on all ranks
            dist.all_reduce(total)
    if not num_pictures:
        raise ValueError("the criterion saw no picture: the calibration set is empty")
    return totals
