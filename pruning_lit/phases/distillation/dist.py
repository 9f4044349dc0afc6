"""Distillation by correlation: relations between the classes of an image, and between the images of a class."""

import torch
from torch import Tensor
from torch.distributed.nn.functional import all_reduce
from torch.nn import functional as F

from pruning_lit.phases.distillation.base import DENSE, Distillation, mean_of_rows, require_temperature, require_weight

EPSILON = 1e-8  # of the released code, for probabilities that are all equal


class Dist(Distillation):
    """Distillation of relations: ``loss of the task + beta * T² * (1 - inter) + gamma * T² * (1 - intra)``.

    ``inter`` is the mean correlation of the probabilities that network and teacher give an image, ``intra`` that of
    the probabilities they give a class, over the images of a step, all processes together.

    Args:
        teacher, cache: see ``Distillation``.
        temperature: T, by which logits are divided.
        beta: weight of the relations between classes.
        gamma: weight of the relations between images.

    Raises:
        ValueError: a number is out of its range.

    Source: Huang et al. 2022, "Knowledge Distillation from A Stronger Teacher", equations 7 to 10.
    """

    def __init__(
        self, teacher: str = DENSE, temperature: float = 1.0, beta: float = 1.0, gamma: float = 1.0, cache: bool = False
    ) -> None:
        super().__init__(teacher, cache)
        self.temperature = require_temperature(temperature)
        self.beta, self.gamma = require_weight("beta", beta), require_weight("gamma", gamma)

    def loss(self, learned: Tensor, taught: Tensor) -> Tensor:
        """Missing correlation of logits, each ``(N, classes)``, weighted."""
        inter, intra = missing_correlation(learned, taught, self.temperature)
        return self.beta * inter + self.gamma * intra


def missing_correlation(learned: Tensor, taught: Tensor, temperature: float) -> tuple[Tensor, Tensor]:
    """One minus the mean correlation of softened probabilities, times the temperature squared.

    Args:
        learned: logits of the network that learns, ``(N, classes)``.
        taught: logits of the teacher, of the same shape.
        temperature: by which both are divided, above 0.

    Returns:
        Over the classes of each image, mean over the images of this process; and over the images of each class, of
        all processes, mean over classes.
    """
    both = torch.stack([F.softmax(each / temperature, dim=1) for each in (learned, taught)])
    inter = _cosines(_products(both - both.mean(2, keepdim=True), 1))
    number = _over_ranks(both.new_tensor(float(len(learned))))
    mean = _over_ranks(both.sum(1, keepdim=True)) / number.clamp(min=1)
    intra = _cosines(_over_ranks(_products(both - mean, 0)))
    return temperature**2 * mean_of_rows(1 - inter), temperature**2 * (1 - intra.mean()) * (number > 0)


def _products(both: Tensor, dim: int) -> Tensor:
    """Sums of products of two matrices ``(2, N, classes)``, and of their squares, along an axis of them, ``(3, …)``."""
    return torch.stack([both[0] * both[1], both[0].square(), both[1].square()]).sum(dim + 1)


def _cosines(products: Tensor) -> Tensor:
    """Cosines of what ``_products`` was made of."""
    lengths = products[1:].clamp_min(torch.finfo(products.dtype).tiny).sqrt()  # the root of 0 has no gradient
    return products[0] / (lengths[0] * lengths[1] + EPSILON)


def _over_ranks(values: Tensor) -> Tensor:
    """Sum over all processes, through which gradients flow."""
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        return all_reduce(values)
    return values
