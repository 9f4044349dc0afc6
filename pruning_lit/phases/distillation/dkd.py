"""Decoupled knowledge distillation: the right class against all others, and the others among themselves."""

from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pruning_lit.phases.distillation.base import DENSE, Distillation, mean_of_rows, require_temperature, require_weight
from pruning_lit.tasks import Task
from pruning_lit.tasks.base import Batch


class Judged(NamedTuple):
    """Logits ``(choices, classes)``, and the right classes ``(choices,)``."""

    logits: Tensor
    classes: Tensor


class Dkd(Distillation):
    """Decoupled distillation: ``loss of the task + alpha * T² * KL(right or not) + beta * T² * KL(among the others)``.

    Where the teacher is sure of the right class, ``logits`` hardly learns from what it makes of the others; here they
    have a weight of their own. Of images that mixup has blended the class with the larger share counts as right.

    Args:
        teacher, cache: see ``Distillation``.
        temperature: T, by which logits are divided.
        alpha: weight of the right class against all others.
        beta: weight of the others among themselves.

    Raises:
        ValueError: a number is out of its range.

    Source: Zhao et al. 2022, "Decoupled Knowledge Distillation", equation 7; without the warm-up of its release, which
    is for networks that begin from chance.
    """

    def __init__(
        self, teacher: str = DENSE, temperature: float = 4.0, alpha: float = 1.0, beta: float = 8.0, cache: bool = False
    ) -> None:
        super().__init__(teacher, cache)
        self.temperature = require_temperature(temperature)
        self.alpha, self.beta = require_weight("alpha", alpha), require_weight("beta", beta)

    def look(self, net: nn.Module, batch: Batch, task: Task) -> tuple[Any, Judged]:
        """Outputs of a network, and its logits with the right classes."""
        outputs, logits = super().look(net, batch, task)
        return outputs, Judged(logits, task.right_classes(batch[1]))

    def loss(self, learned: Judged, taught: Judged) -> Tensor:
        """Both divergences, weighted."""
        right, others = decoupled_divergences(learned.logits, taught.logits, learned.classes, self.temperature)
        return self.alpha * right + self.beta * others


def decoupled_divergences(
    learned: Tensor, taught: Tensor, classes: Tensor, temperature: float
) -> tuple[Tensor, Tensor]:
    """Kullback-Leibler divergences of softened probabilities, means over the rows, times the temperature squared.

    Args:
        learned: logits of the network that learns, ``(N, classes)``, two classes at least.
        taught: logits of the teacher, of the same shape.
        classes: the right ones, ``(N,)``.
        temperature: by which both are divided, above 0.

    Returns:
        Of the probabilities of the right class and of all others together; and of those that the others have among
        themselves.
    """
    ours, theirs = (_parts(each / temperature, classes) for each in (learned, taught))
    each = [F.kl_div(a, b, reduction="none", log_target=True) for a, b in zip(ours, theirs, strict=True)]
    return temperature**2 * mean_of_rows(each[0]), temperature**2 * mean_of_rows(each[1])


def _parts(logits: Tensor, classes: Tensor) -> tuple[Tensor, Tensor]:
    """Logarithms of the probabilities of the right class and of all others, ``(N, 2)``, and among these."""
    right = F.one_hot(classes, logits.shape[1]).bool()
    others = logits[~right].view(len(logits), logits.shape[1] - 1)
    pair = torch.stack([logits[right], others.logsumexp(1)], dim=1)
    return F.log_softmax(pair, dim=1), F.log_softmax(others, dim=1)
