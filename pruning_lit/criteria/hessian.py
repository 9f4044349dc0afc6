"""Hessian: what the loss gains, to second order, when a channel is taken away (optimal brain damage)."""

from torch import Tensor

from pruning_lit.criteria.base import Criterion, Scoring, require_positive
from pruning_lit.criteria.gradients import Drawn, mean_over_batches, with_biases
from pruning_lit.criteria.producers import by_layer, filter_slices
from pruning_lit.criteria.reduction import Reduction, reduced, require_reduction


class Hessian(Criterion):
    """Half the curvature of the loss times the squared weight, over the filter and its bias.

    The curvature is the diagonal of the Hessian as the empirical Fisher information has it: the mean over images of the
    squared gradient of the loss of a single image, in eval mode. So every image has a backward pass of its own.

    Args:
        reduction: of the layers that make a channel, as those of a residual stream: ``sum``, ``mean`` or ``max``, or
            that of the ``first``.
        num_images: images looked at over all ranks; fewer where the data set has fewer.
        augment: crop and mirror them as in training.
        seed: of their choice and augmentation.

    Source: LeCun et al. 1990, "Optimal Brain Damage", equation 5, with filters for single weights.
    """

    comparable = True
    additive = True

    def __init__(
        self, reduction: Reduction = "sum", num_images: int = 256, augment: bool = False, seed: int = 0
    ) -> None:
        require_reduction(reduction)
        require_positive(num_images=num_images)
        self.reduction, self.num_images, self.augment, self.seed = reduction, num_images, augment, seed

    def scores(self, scoring: Scoring) -> dict[str, Tensor]:
        """Second-order terms of each channel, averaged over images; the gradients are those of the task's loss."""
        parameters = dict(scoring.view.named_parameters())
        layers = {
            group.name: with_biases(group, by_layer(filter_slices(group, parameters))) for group in scoring.groups
        }
        return mean_over_batches(scoring, layers, Drawn(self.num_images, 1, self.augment, self.seed), self._saliency)

    def _saliency(self, products: list[Tensor]) -> Tensor:
        """Scores ``(size,)`` of one image, from the products of every layer, each ``(size, number of parameters)``."""
        return reduced([each.square().sum(1) / 2 for each in products], self.reduction)
