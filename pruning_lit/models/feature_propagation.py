"""Feature propagation: from few points of a cloud back to many."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from pruning_lit.models.point_operations import interpolate, three_nearest
from pruning_lit.models.set_abstraction import shared_layers


class FeaturePropagation(nn.Module):
    """Features of coarse points, interpolated at fine ones and joined to what these had before.

    Args:
        inputs: channels that come in, skip connection and coarse features together.
        widths: channels of the layers.

    Source: Qi et al. 2017, "PointNet++: Deep Hierarchical Feature Learning on Point Sets in a Metric Space", section
    3.4, equation 2.
    """

    def __init__(self, inputs: int, widths: Sequence[int]) -> None:
        super().__init__()
        self.layers = shared_layers(inputs, widths, dims=1)

    def forward(self, fine: Tensor, coarse: Tensor, skip: Tensor | None, features: Tensor) -> Tensor:
        """Features of the fine points.

        Args:
            fine: coordinates, shape ``(B, N, 3)``.
            coarse: coordinates, shape ``(B, S, 3)``; a single one hands on its features as they are.
            skip: features of the fine points, shape ``(B, C, N)``, or None.
            features: of the coarse points, shape ``(B, D, S)``.

        Returns:
            Shape ``(B, last width, N)``.
        """
        if coarse.shape[1] == 1:
            spread = features.expand(-1, -1, fine.shape[1])
        else:
            spread = interpolate(features.mT, *three_nearest(fine, coarse)).mT
        return self.layers(spread if skip is None else torch.cat([skip, spread], 1))
