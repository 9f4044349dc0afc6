"""Gathering and scattering: elements are picked by a list of positions, or written where it says."""

import torch
from torch import Tensor

from pruning_lit.channels.tracing.arguments import named
from pruning_lit.channels.tracing.dataflow import Role
from pruning_lit.channels.tracing.kinds import MASKS, Operation
from pruning_lit.channels.tracing.operations import tensors_in
from pruning_lit.channels.tracing.rules.elementwise import differs_where, is_all_of_its_memory, meet
from pruning_lit.channels.tracing.shadow import spread
from pruning_lit.channels.tracing.tracer import Tracer

FIXED_LIST = "channels are picked from it by a list of numbers"


def listed(tracer: Tracer, operation: Operation, args: tuple, kwargs: dict, result: Tensor) -> Role | None:
    """``index_select`` and ``x[rows, columns]``: a list over channels is a constant, so all of them stay.

    Where the lists are over other dimensions the channels stay as they are: those of neighbouring points, say.
    """
    x = args[0]
    for tensor in tensors_in(args[1:], kwargs):
        tracer.freeze(tensor, "it is a list of positions")
    if operation._schema.name == "aten::index_select":
        picked, length, first = [args[1] % x.ndim], 1, args[1] % x.ndim
    else:
        picked, length, first = _places(args[1])
    tracer.stored.picked(x, result, picked, lambda positions: _without(positions, picked, length, first, result))
    shadow = tracer.shadow(x)
    if shadow is None:
        return None
    if any([tracer.varies(shadow, dim) for dim in picked]):  # noqa: C419 - all are told
        tracer.freeze(x, FIXED_LIST)
        return None
    tracer.place(result, _without(shadow, picked, length, first, result), tracer.is_zero_when_pruned(x))
    return None


def _places(index: list[Tensor | None]) -> tuple[list[int], int, int]:
    """The dimensions that lists are over, how many dimensions come in their place, and the first of these."""
    picked: list[int] = []
    dim, lengths = 0, [0]
    for each in index:
        width = each.ndim if each is not None and each.dtype in MASKS else 1  # a mask is over all its dimensions
        if each is not None:
            picked += range(dim, dim + width)
            lengths.append(1 if each.dtype in MASKS else each.ndim)
        dim += width
    adjacent = picked == list(range(picked[0], picked[-1] + 1))
    return picked, max(lengths), picked[0] if adjacent else 0


def _without(shadow: Tensor, picked: list[int], length: int, first: int, result: Tensor) -> Tensor:
    """A shadow that is constant along ``picked``, with ``length`` dimensions from ``first`` on in their place."""
    for dim in reversed(picked):
        shadow = shadow.select(dim, 0)
    for _ in range(length):
        shadow = shadow.unsqueeze(first)
    return shadow.expand(result.shape)


def embedded(tracer: Tracer, operation: Operation, args: tuple, kwargs: dict, result: Tensor) -> Role | None:
    """Rows of a stored matrix, of an embedding or a codebook: its columns are the channels."""
    weight, index = args[0], args[1]
    tracer.freeze(index, "it is a list of positions")
    view = tracer.stored.view(weight)
    if view is None or (stored := view.dim(1)) is None:
        tracer.freeze(weight, "rows are picked from it")
        return None
    columns = tracer.identities.of(view.name, stored, view.shape[stored])
    tracer.place(result, spread(columns, result.ndim - 1, result.shape), zeroed=True)
    return None


def gathered(tracer: Tracer, operation: Operation, args: tuple, kwargs: dict, result: Tensor) -> Role | None:
    """``gather``: each element of the result is another one along ``dim``, in its own channel."""
    given = named(operation, args, kwargs)
    x, dim = given["self"], given["dim"]
    index = given["index"] if "index" in given else given["indices"]
    if dim is None:
        tracer.freeze(x, "elements are picked from it")
        return None
    merged = _in_own_channel(tracer, [x, index], dim % max(1, x.ndim), result.shape)
    if merged is not None:
        tracer.place(result, merged, tracer.is_zero_when_pruned(x))
    return None


def scattered(tracer: Tracer, operation: Operation, args: tuple, kwargs: dict, result: Tensor) -> Role | None:
    """``scatter``, ``index_add`` and their like: each element goes elsewhere along ``dim``, in its own channel."""
    given = named(operation, args, kwargs)
    target, index, source = given["self"], given["index"], given.get("src", given.get("source"))
    written = [tensor for tensor in (source,) if isinstance(tensor, Tensor)]
    if index.ndim == target.ndim:
        written.append(index)
    else:
        tracer.freeze(index, "it is a list of positions")
    zeroed = all(tracer.is_zero_when_pruned(tensor) for tensor in (target, *written[:1]))
    fresh = is_all_of_its_memory(tracer, target)
    if tracer.shadow(target) is None and (not fresh or tracer.stored.view(target) is not None):
        for tensor in written:
            tracer.freeze(tensor, "it is written into a part of another tensor")
        return None
    operands = written if tracer.shadow(target) is None else [target, *written]
    merged = _in_own_channel(tracer, operands, given["dim"] % max(1, target.ndim), target.shape)
    tracer.shadows.discard(result)
    if merged is not None:
        tracer.place(result, merged, zeroed)
    return None


def _in_own_channel(tracer: Tracer, operands: list[Tensor], dim: int, shape: torch.Size) -> Tensor | None:
    """The channels of tensors that meet but along ``dim``, spread over ``shape``; None where there are none, or frozen.

    Along all other dimensions with channels they must be as long as ``shape``.
    """
    shadows = {i: shadow for i, tensor in enumerate(operands) if (shadow := tracer.shadow(tensor)) is not None}
    channels = {each for shadow in shadows.values() for each in range(shadow.ndim) if tracer.varies(shadow, each)}
    whole = all(tensor.shape[each] in (shape[each], 1) for tensor in operands for each in channels if each != dim)
    if dim in channels or not whole:
        for tensor in operands:
            tracer.freeze(tensor, FIXED_LIST if dim in channels else "a part of its channels is picked")
        return None
    rows = {i: shadow.narrow(dim, 0, 1).expand(shape) for i, shadow in shadows.items()}
    merged: Tensor | None = None
    for row in rows.values():
        merged = row if merged is None else meet(tracer, merged, row)
    for row in rows.values():
        for i, other in enumerate(operands):
            if i not in rows and differs_where(tracer, row, other):
                tracer.freeze_identities(row, "it meets, element by element, a tensor whose width is fixed")
    return merged
