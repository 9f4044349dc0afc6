"""Sampling in PointNet++: the choice of centres and neighbours alone, to be timed apart from what pruning shortens."""

import torch
from torch import Tensor, nn

from pruning_lit.models.feature_propagation import FeaturePropagation
from pruning_lit.models.point_operations import ball_query, farthest_points, gather_points, three_nearest
from pruning_lit.models.set_abstraction import SetAbstraction


class Sampling(nn.Module):
    """Centres, neighbours and interpolation weights of a network for point clouds, without its layers.

    Args:
        net: any network; of one without set abstractions nothing is left.
    """

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        levels = [module for module in net.modules() if isinstance(module, SetAbstraction)]
        self.levels = [(level.num_centres, level.scales) for level in levels]
        self.propagates = any(isinstance(module, FeaturePropagation) for module in net.modules())
        self.register_buffer("place", torch.empty(0, device=next(net.parameters()).device))

    @staticmethod
    def is_done_by(net: nn.Module) -> bool:
        """True where a network has set abstractions."""
        return any(isinstance(module, SetAbstraction) for module in net.modules())

    def forward(self, cloud: Tensor, category: Tensor | None = None) -> Tensor:
        """Coordinates of the last centres, ``(B, S, 3)``.

        Args:
            cloud: ``(B, N, 3)``, or ``(B, N, 6)`` with normals.
            category: not used.
        """
        points = cloud[..., :3]
        for num_centres, scales in self.levels:
            centres = gather_points(points, farthest_points(points, num_centres))
            for radius, num_neighbours in scales:
                ball_query(points, centres, radius, num_neighbours)
            if self.propagates:
                three_nearest(points, centres)
            points = centres
        return points
