"""Pooling and reductions."""

from typing import Any

from torch import Tensor

from pruning_lit.channels.tracing.arguments import named
from pruning_lit.channels.tracing.dataflow import Role
from pruning_lit.channels.tracing.kinds import Operation
from pruning_lit.channels.tracing.operations import tensors_in
from pruning_lit.channels.tracing.shadow import compact
from pruning_lit.channels.tracing.tracer import Tracer

#: Of a removed channel, zero everywhere, nothing is left in them.
ADDS_NOTHING = frozenset({"aten::sum", "aten::linalg_vector_norm"})


def pooling(tracer: Tracer, operation: Operation, args: tuple, kwargs: dict, result: Any) -> Role | None:
    """Pooling, resizing and sampling: channels stay, whatever happens within each map."""
    x, *others = tensors_in(args, kwargs)
    for other in others:
        tracer.freeze(other, "it says where to look")
    if tracer.shadow(x) is None:
        return None
    channel_dim = _channel_dim(operation, x)
    channels = tracer.channels(x, channel_dim)
    outputs = tensors_in(result)
    for output in outputs:
        tracer.set_channels(output, channels, channel_dim, tracer.is_zero_when_pruned(x))
    # A single pixel left of a larger map is a summary of it, not the map that a criterion wants to see.
    is_global = outputs[0].shape[2:].numel() == 1 and x.shape[2:].numel() > 1
    return None if is_global else Role.FORWARDS


def unpooling(tracer: Tracer, operation: Operation, args: tuple, kwargs: dict, result: Tensor) -> Role | None:
    """The inverse of pooling: every channel for itself, and so are the places that its maxima came from."""
    x, indices = args[0], args[1]
    if tracer.shadow(x) is None and tracer.shadow(indices) is None:
        return None
    channel_dim = _channel_dim(operation, x)
    channels, places = tracer.channels(x, channel_dim), tracer.channels(indices, channel_dim)
    tracer.identities.tie(channels, places)
    for one, other in ((channels, places), (places, channels)):
        tracer.freeze_identities(one[other < 0], "it meets, element by element, a tensor whose width is fixed")
    tracer.set_channels(result, channels, channel_dim, tracer.is_zero_when_pruned(x))
    return Role.FORWARDS


def _channel_dim(operation: Operation, x: Tensor) -> int:
    """1, or 0 where a single image without a batch is pooled."""
    for spatial in (1, 2, 3):
        if f"{spatial}d" in operation._schema.name:
            return x.ndim - spatial - 1
    return 1


def reduction(tracer: Tracer, operation: Operation, args: tuple, kwargs: dict, result: Any) -> Role | None:
    """A mean, sum, maximum, median … over some dimensions.

    Over space it leaves channels as they are; over a stack of maps it makes the channels meet that lie on each other;
    over channels it mixes them, unless nothing is added by one that is removed.
    """
    given = named(operation, args, kwargs)
    x, keepdim = args[0], given.get("keepdim", False)
    shadow = tracer.shadow(x)
    if shadow is None:
        if not (tracer.is_zero_when_pruned(x) and _adds_nothing(operation, given)):
            tracer.freeze(x, f"{operation._schema.name.removeprefix('aten::')} mixes its channels")
        return None
    dims = _dims(given.get("dim"), x.ndim)
    mixed = [dim for dim in dims if tracer.varies(shadow, dim)]
    beside = [dim for dim in range(x.ndim) if dim not in dims and tracer.varies(shadow, dim)]
    zeroed = tracer.is_zero_when_pruned(x) and operation._schema.name != "aten::logsumexp"
    if mixed and not beside:
        if not (zeroed and _adds_nothing(operation, given)):
            tracer.freeze(x, f"{operation._schema.name.removeprefix('aten::')} mixes channels")
        return None
    _lie_on_each_other(tracer, x, shadow, mixed)
    for dim in dims:
        shadow = shadow.narrow(dim, 0, 1)
    for dim in reversed(dims if not keepdim else []):
        shadow = shadow.squeeze(dim)
    for output in tensors_in(result):  # the places of extrema of nothing but zeros may be any
        tracer.place(output, shadow.expand(output.shape), zeroed and output.is_floating_point())
    return None


def _adds_nothing(operation: Operation, given: dict[str, Any]) -> bool:
    return operation._schema.name in ADDS_NOTHING and given.get("ord", 2) == 2


def _dims(dim: Any, ndim: int) -> list[int]:
    if dim is None or (isinstance(dim, list | tuple) and not dim):
        return list(range(ndim))
    return sorted(each % ndim for each in ([dim] if isinstance(dim, int) else dim))


def soft(tracer: Tracer, operation: Operation, args: tuple, kwargs: dict, result: Any) -> Role | None:
    """Softmax, sorting, the largest few and running sums: like a reduction that keeps its dimension."""
    x = args[0]
    shadow = tracer.shadow(x)
    if shadow is None:
        tracer.freeze(x, f"{operation._schema.name.removeprefix('aten::')} mixes its channels")
        return None
    dim = named(operation, args, kwargs)["dim"] % x.ndim
    if tracer.varies(shadow, dim):
        if not any([tracer.varies(shadow, other) for other in range(x.ndim) if other != dim]):  # noqa: C419 - all are told
            tracer.freeze(x, f"{operation._schema.name.removeprefix('aten::')} mixes channels")
            return None
        _lie_on_each_other(tracer, x, shadow, [dim])
    for output in tensors_in(result):
        few = output.shape[dim] != x.shape[dim]  # all along it is one channel by now
        tracer.place(output, shadow.narrow(dim, 0, 1).expand(output.shape) if few else shadow)
    return None


def _lie_on_each_other(tracer: Tracer, x: Tensor, shadow: Tensor, dims: list[int]) -> None:
    """Channels that meet in a stack of maps, along ``dims``, are the same; the stack keeps its height."""
    tracer.note(*(x.shape[dim] for dim in dims))
    small = compact(shadow)
    for dim in dims:
        first = small.narrow(dim, 0, 1)
        tracer.identities.tie(first.expand_as(small), small)
        if bool(((small < 0) != (first < 0)).any()):
            tracer.freeze_identities(small, "it meets a constant of fixed width")
