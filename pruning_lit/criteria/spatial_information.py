"""Spatial information: how unevenly the edges of a channel's feature map are spread."""

import torch
import torch.nn.functional as F
from torch import Tensor


@torch.no_grad()
def spatial_information(maps: Tensor) -> Tensor:
    """Standard deviation, over the pixels of each map, of the strength of its edges.

    The edges are found by two 3x3 kernels, one of them ``[[-0.5, 0, 0.5], [-1, 0, 1], [-0.5, 0, 0.5]]`` and the other
    its transpose, with zeros around the map; their strength is the length of the two answers. Half precision is
    computed in float32, where neither the kernels nor the squares overflow.

    Args:
        maps: output of a convolution, before normalisation and activation, shape ``(N, C, H, W)``, any floating dtype.

    Returns:
        One score per picture and channel, shape ``(N, C)``, float64, in the unit of the maps; larger means more worth
        keeping. The population form: divided by the number of pixels. See ``gather.mean_scores`` for many pictures;
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
