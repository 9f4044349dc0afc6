"""LAMP: the size of a filter beside all larger ones of its layer, which makes magnitudes of layers comparable."""

from torch import Tensor

from pruning_lit.criteria.base import Criterion, Scoring
from pruning_lit.criteria.producers import by_layer, channel_weights, filter_slices
from pruning_lit.criteria.reduction import Reduction, reduced, require_reduction


def layer_adaptive(sizes: Tensor) -> Tensor:
    """Every size divided by the sum of itself and all that are not smaller.

    Args:
        sizes: squared norms of the filters of a layer, shape ``(filters,)``.

    Returns:
        float64, shape ``(filters,)``, up to 1, which the largest has; larger means more worth keeping. 0 where the
        size is 0. Of equal sizes an earlier one counts as smaller.

    Source: Lee et al. 2021, "Layer-adaptive Sparsity for the Magnitude-based Pruning" (LAMP), equation 2, with filters
    for single weights.
    """
    ascending, order = sizes.double().sort(stable=True)
    rest = ascending.flip(0).cumsum(0).flip(0)
    scores = ascending.new_zeros(len(sizes))
    scores[order] = (ascending / rest).where(ascending > 0, 0.0)
    return scores


class LAMP(Criterion):
    """Squared norm of a filter, divided by that of itself and all larger ones of its layer together.

    The largest filter of every group has the score 1, so that none is emptied by a threshold on all groups. A channel
    that a ``ChannelSelect`` takes from a stream is made by no weight of its own: those that read it count.

    Args:
        reduction: of the squared norms in the layers that make a channel, as those of a residual stream: ``sum``,
            ``mean`` or ``max``, or that of the ``first``.

    Source: Lee et al. 2021, "Layer-adaptive Sparsity for the Magnitude-based Pruning", with filters for single weights.
    """

    comparable = True
    additive = True

    def __init__(self, reduction: Reduction = "mean") -> None:
        require_reduction(reduction)
        self.reduction = reduction

    def scores(self, scoring: Scoring) -> dict[str, Tensor]:
        """Layer-adaptive sizes of each channel; the data are not looked at."""
        weights = {name: each.detach().double() for name, each in scoring.view.named_parameters()}
        scores = {}
        for group in scoring.groups:
            layers = by_layer(filter_slices(group, weights)).values()
            sizes = [channel_weights(pieces, weights).square().sum(1).cpu() for pieces in layers]
            scores[group.name] = layer_adaptive(reduced(sizes, self.reduction))
        return scores
