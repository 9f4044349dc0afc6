"""Element-wise operations: channels that meet are the same channel."""

from typing import Any

import torch
from torch import Tensor

from pruning_lit.channels.tracing.arguments import named
from pruning_lit.channels.tracing.dataflow import Role
from pruning_lit.channels.tracing.kinds import Operation, short_name
from pruning_lit.channels.tracing.operations import tensors_in
from pruning_lit.channels.tracing.shadow import compact, spread
from pruning_lit.channels.tracing.tracer import Tracer

ZERO_TO_ZERO = (
    "relu leaky_relu elu celu selu gelu silu mish hardswish tanh sin asin tan atan sinh abs neg sign sgn sqrt "
    "square expm1 log1p erf trunc floor ceil round softsign hardshrink softshrink _prelu_kernel clone "
    "relu6"
)
KEEPS_ZERO = frozenset(ZERO_TO_ZERO.split())  # whatever else is among the arguments
TIMES = frozenset({"mul", "multiply"})
DIVIDES = frozenset({"div", "divide", "true_divide"})
PLUS = frozenset({"add", "sub"})
BY_ZERO = frozenset({"reciprocal", "rsqrt", "log", "log2", "log10"})  # of zero they are infinite


def pointwise(tracer: Tracer, operation: Operation, args: tuple, kwargs: dict, result: Tensor) -> Role | None:
    """Channels that meet element by element are the same channel."""
    operands = tensors_in(args, kwargs)
    for tensor in _divisors(operation, args):
        if tracer.is_zero_when_pruned(tensor) or tracer.stored.is_zeroed(tensor):
            tracer.freeze(tensor, "what is divided by it would be divided by zero where a channel is masked")
    shadows = _shadows(tracer, operands, result.ndim)
    zeroed = _stays_zero(tracer, operation, args, kwargs, operands, shadows)
    if not shadows:
        if zeroed:  # of weights alone
            tracer.zeroed[result] = True
        if (weight := _scaled(tracer, operation, args, operands)) is not None:
            tracer.stored.stands_for(result, weight)
        return None
    shadows = {
        i: shadow if shadow.shape == result.shape else shadow.expand(result.shape) for i, shadow in shadows.items()
    }
    merged, *rest = shadows.values()
    for shadow in rest:
        merged = meet(tracer, merged, shadow)
    for shadow in shadows.values():
        for j, other in enumerate(operands):
            if j not in shadows and differs_where(tracer, shadow, other):
                tracer.freeze_identities(shadow, "it meets, element by element, a tensor whose width is fixed")
    tracer.place(result, merged, zeroed)
    return Role.FORWARDS


def _divisors(operation: Operation, args: tuple) -> list[Tensor]:
    """Tensors by which an operation divides, or of which it takes the logarithm."""
    name = short_name(operation).removesuffix("_")
    if name in DIVIDES:
        return tensors_in(args[1:2])
    power = name == "pow" and isinstance(args[1], int | float) and args[1] < 0
    return tensors_in(args[:1]) if power or name in BY_ZERO else []


def _scaled(tracer: Tracer, operation: Operation, args: tuple, operands: list[Tensor]) -> Tensor | None:
    """The stored weight that an operation multiplies by a number, which is not made of weights; None: it does not."""
    name = short_name(operation).removesuffix("_")
    if name not in TIMES | DIVIDES:
        return None
    weights = [tensor for tensor in operands if tensor.numel() > 1 or tracer.stored.sources(tensor)]
    if len(weights) != 1 or tracer.stored.view(weights[0]) is None:
        return None
    return weights[0] if name in TIMES or weights[0] is args[0] else None


