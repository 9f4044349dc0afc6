"""One pass over some images, in which every feature map is scored as it appears; no map is stored."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from pruning_lit.channels import ChannelGroup, observe
from pruning_lit.channels.inputs import first_tensor
from pruning_lit.criteria.ranks import add_over_ranks
from pruning_lit.tasks.base import like

Score = Callable[[Tensor], Tensor]  # maps (N, C, H, W) to scores (N, C)
Measure = Callable[[int, Tensor], Tensor]  # number of an operation and its result to what is added up


def mean_scores(
    net: nn.Module, groups: list[ChannelGroup], batches: Iterable[Any], score: Score, shared: bool = True
) -> dict[int, Tensor]:
    """Mean over images of the scores of every map by which a group is judged.

    Args:
        net: the network that the groups were traced in; put in eval mode for the pass.
        groups: their feature maps are scored; a map shared by several is scored once.
        batches: inputs of the network on this rank, as images ``(N, C, H, W)``; under distributed training sums and
            counts are added over all ranks.
        score: maps to one score per image and channel; those of points ``(N, C, L)`` and of vectors ``(N, C)`` come as
            ``(N, C, L, 1)`` and ``(N, C, 1, 1)``.
        shared: see ``sums``.

    Returns:
        Tap number to float64 means, shape ``(channels of the map,)``, on the CPU; equal however the images are split.
    """

    def summed(maps: Tensor) -> Tensor:
        """The last entry counts the images."""
        scores = score(maps if maps.ndim == 4 else maps.reshape(*maps.shape[:2], -1, 1))
        return torch.cat([scores.sum(0), scores.new_tensor([len(scores)])])

    feature_maps = {each.operation: each.channels for group in groups for each in group.feature_maps}
    shapes = {at: (channels + 1,) for at, channels in feature_maps.items()}
    totals = sums(net, shapes, batches, lambda _at, maps: summed(maps), shared)
    return {at: (total[:-1] / total[-1]).cpu() for at, total in totals.items()}


def require_feature_maps(groups: Iterable[ChannelGroup]) -> None:
    """ValueError where a group has no map."""
    for group in groups:
        if not group.feature_maps:
            raise ValueError(
                f"group {group.name!r} has no feature map to judge it by; leave it whole (sparsity.exclude)"
            )


def sum_over_maps(group: ChannelGroup, means: Mapping[int, Tensor]) -> Tensor:
    """Sum of the ``mean_scores`` of all maps of each channel, shape ``(group.size,)``."""
    return torch.stack(
        [means[feature_map.operation][feature_map.positions].sum(1) for feature_map in group.feature_maps]
    ).sum(0)


def sums(
    net: nn.Module,
    shapes: Mapping[int, tuple[int, ...]],
    batches: Iterable[Any],
    measure: Measure,
    shared: bool = True,
) -> dict[int, Tensor]:
    """Sums over all images and all ranks of what is measured on chosen maps.

    Args:
        net: put in eval mode for the pass.
        shapes: number of an operation, see ``observe``, to the shape of what is measured on its result.
        batches: as for ``mean_scores``.
        measure: operation and its result to a tensor of that shape.
        shared: whether the ranks have shares of the images; else each has them all, and nothing is added up.

    Returns:
        Operation to float64 sums, on the device of the network, equal on all ranks.

    Raises:
        ValueError: there are no images.
    """
    weights = next(net.parameters())  # device and precision
    totals = {
        index: torch.zeros(shape, dtype=torch.float64, device=weights.device) for index, shape in sorted(shapes.items())
    }
    num_images = torch.zeros((), dtype=torch.int64, device=weights.device)

    def listener(index: int) -> Callable[[Tensor], None]:
        def add(maps: Tensor) -> None:
            totals[index] += measure(index, maps)

        return add

    listeners = {index: listener(index) for index in totals}
    for inputs in batches:
        arguments = like(inputs, weights)
        observe(net, arguments if isinstance(arguments, tuple) else (arguments,), listeners)
        num_images += len(first_tensor(inputs))
    if shared:
        add_over_ranks([num_images, *totals.values()])
    if not num_images:
        raise ValueError("the criterion saw no image: the calibration set is empty")
    return totals
