"""HRank: the rank of a channel's feature map, as a measure of the information in it."""

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor

from pruning_lit.channels import ChannelGroup
from pruning_lit.criteria.base import Criterion, Scoring, require_positive
from pruning_lit.criteria.gather import mean_scores, require_feature_maps, sum_over_maps
from pruning_lit.criteria.magnitude import Magnitude


@torch.no_grad()
def feature_map_rank(maps: Tensor) -> Tensor:
    """Rank of every feature map as a matrix of rows and columns of pixels.

    Args:
        maps: after normalisation and activation, shape ``(N, C, H, W)``, any floating dtype; half precision is computed
            in float32.

    Returns:
        One rank per image and channel, shape ``(N, C)``, float64, from 0 to ``min(H, W)``; larger means more worth
        keeping.

    Raises:
        ValueError: the maps are not a floating tensor with 4 axes, or are not finite.

    Source: Lin et al. 2020, "HRank: Filter Pruning using High-Rank Feature Map", equation 5.
    """
    if maps.ndim != 4 or not maps.is_floating_point():
        raise ValueError(f"expected floating maps (N, C, H, W), got {maps.dtype} of shape {tuple(maps.shape)}")
    if not bool(maps.isfinite().all()):
        raise ValueError("feature maps are not finite; look for diverged weights or inputs")
    return torch.linalg.matrix_rank(maps.to(torch.promote_types(maps.dtype, torch.float32))).double()


class HRank(Criterion):
    """Mean rank of a channel's feature maps over seeded training images.

    A tied group has one map per block output, of which the ranks are added. Ranks of small maps saturate, and those of
    vectors are only 0 or 1: of channels of one mean rank the one with the smaller filters goes first.

    Args:
        num_images: images looked at over all ranks; fewer where the data set has fewer.
        batch_size: images per forward pass.
        augment: crop and mirror them as in training.
        seed: of their choice and augmentation.

    Source: Lin et al. 2020, "HRank: Filter Pruning using High-Rank Feature Map", equation 5; the order within one rank
    is an extension.
    """

    needs_pixels = True

    def __init__(self, num_images: int = 500, batch_size: int = 100, augment: bool = False, seed: int = 0) -> None:
        require_positive(num_images=num_images, batch_size=batch_size)
        self.num_images, self.batch_size, self.augment, self.seed = num_images, batch_size, augment, seed

    def check(self, groups: list[ChannelGroup]) -> None:
        """Every group needs a feature map."""
        require_feature_maps(groups)

    def notes(self, scoring: Scoring, scores: Mapping[str, Tensor]) -> list[str]:
        """The groups in which ranks do not tell all channels apart."""
        tied = {name: count for name, each in scores.items() if (count := self._num_tied(each))}
        if not tied:
            return []
        groups = ", ".join(f"{count} of {len(scores[name])} in {name}" for name, count in tied.items())
        return [f"Channels that share their rank with others, and were told apart by magnitude: {groups}."]

    def scores(self, scoring: Scoring) -> dict[str, Tensor]:
        """Ranks of the maps of each channel: means over the images, added over the maps; magnitude decides on ties."""
        batches = scoring.view_inputs(self.num_images, self.seed, self.augment, self.batch_size)
        means = mean_scores(scoring.view, scoring.groups, batches, feature_map_rank)
        sizes = Magnitude().scores(scoring)
        return {
            group.name: sum_over_maps(group, means) + self._fraction_of_a_step(sizes[group.name])
            for group in scoring.groups
        }

    def _fraction_of_a_step(self, sizes: Tensor) -> Tensor:
        """Sizes as fractions of less than half the smallest step between mean ranks, one rank of one image."""
        return sizes / sizes.sum().clamp(min=torch.finfo(sizes.dtype).tiny) / (2 * self.num_images)

    def _num_tied(self, scores: Tensor) -> int:
        """Channels nearer to another one than any two mean ranks are."""
        near = scores.sort().values.diff() < 0.5 / self.num_images
        return int((F.pad(near, (1, 0)) | F.pad(near, (0, 1))).sum())