def _shadows(tracer: Tracer, operands: list[Tensor], ndim: int) -> dict[int, Tensor]:
    """The shadows of the operands that have one.

    A stored tensor with several long dimensions gets one here. A single channel that is spread over many others (a map
    of attention) stays, and does not count as one of them.
    """
    shadows = {i: shadow for i, tensor in enumerate(operands) if (shadow := tracer.shadow(tensor)) is not None}
    where = {
        dim
        for dim in range(-ndim, 0)
        if any([-dim <= shadow.ndim and tracer.varies(shadow, dim) for shadow in shadows.values()])  # noqa: C419 - all are told
    }
    for i, tensor in enumerate(operands):
        if i in shadows:
            spread_over = [dim for dim in where if -dim > tensor.ndim or tensor.shape[dim] == 1]
            if tracer.decide(bool(spread_over) and compact(shadows[i]).numel() == 1):
                tracer.freeze_identities(shadows.pop(i), "a single channel is spread over many")
        elif len(where) == 1 and (own := _own_shadow(tracer, tensor, *where)) is not None:
            shadows[i] = own
    return dict(sorted(shadows.items()))


def _own_shadow(tracer: Tracer, tensor: Tensor, dim: int) -> Tensor | None:
    """The shadow of a stored tensor that meets channels along ``dim``, counted from the end."""
    view = tracer.stored.view(tensor, whole=False)
    if view is None or -dim > tensor.ndim or (stored := view.dim(dim)) is None:
        return None
    if tracer.decide(tensor.shape[dim] == 1):
        return None
    own = tracer.identities.of(view.name, stored, tensor.shape[dim])
    return spread(own, tensor.ndim + dim, tensor.shape)


def meet(tracer: Tracer, one: Tensor, other: Tensor) -> Tensor:
    """Tie two shadows of the same shape; the result says, element by element, who is there."""
    present = _present(tracer, one, other)
    if one is other:
        return one
    small_one, small_other = torch.broadcast_tensors(compact(one), compact(other))
    tracer.identities.tie(small_one, small_other)
    alone = ((small_one < 0) != (small_other < 0)) & present
    for small in (small_one, small_other):
        tracer.freeze_identities(small[alone], "it meets a constant of fixed width")
    return torch.where(small_one >= 0, small_one, small_other).expand(one.shape)


def _present(tracer: Tracer, one: Tensor, other: Tensor) -> bool:
    """True where both shadows differ along a common dimension, so that a -1 in one of them is a position of its own."""
    both = [(tracer.varies(one, dim), tracer.varies(other, dim)) for dim in range(one.ndim)]
    return any(first and second for first, second in both)


def differs_where(tracer: Tracer, shadow: Tensor, other: Tensor) -> bool:
    """True where a tensor without channels has a length of its own along a dimension in which the shadow varies."""
    offset = shadow.ndim - other.ndim
    own = [dim for dim, length in enumerate(other.shape) if length > 1 and other.stride(dim) != 0]
    return any(tracer.varies(shadow, dim + offset) and dim in own for dim in range(other.ndim))


def _stays_zero(
    tracer: Tracer, operation: Operation, args: tuple, kwargs: dict, operands: list[Tensor], shadows: dict[int, Tensor]
) -> bool:
    """True where a removed channel, zero in the operands, is zero in the result.

    A stored tensor beside channels is zero for a removed one only where it has these channels itself.
    """
    name = short_name(operation).removesuffix("_")
    zero = [(not shadows or i in shadows) and tracer.is_zero_when_pruned(tensor) for i, tensor in enumerate(operands)]
    if name in TIMES:
        return any(zero)
    if name in KEEPS_ZERO | DIVIDES:
        return zero[0]
    if name in PLUS:
        return all(zero) and all(isinstance(argument, Tensor) for argument in args[:2])
    if name in ("hardtanh", "clamp"):
        given = named(operation, args, kwargs)
        low, high = (given.get(f"{bound}_val", given.get(bound)) for bound in ("min", "max"))
        inside = all(bound is None or isinstance(bound, int | float) for bound in (low, high))
        return zero[0] and inside and (low is None or low <= 0) and (high is None or high >= 0)
    if name == "threshold":
        given = named(operation, args, kwargs)
        return zero[0] and (given["threshold"] < 0 or given["value"] == 0)
    if name == "pow":
        return zero[0] and isinstance(args[1], int | float) and args[1] > 0
    return False


