"""Baselines: the size of a channel's weights, and random scores, which every criterion has to beat."""

import torch
from torch import Tensor

from pruning_lit.criteria.base import Criterion, Scoring
from pruning_lit.criteria.producers import filter_slices


def filter_powers(weight: Tensor, power: int, dim: int = 0) -> Tensor:
    """Sum of |w| to the ``power`` of every filter.

    Args:
        weight: kernel of a convolution or a linear layer, e.g. ``(out, in / groups, kh, kw)``.
        power: 1 or 2.
        dim: dimension of the output channels.

    Returns:
        float64, shape ``(out,)``.
    """
    return weight.detach().double().abs().pow(power).transpose(0, dim).flatten(1).sum(1)


class Magnitude(Criterion):
    """Norm of the weights that make a channel; in a tied group, over all layers that make it.

    A channel that a ``ChannelSelect`` takes from a stream is made by no weight of its own: those that read it count.

    Args:
        power: 1 for the sum of absolute weights, 2 for the Euclidean norm.

    Source: Li et al. 2017, "Pruning Filters for Efficient ConvNets", section 3.1 (L1).
    """

    def __init__(self, power: int = 1) -> None:
        if power not in (1, 2):
            raise ValueError(f"criterion.power must be 1 or 2, got {power}")
        self.power = power

    def scores(self, scoring: Scoring) -> dict[str, Tensor]:
        """Norm of the weights of each channel; the data are not looked at."""
        weights = dict(scoring.view.named_parameters())
        scores = {}
        for group in scoring.groups:
            total = torch.zeros(group.size, dtype=torch.float64)
            for piece in filter_slices(group, weights):
                total += filter_powers(weights[piece.tensor], self.power, piece.dim).cpu()[piece.positions].sum(1)
            scores[group.name] = total.pow(1 / self.power)
        return scores


class Random(Criterion):
    """Uniform noise.

    Args:
        seed: the same seed gives the same scores, on every rank and machine.
    """

    def __init__(self, seed: int = 0) -> None:
        self.seed = seed

    def scores(self, scoring: Scoring) -> dict[str, Tensor]:
        """Uniform noise as the score of each channel; neither weights nor data are looked at."""
        generator = torch.Generator().manual_seed(self.seed)
        return {
            group.name: torch.rand(group.size, dtype=torch.float64, generator=generator) for group in scoring.groups
        }
