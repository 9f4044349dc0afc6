"""Distillation by the squared distance between logits."""

from torch import Tensor

from pruning_lit.phases.distillation.base import DENSE, Distillation, mean_of_rows, require_weight


class Mse(Distillation):
    """Distillation of logits by regression: ``loss of the task + weight * mean squared difference of the logits``.

    Args:
        teacher, cache: see ``Distillation``.
        weight: of the term.

    Raises:
        ValueError: the weight is below 0.

    Source: Ba and Caruana 2014, "Do Deep Nets Really Need to be Deep?", section 2.2.
    """

    def __init__(self, teacher: str = DENSE, weight: float = 1.0, cache: bool = False) -> None:
        super().__init__(teacher, cache)
        self.weight = require_weight("weight", weight)

    def loss(self, learned: Tensor, taught: Tensor) -> Tensor:
        """Mean squared difference of logits, each ``(N, classes)``, over images and classes, times the weight."""
        return self.weight * mean_of_rows((learned - taught).square().mean(1))