def logarithmic(tracer: Tracer, operation: Operation, args: tuple, kwargs: dict, result: Any) -> Role | None:
    """The logarithm of a sigmoid, and a buffer for its gradient, which nobody reads."""
    return pointwise(tracer, operation, args, kwargs, result[0])


def gated(tracer: Tracer, operation: Operation, args: tuple, kwargs: dict, result: Tensor) -> Role | None:
    """A gated linear unit: the first half of the channels times the sigmoid of the second."""
    given = named(operation, args, kwargs)
    x = given["self"]
    shadow = tracer.shadow(x)
    if shadow is None:
        return None
    value, gate = shadow.chunk(2, given["dim"])
    tracer.identities.tie(value, gate)
    tracer.place(result, value, tracer.is_zero_when_pruned(x))
    return Role.FORWARDS


def same(tracer: Tracer, operation: Operation, args: tuple, kwargs: dict, result: Tensor) -> Role | None:
    """A copy, or the same values in another memory layout or type."""
    shadow = tracer.shadow(args[0])
    if shadow is not None:
        tracer.place(result, shadow, tracer.is_zero_when_pruned(args[0]))
    tracer.stored.stands_for(result, args[0])
    return Role.FORWARDS


def like(tracer: Tracer, operation: Operation, args: tuple, kwargs: dict, result: Tensor) -> Role | None:
    """A constant of the shape of another tensor: its positions are that one's channels."""
    shadow = tracer.shadow(args[0])
    if shadow is not None:
        tracer.place(result, shadow, operation._schema.name == "aten::zeros_like")
    return None


def dropped(tracer: Tracer, operation: Operation, args: tuple, kwargs: dict, result: Tensor) -> Role | None:
    """Dropout: what is zero stays so, but where it is set to another number."""
    shadow = tracer.shadow(args[0])
    if shadow is not None:
        tracer.place(result, shadow, "alpha" not in operation._schema.name and tracer.is_zero_when_pruned(args[0]))
    return Role.FORWARDS


def filled(tracer: Tracer, operation: Operation, args: tuple, kwargs: dict, result: Tensor) -> Role | None:
    """A number is written over a tensor, or a part of it: its positions remain the channels'."""
    shadow = tracer.shadow(args[0])
    if shadow is not None:
        tracer.place(result, shadow, len(args) < 2 or (isinstance(args[1], int | float) and args[1] == 0))
    return Role.FORWARDS


def is_all_of_its_memory(tracer: Tracer, tensor: Tensor) -> bool:
    """True where nothing else is read from the memory of a tensor: it is no view, and not a part of another one."""
    whole = tensor.untyped_storage().nbytes() == tensor.numel() * tensor.element_size()
    return whole and tensor not in tracer.views


def written(tracer: Tracer, operation: Operation, args: tuple, kwargs: dict, result: Tensor) -> Role | None:
    """``copy_`` and ``index_put_``: what is written is there from now on, in place of what was there."""
    copied = operation._schema.name == "aten::copy_"
    target, source = args[0], args[1] if copied else args[2]
    shadow, there = tracer.shadow(source), tracer.shadow(target)
    if shadow is None:
        tracer.freeze(target, "a constant is written over it")
        return None
    whole = is_all_of_its_memory(tracer, target)
    in_rows = not copied and source.ndim == target.ndim  # else it is broadcast over them
    if (not copied and len(args[1]) > 1) or (in_rows and tracer.varies(shadow, 0)) or (there is None and not whole):
        for tensor in (source, target):
            tracer.freeze(tensor, "it is written into a part of another tensor")
        return None
    channels = (shadow.narrow(0, 0, 1) if in_rows else shadow).expand(target.shape)
    tracer.place(target, channels if there is None else meet(tracer, there, channels))
    return None
