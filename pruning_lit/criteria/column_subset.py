"""Column subset selection: the filters that best span all filters of a layer, and what they leave of the others.

The filters of a layer, flattened, are the columns of a matrix X. A filter weighs as much as it takes part in the
leading right singular vectors of X, as many of them as filters are to stay. No image is looked at.

Source: Hou et al. 2022, "CHEX: CHannel EXploration for CNN Model Compression" (arXiv 2203.15794), with norms that are
not squared and the sum of absolute weights for short filters, as released.
"""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from pruning_lit.channels import ChannelGroup
from pruning_lit.criteria.base import Criterion, Scoring
from pruning_lit.criteria.producers import channel_weights, filter_slices


@torch.no_grad()
def leverage(weight: Tensor, num_vectors: int) -> Tensor:
    """Leverage of every filter: the length of its part in the leading singular vectors of all of them.

    Where a filter has fewer weights than there are filters, its score is the sum of its absolute weights.

    Directions weaker than ``1.5e-8 * sqrt(max(C, d))`` of the strongest are below the noise of a Gram matrix. Their
    vectors say nothing of the filters, so fewer vectors than asked for may enter. As many filters as vectors then have
    their leverage, and the others, all below these, go by the sum of their absolute weights.

    Args:
        weight: filters, shape ``(C, c_in, kh, kw)`` or any ``(C, ...)`` with ``d`` weights per filter. Dormant filters
            are zero.
        num_vectors: number of filters that are to stay, from 1 to C.

    Returns:
        Shape ``(C,)``, float64: in [0, 1], without a unit, or in the unit of the weights where ``d < C``; larger means
        more worth keeping. Exactly 0 for a filter that is all zero; at least ``num_vectors`` are above 0 if so many
        filters have weights.

    Raises:
        ValueError: ``num_vectors`` is out of range, or the weights are not finite.
    """
    filters = flattened(weight)
    if not 1 <= num_vectors <= len(filters):
        raise ValueError(f"num_vectors must be from 1 to the number of filters, {len(filters)}, got {num_vectors}")
    sizes = filters.abs().sum(1)
    if are_short(filters):
        return sizes
    eigenvalues, vectors = torch.linalg.eigh(filters @ filters.mT)  # ascending
    rank = int((eigenvalues > noise(filters) * eigenvalues[-1]).sum())
    leading = vectors[:, len(filters) - min(rank, num_vectors) :]
    scores = leading.norm(dim=1).where(sizes > 0, 0.0)
    return scores if num_vectors <= rank else filled(scores, sizes, rank)


def are_short(filters: Tensor) -> bool:
    """True where each of the filters ``(C, d)`` has fewer weights than there are filters: leverage says nothing."""
    return filters.shape[1] < len(filters)


def filled(scores: Tensor, sizes: Tensor, rank: int) -> Tensor:
    """The ``rank`` largest scores as they are; the others become shares of half the least of these, by size.

    Args:
        scores: shape ``(C,)``.
        sizes: sums of absolute weights, shape ``(C,)``.
        rank: how many keep their score, from 0 to C; at 0 all filters are zero.
    """
    order = scores.sort(descending=True, stable=True).indices
    others = order[rank:]
    result = scores.clone()
    if rank and len(others):
        largest = sizes[others].max()
        result[others] = scores[order[rank - 1]] / 2 * sizes[others] / largest.where(largest > 0, 1.0)
    return result


@torch.no_grad()
def projection_residual(weight: Tensor, selected: Sequence[int] | Tensor, candidates: Sequence[int] | Tensor) -> Tensor:
    """Residual of each candidate: the length of its part that is orthogonal to all selected filters.

    Selected filters that depend on others add nothing to the span, so that there may be more of them than weights in
    a filter.

    Args:
        weight: filters, as for ``leverage``; dormant ones with the values they would come back with.
        selected: positions of the filters that stay; none: a candidate's whole length is left.
        candidates: positions of the others.

    Returns:
        Shape ``(len(candidates),)``, float64, in the unit of the weights, at most the length of the candidate.

    Raises:
        ValueError: the weights are not finite.
    """
    filters = flattened(weight)
    basis = orthonormal_basis(filters[positions(selected, filters)])
    others = filters[positions(candidates, filters)]
    return (others - others @ basis @ basis.mT).norm(dim=1)  # a difference of squares would lose half the digits


def orthonormal_basis(vectors: Tensor) -> Tensor:
    """Columns ``(d, rank)`` that span the rows ``(k, d)``; the triangle of a QR shows the rank, and is small."""
    spanning, triangle = torch.linalg.qr(vectors.mT)
    rotation, sigma, _ = torch.linalg.svd(triangle, full_matrices=False)
    return spanning @ rotation[:, sigma > noise(vectors) * sigma[:1]]


def flattened(weight: Tensor) -> Tensor:
    """The filters as float64 rows ``(C, d)``; ValueError where they are not finite."""
    filters = weight.detach().double().flatten(1)
    if not bool(filters.isfinite().all()):
        num_broken = int((~filters.isfinite()).any(1).sum())
        raise ValueError(
            f"{num_broken} of {len(filters)} filters have weights that are not finite; the training diverged"
        )
    return filters


def noise(matrix: Tensor) -> float:
    """Share of the largest eigenvalue, or singular value, below which one of this float64 matrix counts as zero."""
    return max(matrix.shape) * torch.finfo(torch.float64).eps


def positions(chosen: Sequence[int] | Tensor, filters: Tensor) -> Tensor:
    """Positions as an index for ``filters``."""
    return torch.as_tensor(chosen, dtype=torch.long, device=filters.device)


def filters_of(group: ChannelGroup, weights: Mapping[str, Tensor]) -> Tensor:
    """The weights that make each channel of a group, of all layers that make it, side by side; see ``filter_slices``.

    Args:
        group: of a traced network.
        weights: parameters of that network by name.

    Returns:
        Shape ``(group.size, d)``, where ``d`` adds up the weights of all these layers per channel.
    """
    return channel_weights(filter_slices(group, weights), weights).detach()


class ColumnSubset(Criterion):
    """Leverage of the filters that make a channel; in a tied group, of those of all layers that make it, side by side.

    How many singular vectors enter is the number of channels that stay. A criterion does not know that number, so it
    is a share of the channels here: right for a budget that takes as much from every group, near for others.

    Args:
        share: of a group's channels, in (0, 1), as many of which as there are singular vectors; the share that the
            budget leaves is best.

    Source: Hou et al. 2022, "CHEX: CHannel EXploration for CNN Model Compression" (arXiv 2203.15794). Groups of several
    layers are an extension.
    """

    by_width = True

    def __init__(self, share: float = 0.5) -> None:
        if not 0 < share < 1:
            raise ValueError(f"criterion.share is the share of the channels that stay, between 0 and 1, got {share}")
        self.share = share

    def scores(self, scoring: Scoring) -> dict[str, Tensor]:
        """Leverage of the filters of each channel within its group; the data are not looked at."""
        weights = dict(scoring.view.named_parameters())
        return {
            group.name: leverage(filters_of(group, weights), max(1, int(self.share * group.size))).cpu()
            for group in scoring.groups
        }
