"""Random scores: what every criterion has to beat."""

import torch
from torch import Tensor

from pruning_lit.criteria.base import Criterion, Scoring


class Random(Criterion):
    """Uniform noise.

    Args:
        seed: the same seed gives the same scores, on every rank and machine.
    """

    def __init__(self, seed: int = 0) -> None:
        self.seed = seed

    def scores(self, scoring: Scoring) -> dict[str, Tensor]:
        """See ``Criterion``; neither weights nor data are looked at."""
        generator = torch.Generator().manual_seed(self.seed)
        return {
            group.name: torch.rand(group.size, dtype=torch.float64, generator=generator) for group in scoring.groups
        }
