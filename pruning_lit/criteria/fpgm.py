"""FPGM: filters near the geometric median of their layer are those that the others can stand in for."""

from typing import Literal, get_args

import torch
from torch import Tensor
from torch.nn.functional import normalize

from pruning_lit.criteria.base import Criterion, Scoring
from pruning_lit.criteria.producers import by_layer, channel_weights, filter_slices
from pruning_lit.criteria.reduction import Reduction, reduced, require_reduction

Distance = Literal["l2", "cosine"]


def total_distances(filters: Tensor, distance: Distance = "l2") -> Tensor:
    """Distance of every filter to all filters of its layer, added up.

    Args:
        filters: one row per filter, shape ``(filters, weights)``.
        distance: ``l2``: Euclidean; ``cosine``: 1 minus the cosine of the angle.

    Returns:
        float64, shape ``(filters,)``; larger means more worth keeping.

    Source: He et al. 2019, "Filter Pruning via Geometric Median for Deep Convolutional Neural Networks Acceleration",
    equation 7.
    """
    filters = filters.double()
    if distance == "cosine":
        directions = normalize(filters, dim=1)
        return (1 - directions @ directions.T).sum(1)
    # without the shortcut by a matrix product, in which the distance of equal filters is not zero
    return torch.cdist(filters, filters, compute_mode="donot_use_mm_for_euclid_dist").sum(1)


class FPGM(Criterion):
    """Sum of the distances of a filter to all others of its layer.

    The smallest is nearest to the geometric median of the layer and goes first, as one of two equal filters does.
    A channel that a ``ChannelSelect`` takes from a stream is made by no weight of its own: those that read it count.

    Args:
        distance: ``l2`` or ``cosine``.
        reduction: of the layers that make a channel, as those of a residual stream: ``sum``, ``mean`` or ``max`` of
            their distances, or those of the ``first``.

    Source: He et al. 2019, "Filter Pruning via Geometric Median for Deep Convolutional Neural Networks Acceleration".
    """

    def __init__(self, distance: Distance = "l2", reduction: Reduction = "sum") -> None:
        if distance not in get_args(Distance):
            raise ValueError(f"criterion.distance must be one of {list(get_args(Distance))}, got {distance!r}")
        require_reduction(reduction)
        self.distance, self.reduction = distance, reduction

    def scores(self, scoring: Scoring) -> dict[str, Tensor]:
        """Distances of the filters of each channel to the others; the data are not looked at."""
        weights = {name: each.detach().double() for name, each in scoring.view.named_parameters()}
        return {
            group.name: reduced(
                [
                    total_distances(channel_weights(pieces, weights), self.distance).cpu()
                    for pieces in by_layer(filter_slices(group, weights)).values()
                ],
                self.reduction,
            )
            for group in scoring.groups
        }
