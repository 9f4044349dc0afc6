"""Shape operations: what is done to the activation is done to its shadow."""

from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_map

from pruning_lit.channels.tracing.arguments import named
from pruning_lit.channels.tracing.dataflow import Role
from pruning_lit.channels.tracing.kinds import Operation
from pruning_lit.channels.tracing.operations import tensors_in
from pruning_lit.channels.tracing.shadow import NONE, outline
from pruning_lit.channels.tracing.tracer import Tracer


def movement(tracer: Tracer, operation: Operation, args: tuple, kwargs: dict, result: Any) -> Role | None:
    """No rule of its own is needed: the same operation is performed on the shadow."""
    given = tensors_in(args, kwargs)
    if len(given) == 1:
        outputs = tensors_in(result)
        if len(outputs) == 1:  # [...]: an operation in place must not change the positions of others
            tracer.stored.moved(given[0], outputs[0], lambda positions: operation(positions[...], *args[1:], **kwargs))
    if not any(tracer.shadow(tensor) is not None for tensor in given):
        return None
    moved = operation(*_shadowed(tracer, args), **_shadowed(tracer, kwargs))
    zeroed = all(tracer.is_zero_when_pruned(tensor) for tensor in given if tracer.shadow(tensor) is not None)
    for output, shadow in zip(tensors_in(result), tensors_in(moved), strict=True):
        tracer.place(output, shadow, zeroed)
    return None


def _shadowed(tracer: Tracer, tree: Any) -> Any:
    def swap(leaf: Any) -> Any:
        if not isinstance(leaf, Tensor):
            return leaf
        shadow = tracer.shadow(leaf)
        return torch.full((), NONE).expand(leaf.shape) if shadow is None else shadow[...]

    return tree_map(swap, tree)


def splitting(tracer: Tracer, operation: Operation, args: tuple, kwargs: dict, result: Any) -> Role | None:
    """Slices and splits: like any movement, but the positions may be numbers in the code."""
    x = args[0]
    shadow = tracer.shadow(x)
    if shadow is not None:
        given = named(operation, args, kwargs)
        dim = (given.get("dim") or 0) % x.ndim
        if tracer.varies(shadow, dim) and (run := tracer.outline(shadow).along(dim)) is not None:
            _note_split(tracer, operation, given, run)
    return movement(tracer, operation, args, kwargs, result)


