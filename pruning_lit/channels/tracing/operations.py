"""The operations of one forward pass, numbered independently of device, batch size and who is watching."""

import copyreg
import functools
from collections.abc import Callable, ItemsView, Iterator, Mapping, Sequence, ValuesView
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from pruning_lit.channels.tracing.modes import still, switch
from pruning_lit.channels.tracing.randomness import alike, drops_out, even_out, is_random
from pruning_lit.channels.tracing.replica import FIXED, own_state, replica

COMPOSITE = (
    "reshape unflatten narrow "
    "conv1d conv2d conv3d conv_transpose1d conv_transpose2d conv_transpose3d linear batch_norm instance_norm "
    "group_norm layer_norm max_pool1d max_pool2d max_pool3d avg_pool1d avg_pool2d avg_pool3d "
    "adaptive_avg_pool1d adaptive_avg_pool2d adaptive_avg_pool3d adaptive_max_pool1d adaptive_max_pool2d "
    "softmax log_softmax scaled_dot_product_attention pixel_shuffle pixel_unshuffle channel_shuffle glu "
    "einsum upsample_nearest1d upsample_nearest2d upsample_nearest3d upsample_linear1d upsample_bilinear2d "
    "upsample_trilinear3d upsample_bicubic2d _upsample_nearest_exact1d _upsample_nearest_exact2d "
    "_upsample_nearest_exact3d _upsample_bilinear2d_aa _upsample_bicubic2d_aa lstm gru rnn_tanh rnn_relu "
    "_pad_circular take_along_dim matmul"
)
#: Composite operations seen as one: taking them apart would lose what they mean, and differs between devices.
WHOLE = frozenset(f"aten::{name}" for name in COMPOSITE.split())


def tensors_of(tree: Any) -> list[Tensor]:
    """The tensors in nested lists, tuples, dicts, and in the fields of whatever else a model may return, in order.

    Not those in sets, which have no order, nor in generators and closures, which cannot be looked into.
    """
    found: list[Tensor] = []
    _collect(tree, found, {})
    return found


def _collect(tree: Any, found: list[Tensor], met: dict[int, Any]) -> None:
    for leaf in tree_leaves(tree):
        if isinstance(leaf, Tensor):
            found.append(leaf)
        elif type(leaf) not in FIXED and not isinstance(leaf, nn.Module) and id(leaf) not in met:
            met[id(leaf)] = leaf
            _collect(_inside(leaf), found, met)


def _inside(leaf: Any) -> list[Any]:
    """Members of a mapping or sequence, or the fields of an object."""
    if isinstance(leaf, Mapping):
        return list(leaf.values())
    if isinstance(leaf, Sequence | ValuesView | ItemsView):
        return [] if isinstance(leaf, str | bytes) else list(leaf)
    slots = copyreg._slotnames(type(leaf))  # type: ignore[attr-defined]
    in_slots = [getattr(leaf, name) for name in slots if hasattr(leaf, name)]
    return in_slots + list(getattr(leaf, "__dict__", {}).values())


def tensors_in(*trees: Any) -> list[Tensor]:
    """The tensors in arguments and results of operations, which hold them in no deeper things than lists."""
    found: list[Tensor] = []
    for tree in trees:
        if isinstance(tree, Tensor):
            found.append(tree)
        elif isinstance(tree, list | tuple):
            found += tensors_in(*tree)
        elif isinstance(tree, dict) and tree:
            found += tensors_in(*tree.values())
    return found


@contextmanager
def without_gradients() -> Iterator[None]:
    """Context in which operations arrive at an ``OperationMode`` as they are called, and no gradients are recorded.

    As under ``torch.inference_mode``, but what is made are ordinary tensors: a model that keeps some goes on training.
    """
    with torch.no_grad(), torch._C._AutoDispatchBelowADInplaceOrView():
        yield


