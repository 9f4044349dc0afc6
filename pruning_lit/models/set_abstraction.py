"""Set abstraction: features of neighbourhoods in a cloud, or of the whole of it."""

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn

from pruning_lit.models.point_operations import ball_query, farthest_points, gather_points

FirstCentre = Literal["random", "first"]


def shared_layers(inputs: int, widths: Sequence[int], dims: Literal[1, 2]) -> nn.Sequential:
    """Convolutions over single points, each with a bias, batch norm and ReLU.

    Args:
        inputs: channels that come in.
        widths: channels of each convolution.
        dims: of the maps: 1 for points ``(B, C, N)``, 2 for groups of points ``(B, C, K, S)``.
    """
    convolution, norm = ((nn.Conv1d, nn.BatchNorm1d), (nn.Conv2d, nn.BatchNorm2d))[dims - 1]
    return nn.Sequential(
        *(
            nn.Sequential(convolution(incoming, width, 1), norm(width), nn.ReLU(inplace=True))
            for incoming, width in zip([inputs, *widths], widths, strict=False)
        )
    )


class SetAbstraction(nn.Module):
    """Features of the neighbourhoods of chosen points, at one or several scales.

    Centres are farthest points. For each scale the neighbours in a ball go through layers of its own, and the largest
    value of each channel is taken; the scales are concatenated. Neighbours come as coordinates relative to the centre
    and features, in this order; of several scales the features come first, as in the release.

    Args:
        num_centres: S.
        radii: of the balls, one for each scale, in the unit of the coordinates.
        neighbours: points in a ball at most, K, for each scale.
        inputs: channels of the features that come in; 0: there are none.
        widths: channels of the layers, for each scale.
        first_centre: in training, ``random``: the first centre is drawn by torch's generator; ``first``: it is point
            0, as in evaluation.

    Source: Qi et al. 2017, "PointNet++: Deep Hierarchical Feature Learning on Point Sets in a Metric Space", sections
    3.2 and 3.3; the order of channels is that of the public PyTorch version.
    """

    def __init__(
        self,
        num_centres: int,
        radii: Sequence[float],
        neighbours: Sequence[int],
        inputs: int,
        widths: Sequence[Sequence[int]],
        first_centre: FirstCentre = "random",
    ) -> None:
        super().__init__()
        self.num_centres, self.first_centre = num_centres, first_centre
        self.scales = tuple(zip(radii, neighbours, strict=True))
        self.layers = nn.ModuleList(shared_layers(3 + inputs, each, dims=2) for each in widths)

    def forward(self, points: Tensor, features: Tensor | None) -> tuple[Tensor, Tensor]:
        """Centres and their features.

        Args:
            points: coordinates, shape ``(B, N, 3)``.
            features: shape ``(B, C, N)``, or None.

        Returns:
            Coordinates ``(B, S, 3)``, and features ``(B, sum of the last widths, S)``.
        """
        first = None
        if self.training and self.first_centre == "random":
            first = torch.randint(points.shape[1], points.shape[:1], device=points.device)
        centres = gather_points(points, farthest_points(points, self.num_centres, first))
        pooled = [
            layers(self._grouped(points, features, centres, radius, number)).max(2).values
            for layers, (radius, number) in zip(self.layers, self.scales, strict=True)
        ]
        return centres, torch.cat(pooled, 1)

    def _grouped(self, points: Tensor, features: Tensor | None, centres: Tensor, radius: float, number: int) -> Tensor:
        """Neighbours in balls, shape ``(B, 3 + C, K, S)``, channels last in memory: convolutions are faster on it."""
        index = ball_query(points, centres, radius, number).mT.contiguous()
        values, shift = [points], [centres]  # what is gathered, and what is taken from it at each centre
        if features is not None:
            first = 1 if len(self.scales) == 1 else 0
            values.insert(first, features.mT)
            shift.insert(first, torch.zeros_like(gather_points(features.mT, index[:, 0])))
        grouped = gather_points(torch.cat(values, 2), index)
        grouped -= torch.cat(shift, 2)[:, None]  # in place: no larger tensor is in the network
        return grouped.permute(0, 3, 1, 2)


class GlobalAbstraction(nn.Module):
    """Features of a whole cloud: layers on every point, then the largest value of each channel.

    Args:
        inputs: channels of the features that come in, to which the coordinates are added in front.
        widths: channels of the layers.

    Source: as ``SetAbstraction``.
    """

    def __init__(self, inputs: int, widths: Sequence[int]) -> None:
        super().__init__()
        self.layers = shared_layers(3 + inputs, widths, dims=2)

    def forward(self, points: Tensor, features: Tensor | None) -> Tensor:
        """Features ``(B, last width, 1)`` of points ``(B, N, 3)`` with features ``(B, C, N)``, or None."""
        parts = [points.mT] if features is None else [points.mT, features]
        return self.layers(torch.cat(parts, 1)[..., None]).max(2).values
