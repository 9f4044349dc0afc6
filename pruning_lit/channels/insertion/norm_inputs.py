"""Inputs of batch norms: a residual stream, in front of which a selection goes, or the output of one convolution."""

from collections import Counter, defaultdict
from typing import Any, cast

from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from pruning_lit.channels.modules.relabel import SELECT, ChannelSelect
from pruning_lit.channels.tracing.modes import differs_in_statistics
from pruning_lit.channels.tracing.passes import follow
from pruning_lit.channels.tracing.rules import numbers_of, rule_for
from pruning_lit.channels.tracing.tracer import Tracer
from pruning_lit.channels.tracing.views import layer_of


def insert_selections(model: nn.Module, example_input: Any) -> list[str]:
    """Put a ``ChannelSelect`` in front of every batch norm that reads a stream, in place.

    The input of such a norm is not simply what one layer makes for it alone: it is a sum, a concatenation, or read by
    others too, so that its channels cannot leave for the norm's sake. Behind a selection, the norm and the layers that
    read it can be narrowed while the stream stays whole. Outputs do not change, nor do the names in the state dict, to
    which ``<norm>.select.source`` are added. What has a selection already gets no second one.

    Args:
        model: any module; every affine batch norm in it is looked at, synchronised ones too.
        example_input: as for ``trace``.

    Returns:
        Names of the batch norms that have got a selection, in the order of the model's modules.

    Raises:
        ValueError: the model does not run on ``example_input``; nothing has been inserted then.

    Source: Liu et al. 2017, "Learning Efficient Convolutional Networks through Network Slimming", section 3, on
    cross-layer connections and pre-activation structures.
    """
    tracer = follow(NormInputs, model, example_input)
    norms = tracer.stream_norms()
    for path in norms:
        norm = cast(_BatchNorm, model.get_submodule(path))
        SELECT.put(norm, ChannelSelect(norm.num_features))
    return norms


def own_norms(model: nn.Module, example_input: Any) -> dict[str, str]:
    """The convolutions that have a batch norm of their own: the only reader of what they make, and nobody else's.

    Args:
        model: any module.
        example_input: as for ``trace``.

    Returns:
        Names of convolutions to the names of their batch norms, in the order of the model's modules.

    Raises:
        ValueError: the model does not run on ``example_input``.
    """
    tracer = follow(NormInputs, model, example_input)
    return tracer.owners()


class NormInputs(Tracer):
    """Tracer that also notes the producers of what the batch norms read.

    Args:
        model: the model that is going to run.
    """

    def __init__(self, model: nn.Module) -> None:
        super().__init__(model, rule_for, numbers_of)
        self.given: dict[str, list[int | None]] = defaultdict(list)
        self.norms = {path: module for path, module in model.named_modules() if isinstance(module, _BatchNorm)}
        for path, norm in self.norms.items():
            self.hooks.append(norm.register_forward_pre_hook(self._noting(path)))

    def _noting(self, path: str) -> Any:
        def note(_norm: nn.Module, args: tuple[Any, ...]) -> None:
            self.paused = True  # hooks run among the model's own operations
            self.given[path].append(self._producer(args[0]) if args else None)
            self.paused = False

        return note

    def _producer(self, x: Tensor) -> int | None:
        """The operation whose result ``x`` is; None unless there are channels, along dimension 1 alone."""
        shadow = self.shadow(x)
        channels = None if shadow is None else self.outline(shadow).along(1)
        has_channels = channels is not None and bool((channels >= 0).any())
        return self.flow.producer.get(x, None) if has_channels else None

    def stream_norms(self) -> list[str]:
        """Names of the batch norms in front of which a selection can be put, and makes a difference."""
        found = []
        for path, norm in self.norms.items():
            given = self.given[path]  # one called again would read two streams through one selection
            if norm.affine and len(given) == 1 and given[0] is not None and self.flow.is_stream(given[0]):
                found.append(path)
        return found

    def owners(self) -> dict[str, str]:
        """Batch norms that alone read what a convolution, used once, makes, by the name of the convolution.

        They do nothing but normalise: some (timm's) have an activation of their own.
        """
        uses = Counter(call.weight for call in self.calls)
        layers = {call.operation: layer_of(call.weight) for call in self.calls if uses[call.weight] == 1}
        owners = {}
        for path, norm in self.norms.items():
            producer = self.given[path][0] if len(self.given[path]) == 1 else None
            if producer in layers and norm.running_mean is not None and differs_in_statistics(type(norm)):
                node = self.flow.nodes[producer]
                if len(node.consumers) == 1 and not node.leaves:
                    owners[layers[producer]] = path
        return owners