class OperationMode(TorchDispatchMode):
    """Mode that calls ``seen`` for every operation, in the order of execution.

    In ``without_gradients`` composite operations arrive here whole. Those of ``WHOLE`` (and whatever PyTorch tags
    as pointwise) are kept so; the others are decomposed, and their parts are numbered instead.
    """

    def __init__(self) -> None:
        super().__init__()
        self.index = 0
        self.paused = False  # while true, operations are neither numbered nor shown: they are not the model's

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        """False: nothing is compiled under these modes, and PyTorch's guard against it is run for every operation."""
        return False

    def seen(self, index: int, operation: torch._ops.OpOverload, args: tuple, kwargs: dict, result: Any) -> None:
        """Note that an operation has been executed; ``index`` counts from 0."""
        raise NotImplementedError

    def execute(self, operation: torch._ops.OpOverload, args: tuple, kwargs: dict) -> Any:
        """Run an operation."""
        return operation(*args, **kwargs)

    def __torch_dispatch__(
        self, func: torch._ops.OpOverload, types: Any, args: tuple = (), kwargs: dict | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if self.paused:
            return func(*args, **kwargs)
        if not _is_whole(func) and not drops_out(func, args):
            with self:
                return func.decompose(*args, **kwargs)
        result = self.execute(func, args, kwargs)
        self.seen(self.index, func, args, kwargs, result)
        self.index += 1
        return result


@functools.cache
def _is_whole(func: torch._ops.OpOverload) -> bool:
    composite = torch._C._dispatch_has_kernel_for_dispatch_key(func.name(), "CompositeImplicitAutograd")
    return not composite or func._schema.name in WHOLE or torch.Tag.pointwise in func.tags


class Alike(OperationMode):
    """Mode in which what is drawn at random does not depend on widths, see ``randomness``; a map of noise is even."""

    def seen(self, index: int, operation: torch._ops.OpOverload, args: tuple, kwargs: dict, result: Any) -> None:
        """Note nothing."""

    def execute(self, operation: torch._ops.OpOverload, args: tuple, kwargs: dict) -> Any:
        """Run an operation."""
        if drops_out(operation, args) or is_random(operation):
            result = alike(operation, args, kwargs, self.index)
            if is_random(operation) and not drops_out(operation, args):
                even_out(result)
            return result
        return operation(*args, **kwargs)


class Observer(OperationMode):
    """Mode that hands the results of chosen operations to functions, at the moment they exist.

    Args:
        listeners: operation number, as found by ``trace``, to a function of the resulting tensor. It is called before
            anything later in the pass (an in-place activation) can overwrite the tensor.
    """

    def __init__(self, listeners: dict[int, Callable[[Tensor], None]]) -> None:
        super().__init__()
        self.listeners = listeners

    def seen(self, index: int, operation: torch._ops.OpOverload, args: tuple, kwargs: dict, result: Any) -> None:
        """Pass the result of an operation on if somebody listens."""
        if index in self.listeners:
            self.listeners[index](tensors_of(result)[0])


def observe(model: nn.Module, inputs: tuple[Any, ...], listeners: dict[int, Callable[[Tensor], None]]) -> None:
    """Run ``model`` once in eval mode, without gradients, and hand chosen intermediate tensors to ``listeners``.

    A replica is run, so that what a pass remembers makes no later one shorter: its operations are those of the trace.
    """
    twin = replica(model, own_state)
    with still(model), evaluating(twin), without_gradients(), Observer(listeners):
        twin(*inputs)


class evaluating:
    """Context in which models are in eval mode; every module gets its own flag back afterwards.

    Args:
        models: the models.
        fused: whether attention layers may take the fused path, as in use: one operation for everything, which is not
            there on every device.
    """

    def __init__(self, *models: nn.Module, fused: bool = False) -> None:
        self.models, self.fused = models, fused

    def __enter__(self) -> None:
        self.fused_before = torch.backends.mha.get_fastpath_enabled()
        torch.backends.mha.set_fastpath_enabled(self.fused and self.fused_before)
        self.flags = [(module, module.training) for model in self.models for module in model.modules()]
        for model in self.models:
            switch(model, False)

    def __exit__(self, *exception: object) -> None:
        torch.backends.mha.set_fastpath_enabled(self.fused_before)
        for module, training in self.flags:  # one by one: parts may have been frozen in eval mode
            module.training = training
