"""Distillation by softened probabilities: the Kullback-Leibler divergence between logits."""

from torch import Tensor
from torch.nn import functional as F

from pruning_lit.phases.distillation.base import DENSE, Distillation, mean_of_rows, require_temperature, require_weight


class Logits(Distillation):
    """Distillation of logits: ``(1 - alpha) * loss of the task + alpha * T² * KL(teacher, network)``.

    Args:
        teacher, cache: see ``Distillation``.
        temperature: T, by which logits are divided; the higher, the more the unlikely classes count.
        alpha: share of the divergence, in [0, 1].

    Raises:
        ValueError: a number is out of its range.

    Source: Hinton et al. 2015, "Distilling the Knowledge in a Neural Network", section 2.
    """

    def __init__(self, teacher: str = DENSE, temperature: float = 4.0, alpha: float = 0.9, cache: bool = False) -> None:
        super().__init__(teacher, cache)
        self.temperature = require_temperature(temperature)
        self.alpha = require_weight("alpha", alpha, most=1.0)
        self.task_share = 1 - self.alpha

    def loss(self, learned: Tensor, taught: Tensor) -> Tensor:
        """Divergence of logits, each ``(N, classes)``, times alpha."""
        return self.alpha * soft_divergence(learned, taught, self.temperature)


def soft_divergence(learned: Tensor, taught: Tensor, temperature: float) -> Tensor:
    """Kullback-Leibler divergence of softened probabilities, mean over the rows, times the temperature squared.

    Gradients with respect to logits shrink with the square of the temperature; the factor makes up for it.

    Args:
        learned: logits of the network that learns, ``(N, classes)``.
        taught: logits of the teacher, of the same shape.
        temperature: by which both are divided, above 0.
    """
    ours, theirs = (F.log_softmax(each / temperature, dim=1) for each in (learned, taught))
    return temperature**2 * mean_of_rows(F.kl_div(ours, theirs, reduction="none", log_target=True))
