"""Projections on the shortcuts of residual blocks, behind which a scatter goes."""

from collections import Counter
from typing import Any

from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd

from pruning_lit.channels.insertion.norm_inputs import NormInputs
from pruning_lit.channels.modules.relabel import SCATTER, ChannelScatter
from pruning_lit.channels.tracing.dataflow import Role
from pruning_lit.channels.tracing.kinds import Operation, short_name
from pruning_lit.channels.tracing.passes import follow

SUMS = frozenset({"add", "add_"})


def insert_scatters(model: nn.Module, example_input: Any) -> list[str]:
    """Put a ``ChannelScatter`` behind every layer on a shortcut, in place.

    Such a layer is added to the end of a longer branch, in a stream whose width is that of all who write into it; so
    its channels cannot leave for its own sake. Behind a scatter they can: where they were, it adds zeros. Outputs do
    not change, nor do the names in the state dict, to which ``<module>.scatter.source`` are added. What has a scatter
    already gets no second one.

    Both terms of the sum must be the work of one convolution each, used once, and read by nobody else on the way; the
    layer on the shortcut is the one with fewer layers between it and the image. Where both have equally many, or one
    of the terms is something else (the stream itself, a product), there is none.

    Args:
        model: any module; convolutions of any dimension are looked at, without groups.
        example_input: as for ``trace``.

    Returns:
        Names of the modules that have got a scatter, in the order of the model's modules: the batch norms that alone
        read such convolutions, or the convolutions themselves.

    Raises:
        ValueError: the model does not run on ``example_input``; nothing has been inserted then.

    Source: Hou et al. 2022, "CHEX: CHannel EXploration for CNN Model Compression", which prunes these layers too; its
    release does so by masks only.
    """
    tracer = follow(Shortcuts, model, example_input)
    widths = tracer.shortcuts()
    layers = [path for path, layer in model.named_modules() if path in widths and SCATTER.name not in layer._modules]
    for path in layers:
        SCATTER.put(model.get_submodule(path), ChannelScatter(range(widths[path])))
    return layers


class Shortcuts(NormInputs):
    """Tracer that also notes the terms of sums, and the operations of convolutions.

    Args:
        model: the model that is going to run.
    """

    def __init__(self, model: nn.Module) -> None:
        super().__init__(model)
        self.sums: list[tuple[int | None, int | None]] = []  # the operations whose results are added
        self.modules = {path: module for path, module in model.named_modules() if isinstance(module, _ConvNd)}
        self.within: dict[int, str] = {}  # operation to the convolution that does it

    def seen(self, index: int, operation: Operation, args: tuple, kwargs: dict, result: Any) -> None:
        """Note sums and convolutions, and follow the operation."""
        if short_name(operation) in SUMS:
            one, other = args[:2]
            if isinstance(one, Tensor) and isinstance(other, Tensor) and one.shape == other.shape:
                # now: in-place, the result takes the place of a term
                self.sums.append((self.flow.producer.get(one, None), self.flow.producer.get(other, None)))
        super().seen(index, operation, args, kwargs, result)
        if self.module_path[-1] in self.modules:
            self.within[index] = self.module_path[-1]

    def shortcuts(self) -> dict[str, int]:
        """The modules behind which a scatter makes a difference, with the number of channels that they make."""
        uses, depths = Counter(call.weight for call in self.calls), self.flow.depths()
        once = {call.operation for call in self.calls if uses[call.weight] == 1 and call.operation in self.within}
        norms = {given[0]: path for path, given in self.given.items() if len(given) == 1}
        found = {}
        for terms in self.sums:
            layers = [self._layer(term, once) for term in terms]
            if None in layers:
                continue
            one, other = sorted((layer for layer in layers if layer is not None), key=depths.__getitem__)
            conv = self.modules[self.within[one]]
            if depths[one] < depths[other] and conv.groups == 1:
                found[norms.get(one, self.within[one])] = conv.out_channels
        return found

    def _layer(self, operation: int | None, convolutions: set[int]) -> int | None:
        """The convolution to which the result of an operation leads back, without fork or junction on the way."""
        while operation is not None:
            node = self.flow.nodes[operation]
            if len(node.consumers) != 1 or node.leaves:
                return None
            if operation in convolutions:
                return operation
            if node.role is Role.PRODUCES or len(node.sources) != 1:
                return None
            (operation,) = node.sources
        return None
