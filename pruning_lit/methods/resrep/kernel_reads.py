"""Parameters that a network reads beside the layers that they belong to: folding a norm would change what it finds."""

from typing import Any

import torch
from torch import nn

from pruning_lit.channels.tracing.kinds import short_name
from pruning_lit.channels.tracing.modes import still
from pruning_lit.channels.tracing.operations import OperationMode, evaluating, tensors_in, without_gradients
from pruning_lit.channels.tracing.passes import twin_of
from pruning_lit.channels.tracing.views import layer_of

LAYERS = ("conv", "linear", "batch_norm")  # what operations with weights of their own begin with


class _Reads(OperationMode):
    """Mode that notes the parameters which other operations than layers are given."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.names = {id(parameter): name for name, parameter in net.named_parameters()}
        self.found: set[str] = set()

    def seen(self, index: int, operation: torch._ops.OpOverload, args: tuple, kwargs: dict, result: Any) -> None:
        """Note the parameters among the arguments."""
        if not short_name(operation).startswith(LAYERS):
            self.found |= {self.names[id(each)] for each in tensors_in(args, kwargs) if id(each) in self.names}


def layers_read_elsewhere(net: nn.Module, example: tuple[Any, ...]) -> set[str]:
    """Layers of ``net`` whose weights it reads in another operation, too; it is not changed."""
    twin = twin_of(net)
    reads = _Reads(twin)
    with still(net), evaluating(twin), without_gradients(), reads:
        twin(*example)
    return {layer_of(name) for name in reads.found}
