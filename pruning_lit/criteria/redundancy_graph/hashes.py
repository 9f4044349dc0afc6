"""A few bits that say what a feature map looks like, and how often those of two filters agree."""

import math

import torch
from torch import Tensor

CORNER = 8  # low frequencies per direction
STACK = 2**23  # numbers in the float64 copies that are worked on at once
EXACT_IN_FLOAT32 = 2**24  # sums of so many ones


def hash_bits(maps: Tensor) -> Tensor:
    """Perceptual hash of every map: which low frequencies are at least as strong as their mean.

    A map is taken to the frequencies of a two-dimensional DCT-II without normalisation; the orthonormal one would move
    the mean. Of these the corner of the lowest ``min(8, H)`` by ``min(8, W)`` is kept, the constant one included.

    Args:
        maps: shape ``(N, C, H, W)``, any floating dtype; computed in float64.

    Returns:
        Booleans, shape ``(N, C, min(8, H) * min(8, W))``. A blank map has ones only.

    Raises:
        ValueError: the maps are not a floating tensor with 4 axes, have no pixels, or hold NaN or infinity.

    Source: Li et al. 2024, "Filter Pruning via Decomposition of Redundancy Graphs".
    """
    if maps.ndim != 4 or not maps.is_floating_point() or 0 in maps.shape[2:]:
        raise ValueError(f"expected floating maps (N, C, H, W), got {maps.dtype} of shape {tuple(maps.shape)}")
    with torch.autocast(maps.device.type, enabled=False):
        doubles = maps.double()
        corner = (_cosines(doubles.shape[2], doubles) @ doubles @ _cosines(doubles.shape[3], doubles).mT).flatten(2)
        if not bool(corner.isfinite().all()):
            raise ValueError(
                "a feature map has values that are NaN or infinite; similarities need finite maps, so look for "
                "diverged weights or inputs"
            )
        return corner >= corner.mean(2, keepdim=True)


def _cosines(length: int, like: Tensor) -> Tensor:
    """The lowest rows of the DCT-II matrix, shape ``(min(8, length), length)``."""
    frequencies = torch.arange(min(CORNER, length), dtype=torch.float64, device=like.device)
    places = torch.arange(length, dtype=torch.float64, device=like.device)
    return 2 * (math.pi * frequencies[:, None] * (2 * places + 1) / (2 * length)).cos()


def agreements(maps: Tensor) -> Tensor:
    """For every pair of filters the number of bits that agree minus the number of those that differ.

    They are sums over images, so those of several batches can be added; on the diagonal stands the number of all
    bits.

    Args:
        maps: shape ``(N, C, H, W)``.

    Returns:
        Whole numbers in float64, shape ``(C, C)``, symmetric.
    """
    num_filters = maps.shape[1]
    total = torch.zeros(num_filters, num_filters, dtype=torch.float64, device=maps.device)
    images = min(max(1, STACK // max(1, maps[:1].numel())), EXACT_IN_FLOAT32 // CORNER**2)
    for stack in maps.split(images):
        signs = hash_bits(stack).movedim(1, 0).flatten(1).float() * 2 - 1
        with torch.autocast(maps.device.type, enabled=False):
            total += (signs @ signs.mT).double()
    return total