def _note_split(tracer: Tracer, operation: Operation, given: dict[str, Any], run: Tensor) -> None:
    name, length = operation._schema.name.rpartition("::")[2], len(run)
    if name == "slice":
        start, stop, step = slice(given["start"], given["end"], given["step"]).indices(length)
        if step > 1 and length % step == 0:
            tracer.reshape(run, (length // step, step), operation)
        elif step > 1:
            tracer.freeze_identities(run, "every so-many-th of its channels is taken")
        elif (start, stop) != (0, length):
            tracer.chunk(run, {start, stop}, operation)
    elif name == "narrow":
        tracer.chunk(run, {given["start"], given["start"] + given["length"]}, operation)
    elif name == "select":
        index = given["index"] % length
        tracer.chunk(run, {index, index + 1}, operation)
    elif name == "unbind":
        tracer.chunk(run, set(range(length)), operation)
    else:
        sizes: Any = given.get("split_sizes", given.get("split_size"))
        if isinstance(sizes, int):
            tracer.chunk(run, set(range(0, length, sizes)), operation)
        else:
            tracer.chunk(run, {sum(sizes[:end]) for end in range(len(sizes))}, operation)


def reshape(tracer: Tracer, operation: Operation, args: tuple, kwargs: dict, result: Tensor) -> Role | None:
    """A view of the activation can be a copy of its shadow, whose strides differ."""
    shadow = tracer.shadow(args[0])
    if shadow is not None:
        before, moved = tracer.outline(shadow), shadow.reshape(result.shape)
        tracer.place(result, moved, tracer.is_zero_when_pruned(args[0]))
        after = outline(moved)
        if len(before.dims) == 1 and len(after.dims) > 1 and after.identities.numel() == before.identities.numel():
            tracer.reshape(before.identities, tuple(after.identities.shape), operation)
    tracer.stored.moved(args[0], result, lambda positions: positions.reshape(result.shape))
    return None


def padding(tracer: Tracer, operation: Operation, args: tuple, kwargs: dict, result: Tensor) -> Role | None:
    """Padded positions belong to no channel; padding in space leaves the channels as they are."""
    circular = operation._schema.name == "aten::_pad_circular"  # the other ways to pad work in space alone
    shadow = tracer.shadow(args[0])
    if shadow is None:
        return None
    pads = args[1]
    value = named(operation, args, kwargs).get("value", 0)
    zeroed = tracer.is_zero_when_pruned(args[0]) and not value
    padded = [shadow.ndim - 1 - i // 2 for i in range(0, len(pads), 2) if pads[i] or pads[i + 1]]
    if any(tracer.varies(shadow, dim) for dim in padded):
        if circular:
            tracer.freeze(args[0], "channels of one end are repeated at the other")
            return None
        tracer.place(result, torch.nn.functional.pad(shadow, pads, value=NONE), zeroed)
        return None
    for dim in padded:
        shadow = shadow.narrow(dim, 0, 1)
    tracer.place(result, shadow.expand(result.shape), zeroed)
    return None


def shuffle(tracer: Tracer, operation: Operation, args: tuple, kwargs: dict, result: Tensor) -> Role | None:
    """``channel_shuffle``: equally many must leave from each of its groups."""
    if tracer.shadow(args[0]) is not None:
        run = tracer.channels(args[0])
        groups = args[1]
        tracer.identities.tie(*_across(run.view(groups, -1)))
        tracer.set_channels(result, run.view(groups, -1).t().reshape(-1), zeroed=tracer.is_zero_when_pruned(args[0]))
    return None


def pixel_shuffle(tracer: Tracer, operation: Operation, args: tuple, kwargs: dict, result: Tensor) -> Role | None:
    """R x r channels become the pixels of one: they leave together."""
    if tracer.shadow(args[0]) is not None:
        run = tracer.channels(args[0], -3).view(result.shape[-3], -1)
        tracer.identities.tie(*_across(run.t()))
        tracer.set_channels(result, run[:, 0], -3, zeroed=tracer.is_zero_when_pruned(args[0]))
    return None


def pixel_unshuffle(tracer: Tracer, operation: Operation, args: tuple, kwargs: dict, result: Tensor) -> Role | None:
    """The pixels of one channel become r x r channels."""
    if tracer.shadow(args[0]) is not None:
        run = tracer.channels(args[0], -3)
        tracer.set_channels(result, run.repeat_interleave(args[1] ** 2), -3, zeroed=tracer.is_zero_when_pruned(args[0]))
    return None


def im2col(tracer: Tracer, operation: Operation, args: tuple, kwargs: dict, result: Tensor) -> Role | None:
    """``unfold``: every channel has as many rows as the window has pixels."""
    if tracer.shadow(args[0]) is not None:
        run = tracer.channels(args[0], -3)
        tracer.set_channels(
            result, run.repeat_interleave(result.shape[-2] // len(run)), -2, tracer.is_zero_when_pruned(args[0])
        )
    return None


def col2im(tracer: Tracer, operation: Operation, args: tuple, kwargs: dict, result: Tensor) -> Role | None:
    """``fold``: the rows of one channel leave together."""
    if tracer.shadow(args[0]) is not None:
        run = tracer.channels(args[0], -2).view(result.shape[-3], -1)
        tracer.identities.tie(*_across(run.t()))
        tracer.set_channels(result, run[:, 0], -3, zeroed=tracer.is_zero_when_pruned(args[0]))
    return None


def _across(grid: Tensor) -> tuple[Tensor, Tensor]:
    """Each row beside the first."""
    return grid[:1].expand_as(grid[1:]), grid[1:]
