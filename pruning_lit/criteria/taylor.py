"""Taylor: what the loss changes, to first order, when a channel is taken away."""

from collections.abc import Mapping
from typing import Literal, get_args

from torch import Tensor, nn

from pruning_lit.channels import ChannelGroup, ChannelSlice
from pruning_lit.criteria.base import Criterion, Scoring, require_positive
from pruning_lit.criteria.bn_scale import scale_names
from pruning_lit.criteria.gradients import Drawn, mean_over_batches, with_biases
from pruning_lit.criteria.producers import by_layer, filter_slices
from pruning_lit.criteria.reduction import Reduction, reduced, require_reduction

Form = Literal["gate", "filter", "elementwise", "absolute"]


class Taylor(Criterion):
    """Squared first-order change of the loss when a channel's parameters become zero; mean over batches.

    The parameters are, with gradients g of the loss and weights w:

    * ``gate``: scale and shift of the batch norm behind the layer, ``(g_scale scale + g_shift shift)^2``; for a channel
      without batch norm the filter form;
    * ``filter``: the filter and its bias, ``(sum of g w)^2``;
    * ``elementwise``: the same, ``sum of (g w)^2``;
    * ``absolute``: the same, not squared, ``sum of |g w|``.

    Gradients are those of the loss of a batch in eval mode: batch norms go by their averages, and nothing is dropped.

    Args:
        form: see above.
        reduction: of the layers that make a channel, as those of a residual stream: ``sum``: their changes are added,
            then squared, as they leave together; ``mean``, ``max``, ``first``: of the squares of single layers.
        num_images: images looked at over all ranks; fewer where the data set has fewer.
        batch_size: images per batch, whatever the number of ranks; the squares of larger batches are smaller.
        augment: crop and mirror them as in training.
        seed: of their choice and augmentation.

    Source: Molchanov et al. 2019, "Importance Estimation for Neural Network Pruning", equation 8, and section 4.1 for
    gates behind batch norms.
    """

    comparable = True
    additive = True

    def __init__(
        self,
        form: Form = "gate",
        reduction: Reduction = "sum",
        num_images: int = 640,
        batch_size: int = 32,
        augment: bool = False,
        seed: int = 0,
    ) -> None:
        if form not in get_args(Form):
            raise ValueError(f"criterion.form must be one of {list(get_args(Form))}, got {form!r}")
        require_reduction(reduction)
        require_positive(num_images=num_images, batch_size=batch_size)
        self.form, self.reduction = form, reduction
        self.num_images, self.batch_size, self.augment, self.seed = num_images, batch_size, augment, seed

    def notes(self, scoring: Scoring, scores: Mapping[str, Tensor]) -> list[str]:
        """The groups that are judged by filters for want of a batch norm."""
        norms = scale_names(scoring.view)
        bare = [group.name for group in scoring.groups if not any(piece.tensor in norms for piece in group.slices)]
        if self.form != "gate" or not bare:
            return []
        return [f"No batch norm scales the channels of {', '.join(bare)}: Taylor scores of the filters instead."]

    def scores(self, scoring: Scoring) -> dict[str, Tensor]:
        """Squared Taylor terms of each channel, averaged over batches; the gradients are those of the task's loss."""
        layers = {group.name: self._slices(group, scoring.view) for group in scoring.groups}
        batches = Drawn(self.num_images, self.batch_size, self.augment, self.seed)
        return mean_over_batches(scoring, layers, batches, self._squares)

    def _slices(self, group: ChannelGroup, view: nn.Module) -> list[list[ChannelSlice]]:
        """The parameters whose change counts, layer by layer."""
        norms = scale_names(view) if self.form == "gate" else set()
        scales = [piece for piece in group.slices if piece.tensor in norms]
        return with_biases(group, by_layer(scales or filter_slices(group, dict(view.named_parameters()))))

    def _squares(self, products: list[Tensor]) -> Tensor:
        """Scores ``(size,)`` of one batch, from the products of every layer, each ``(size, number of parameters)``."""
        match self.form:
            case "elementwise":
                return reduced([each.square().sum(1) for each in products], self.reduction)
            case "absolute":
                return reduced([each.abs().sum(1) for each in products], self.reduction)
        changes = [each.sum(1) for each in products]
        if self.reduction == "sum":
            return reduced(changes, "sum").square()
        return reduced([each.square() for each in changes], self.reduction)
