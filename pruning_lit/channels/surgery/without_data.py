"""Operations on tensors without data (on the ``meta`` device): the usual ones are answered here.

PyTorch takes up to a millisecond to find out the shape of a result.
"""

from typing import Any

import torch
from torch import Tensor

from pruning_lit.channels.tracing.arguments import named
from pruning_lit.channels.tracing.kinds import Operation, short_name
from pruning_lit.channels.tracing.operations import tensors_in

ACTIVATIONS = frozenset(
    {"relu", "relu6", "hardtanh", "hardswish", "hardsigmoid", "silu", "gelu", "mish", "leaky_relu", "sigmoid"}
)
ARITHMETIC = frozenset({"add", "sub", "mul"})
CONVOLUTIONS = frozenset({"conv1d", "conv2d", "conv3d"})


def run_without_data(operation: Operation, args: tuple, kwargs: dict) -> Any:
    """The result of an operation whose first argument has no data.

    Raises:
        RuntimeError: the shapes do not fit.
    """
    result = empty_result(operation, args, kwargs)
    return operation(*args, **kwargs) if result is None else result


def empty_result(operation: Operation, args: tuple, kwargs: dict) -> Tensor | None:
    """A tensor like the result of a usual operation, with nothing in it; None for PyTorch to find out, or to refuse.

    Raises:
        RuntimeError: the shapes do not fit.
    """
    name, x = short_name(operation), args[0]
    tensors = tensors_in(args, kwargs)
    if name.removesuffix("_") in ARITHMETIC and len(tensors) == 2 and (_alike(*tensors) or _spreads(*tensors)):
        return x if name.endswith("_") else _like(x)
    if len(tensors) == 1:
        if name in ACTIVATIONS:
            return _like(x)
        if name == "adaptive_avg_pool2d" and len(args) == 2 and x.ndim == 4 and x.is_contiguous() and x.numel():
            return _empty(x, (*x.shape[:2], *(_each(args[1], 2) or ())))
        if name == "mean" and x.is_contiguous() and x.is_floating_point():
            return _averaged(x, **named(operation, args, kwargs))
        return x if name.removesuffix("_") in ACTIVATIONS else None
    if name in ("grid_sampler_2d", "grid_sampler_3d") and len(args[1]) == len(x) and args[1].is_meta:
        return _empty(x, (*x.shape[:2], *args[1].shape[1:-1]))
    if name == "batch_norm":
        for vector in tensors_in(args[1:5]):
            if vector.shape[0] != x.shape[1]:
                raise RuntimeError(f"a batch norm of {len(vector)} channels gets {x.shape[1]}")
        return _like(x)
    shape = _convolved(operation, args, kwargs) if name in CONVOLUTIONS else None
    if name == "linear" and _multiplies(*tensors):
        shape = (*x.shape[:-1], len(tensors[1]))
    return None if shape is None else _empty(x, shape)


def _alike(one: Tensor, other: Tensor) -> bool:
    """True for two tensors of real numbers of which each element has its counterpart, in memory, too."""
    described = [(each.is_meta, each.dtype, each.shape, each.stride()) for each in (one, other)]
    return described[0] == described[1] and one.is_floating_point()


def _empty(x: Tensor, shape: tuple[int, ...]) -> Tensor:
    """An empty tensor of the kind of another; ``new_empty`` takes longer without data."""
    return torch.empty(shape, dtype=x.dtype, device=x.device)


def _like(x: Tensor) -> Tensor:
    """An empty tensor in the layout of another; as PyTorch makes it, which takes longer without data."""
    return _empty(x, tuple(x.shape)) if x.is_contiguous() else torch.empty_like(x)


def _spreads(one: Tensor, other: Tensor) -> bool:
    """True for two tensors of real numbers of which the second has length 1 where it is not as long as the first."""
    described = [(each.is_meta, each.dtype, each.ndim, each.is_contiguous()) for each in (one, other)]
    fits = all(short in (long, 1) for long, short in zip(one.shape, other.shape, strict=False))
    return described[0] == described[1] and described[0][-1] and fits and one.is_floating_point()


def _multiplies(x: Tensor, weight: Tensor, *bias: Tensor) -> bool:
    """True where a linear layer fits what it gets."""
    fits = x.ndim > 0 and weight.ndim == 2 and x.shape[-1] == weight.shape[1] and x.dtype == weight.dtype
    return fits and all(each.shape == weight.shape[:1] for each in bias)


def _averaged(x: Tensor, dim: Any = None, keepdim: bool = False, dtype: Any = None, **_given: Any) -> Tensor | None:
    """Mean over some dimensions, given by numbers from the front or the back; None for PyTorch to find out."""
    if not isinstance(dim, list | tuple) or not dim or dtype is not None:
        return None
    gone = {d % x.ndim for d in dim if -x.ndim <= d < x.ndim}
    if len(gone) != len(dim):
        return None
    return _empty(x, tuple(1 if d in gone else n for d, n in enumerate(x.shape) if keepdim or d not in gone))


def _convolved(operation: Operation, args: tuple, kwargs: dict) -> tuple[int, ...] | None:
    """Shape of the result of an ordinary convolution; None for PyTorch to find out, or to refuse."""
    given = named(operation, args, kwargs)
    x, weight, groups = given["input"], given["weight"], given["groups"]
    paddings, dilations, strides = (_each(given[key], weight.ndim - 2) for key in ("padding", "dilation", "stride"))
    fits = x.ndim == weight.ndim and x.shape[1] == weight.shape[1] * groups and weight.shape[0] % groups == 0
    if not fits or paddings is None or dilations is None or strides is None or x.dtype != weight.dtype:
        return None
    sides = zip(x.shape[2:], weight.shape[2:], paddings, dilations, strides, strict=True)
    lengths = [
        (length + 2 * padding - dilation * (k - 1) - 1) // stride + 1 for length, k, padding, dilation, stride in sides
    ]
    return (x.shape[0], weight.shape[0], *lengths) if min(lengths) > 0 else None


def _each(numbers: Any, spatial: int) -> list[int] | None:
    """A number for each dimension of space; None for padding that is given by a word."""
    if isinstance(numbers, int):
        return [numbers] * spatial
    if not isinstance(numbers, list | tuple):
        return None
    return list(numbers) * (spatial if len(numbers) == 1 else 1)
