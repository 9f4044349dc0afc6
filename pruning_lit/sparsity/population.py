"""What can be pruned in a network, as a criterion and a sparsity together have it."""

from torch import Tensor, nn

from pruning_lit.channels import ChannelGraph, ChannelGroup, trace
from pruning_lit.criteria import Criterion
from pruning_lit.sparsity.base import Sparsity


class Population:
    """The groups that may lose channels: not protected, judged by the criterion, not excluded by the sparsity.

    Args:
        criterion: how much a channel matters.
        sparsity: how many stay; it goes by the scores of this criterion from here on, see ``Sparsity.bind``.

    Raises:
        ValueError: the sparsity cannot go by that criterion.
    """

    def __init__(self, criterion: Criterion, sparsity: Sparsity) -> None:
        sparsity.bind(criterion)
        self.criterion, self.sparsity = criterion, sparsity
        self._latest: ChannelGraph | None = None

    def graph(self, net: nn.Module, example: Tensor) -> ChannelGraph:
        """The graph in which all other groups are protected; traced anew where the widths have changed.

        Args:
            net: the network.
            example: a picture, ``(1, C, H, W)``.
        """
        shapes = {name: tuple(parameter.shape) for name, parameter in net.named_parameters()}
        if self._latest is None or self._latest.shapes != shapes:
            weights = next(net.parameters())
            self._latest = self.judged(net, trace(net, example.to(weights)))  # its device and its precision
        return self._latest

    def judged(self, net: nn.Module, graph: ChannelGraph) -> ChannelGraph:
        """``graph``, with those groups protected that the criterion leaves whole."""
        return graph.protect(self.criterion.unsupported(net, graph))

    def groups(self, net: nn.Module, example: Tensor) -> list[ChannelGroup]:
        """The groups; arguments as for ``graph``."""
        return self.sparsity.population(self.graph(net, example))
