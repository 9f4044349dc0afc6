"""Spatial information: how unevenly the edges of a channel's feature map are spread."""

from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pruning_lit.channels import ChannelGraph, ChannelGroup
from pruning_lit.criteria.base import Criterion, Scoring, require_positive
from pruning_lit.criteria.gather import mean_scores, sum_over_maps
from pruning_lit.criteria.redundancy_graph.reference_layer import NO_CONVOLUTION, SELECTED, candidates
from pruning_lit.criteria.statistics import Statistics, require_statistics, with_statistics_of_the_batch


@torch.no_grad()
def spatial_information(maps: Tensor) -> Tensor:
    """Standard deviation, over the pixels of each map, of the strength of its edges.

    The edges are found by two 3x3 kernels, one of them ``[[-0.5, 0, 0.5], [-1, 0, 1], [-0.5, 0, 0.5]]`` and the other
    its transpose, with zeros around the map; their strength is the length of the two answers. Half precision is
    computed in float32, where neither the kernels nor the squares overflow.

    Args:
        maps: output of a convolution, before normalisation and activation, shape ``(N, C, H, W)``, any floating dtype.

    Returns:
        One score per image and channel, shape ``(N, C)``, float64, in the unit of the maps; larger means more worth
        keeping. The population form: divided by the number of pixels. See ``gather.mean_scores`` for many images;
        the release adds up the means of 100 batches instead, a multiple of that where they are of one size.

    Raises:
        ValueError: the maps are not a floating tensor with 4 axes.

    Source: the release of Hou et al. 2022, "CHEX: CHannel EXploration for CNN Model Compression" (arXiv 2203.15794),
    its part for detection.
    """
    if maps.ndim != 4 or not maps.is_floating_point():
        raise ValueError(f"expected floating maps (N, C, H, W), got {maps.dtype} of shape {tuple(maps.shape)}")
    padded = F.pad(maps.to(torch.promote_types(maps.dtype, torch.float32)), (1, 1, 1, 1))
    down = padded[:, :, :-2] / 2 + padded[:, :, 1:-1] + padded[:, :, 2:] / 2
    across = padded[..., :-2] / 2 + padded[..., 1:-1] + padded[..., 2:] / 2
    strength = torch.hypot(down[..., 2:] - down[..., :-2], across[:, :, 2:] - across[:, :, :-2])
    return strength.flatten(2).std(dim=2, correction=0).double()


class SpatialInformation(Criterion):
    """Mean spatial information of the maps that make a channel, over seeded training images.

    The maps are the outputs of convolutions, before normalisation and activation; depthwise ones, which hand on what
    they read, do not count. Where several maps make a channel their scores are added, which is an extension: those of
    all convolutions that write into a residual stream, of all uses of one layer, and of all channels that leave
    together. Groups without a two-dimensional convolution stay whole.

    Args:
        num_images: images looked at over all ranks; fewer where the data set has fewer.
        batch_size: images per forward pass.
        augment: crop and mirror them as in training, as the release's are.
        seed: of their choice and augmentation.
        statistics: of batch norms: ``running``; or ``batch``, as the release's are: those of every batch, which all
            ranks then look at; the network's own do not change, and dropout is off.

    Source: the release of Hou et al. 2022, "CHEX: CHannel EXploration for CNN Model Compression" (arXiv 2203.15794),
    its part for detection, which looks at 100 batches of the training.
    """

    needs_pixels = True

    def __init__(
        self,
        num_images: int = 640,
        batch_size: int = 128,
        augment: bool = True,
        seed: int = 0,
        statistics: Statistics = "running",
    ) -> None:
        require_positive(num_images=num_images, batch_size=batch_size)
        require_statistics(statistics)
        self.num_images, self.batch_size, self.augment, self.seed = num_images, batch_size, augment, seed
        self.statistics = statistics

    def unsupported(self, net: nn.Module, graph: ChannelGraph) -> dict[str, str]:
        """Groups that no two-dimensional convolution makes."""
        return {
            group.name: NO_CONVOLUTION if group.producers else SELECTED
            for group in graph.prunable
            if not candidates(graph, group)
        }

    def scores(self, scoring: Scoring) -> dict[str, Tensor]:
        """Spatial information of the maps of each channel: means over the images, added over the maps.

        Raises:
            ValueError: no convolution makes a group, or maps are not finite.
        """
        made = [
            replace(group, feature_maps=tuple(producer.output for producer in candidates(scoring.graph, group)))
            for group in scoring.groups
        ]
        for group in made:
            if not group.feature_maps:
                raise ValueError(f"group {group.name!r} stays whole: {NO_CONVOLUTION}; leave it out (see unjudged)")
        shared = self.statistics == "running"  # else what a batch is would depend on the number of ranks
        observed = scoring.view if shared else with_statistics_of_the_batch(scoring.view)
        batches = scoring.view_inputs(self.num_images, self.seed, self.augment, self.batch_size, shared)
        means = mean_scores(observed, made, batches, spatial_information, shared)
        return {group.name: _added(group, means) for group in made}


def _added(group: ChannelGroup, means: dict[int, Tensor]) -> Tensor:
    total = sum_over_maps(group, means)
    if not bool(total.isfinite().all()):
        raise ValueError(f"group {group.name!r}: the maps of its channels are not finite; the training diverged")
    return total
