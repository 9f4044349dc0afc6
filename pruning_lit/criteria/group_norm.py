"""Group norm: the size of all weights that leave with a channel, those that read it and its norms' scales included."""

from collections.abc import Mapping

from torch import Tensor, nn

from pruning_lit.channels import ChannelGroup, ChannelSlice
from pruning_lit.criteria.base import Criterion, Scoring
from pruning_lit.criteria.producers import channel_weights
from pruning_lit.criteria.reduction import Reduction, reduced, require_reduction


class GroupNorm(Criterion):
    """Squared norm of the weights that leave with a channel, in the unit of the mean of its group.

    These are the filters of all layers that make it, the scales of its norms, and the columns of all layers that read
    it; biases and shifts do not count.

    Args:
        reduction: of the squared norms in these tensors: ``sum``, ``mean`` or ``max``, or that of the ``first``.

    Source: Fang et al. 2023, "DepGraph: Towards Any Structural Pruning", section 3.3, without its sparse training; the
    mean over tensors and the division by that of the group are those of its release.
    """

    comparable = True

    def __init__(self, reduction: Reduction = "mean") -> None:
        require_reduction(reduction)
        self.reduction = reduction

    def scores(self, scoring: Scoring) -> dict[str, Tensor]:
        """Group norms of each channel, with a mean of 1 in every group; the data are not looked at."""
        weights = {name: each.detach().double() for name, each in weights_of(scoring.view).items()}
        scores = {}
        for group in scoring.groups:
            norms = squared_norms(group, weights, self.reduction).cpu()
            mean = norms.mean()
            scores[group.name] = norms / mean if mean > 0 else norms
        return scores


def weights_of(net: nn.Module) -> dict[str, nn.Parameter]:
    """Parameters of the network that are no biases or shifts, by name."""
    return {name: each for name, each in net.named_parameters() if name.rpartition(".")[2] != "bias"}


def weight_slices(group: ChannelGroup, weights: Mapping[str, Tensor]) -> list[ChannelSlice]:
    """Slices of the weights that leave with the channels of a group: filters, readers' columns and norms' scales."""
    return [piece for piece in group.slices if piece.tensor in weights]


def squared_norms(group: ChannelGroup, weights: Mapping[str, Tensor], reduction: Reduction) -> Tensor:
    """Squared norms of the weights that leave with each channel, shape ``(group.size,)``.

    Args:
        group: of a traced network.
        weights: its parameters, without biases and shifts.
        reduction: of the squared norms in these tensors.
    """
    pieces = weight_slices(group, weights)
    return reduced([channel_weights([piece], weights).square().sum(1) for piece in pieces], reduction)
