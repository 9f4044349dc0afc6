"""Layers: they read the channels of their input, and make new ones."""

from typing import Any

import torch
from torch import Tensor

from pruning_lit.channels.flow import Role
from pruning_lit.channels.rules.arguments import named
from pruning_lit.channels.shadow import outline
from pruning_lit.channels.stored import View, layer_of
from pruning_lit.channels.tracer import Operation, Tracer

COMPUTED = "it is read by a weight that is computed, not stored"


def convolution(tracer: Tracer, operation: Operation, args: tuple, kwargs: dict, result: Tensor) -> Role | None:
    """Reads the channels of its input, makes new ones; with groups, a whole convolution group goes or stays."""
    given = named(operation, args, kwargs)
    x, weight, bias, groups = given["input"], given["weight"], given["bias"], given["groups"]
    transposed = "transpose" in operation._schema.name
    spatial = (x if transposed else result).shape[-(weight.ndim - 2) :].numel()
    if tracer.stored.view(weight) is None:
        return _computed(tracer, x, weight, bias)
    if tracer.decide(groups > 1):
        return _grouped(tracer, x, weight, bias, result, groups, transposed, spatial)
    out_dim, in_dim = (1, 0) if transposed else (0, 1)
    return _layer(tracer, x, weight, bias, result, out_dim, in_dim, 1 if x.ndim == weight.ndim else 0, spatial)


def linear(tracer: Tracer, operation: Operation, args: tuple, kwargs: dict, result: Tensor) -> Role | None:
    """Reads the channels along the last dimension of its input, makes new ones there."""
    given = named(operation, args, kwargs)
    x = given["input"]
    positions = result.numel() // max(1, result.shape[-1]) // max(1, x.shape[0] if x.ndim > 1 else 1)
    return _layer(tracer, x, given["weight"], given["bias"], result, 0, 1, x.ndim - 1, positions)


def product(tracer: Tracer, operation: Operation, args: tuple, kwargs: dict, result: Tensor) -> Role | None:
    """A matrix product: a layer where one factor is stored, else a sum over channels that must be zero when removed."""
    one, other = args[0], args[1]
    left, right = tracer.stored.view(one), tracer.stored.view(other)
    if right is not None and tracer.name_of(one) is None:
        if one.ndim == 2:
            return _layer(tracer, one, other, None, result, 1, 0, 1, one.shape[0])
        if other.shape[0] == 1:
            return _layer(tracer, one, other, None, result, 2, 1, 2, one.shape[1])
    elif left is not None and tracer.name_of(other) is None:
        if one.ndim == 2:
            return _layer(tracer, other, one, None, result, 0, 1, 0, other.shape[1])
        if one.shape[0] == 1:
            return _layer(tracer, other, one, None, result, 1, 2, 1, other.shape[2])
    return _contraction(tracer, one, other, result)


def sum_and_product(tracer: Tracer, operation: Operation, args: tuple, kwargs: dict, result: Tensor) -> Role | None:
    """``addmm`` and ``baddbmm``: what is added may be a bias, and nothing else."""
    added = args[0]
    if tracer.name_of(added) is not None and added.ndim == 1 and not kwargs and len(args) == 3:
        role = product(tracer, operation, args[1:], {}, result)
        shadow = tracer.shadow(result)
        if shadow is not None:
            tie_parameter(tracer, added, tracer.channels(result, result.ndim - 1))
        return role
    tracer.freeze(added, "it is added to a matrix product")
    role = product(tracer, operation, args[1:], {}, result)
    tracer.silent.pop(result, None)
    return role


def einsum(tracer: Tracer, operation: Operation, args: tuple, kwargs: dict, result: Tensor) -> Role | None:
    """Einstein sums of two tensors: as a matrix product, with the dimensions named by letters."""
    equation, operands = args[0].replace(" ", ""), list(args[1])
    inputs, arrow, output = equation.partition("->")
    letters = inputs.split(",")
    if not arrow or "." in equation or len(operands) != 2 or any(len(set(each)) != len(each) for each in letters):
        for tensor in operands:
            tracer.freeze(tensor, "an einsum of this kind may mix channels")
        return None
    for number, weight in enumerate(operands):
        view = tracer.stored.view(weight)
        shared = [letter for letter in letters[0] if letter in letters[1] and letter not in output]
        made = [letter for letter in letters[number] if letter in output and letter not in letters[1 - number]]
        if view is not None and len(shared) == len(made) == 1 and len(letters[number]) == 2:
            x, x_letters = operands[1 - number], letters[1 - number]
            out_dim, in_dim = letters[number].index(made[0]), letters[number].index(shared[0])
            positions = result.numel() // max(1, result.shape[output.index(made[0])]) // max(1, result.shape[0])
            given = tracer.channels(x, x_letters.index(shared[0]))
            return _make(tracer, view, given, None, result, out_dim, in_dim, output.index(made[0]), positions)
    return _einsum_of_activations(tracer, operands, letters, output, result)


def _einsum_of_activations(
    tracer: Tracer, operands: list[Tensor], letters: list[str], output: str, result: Tensor
) -> Role | None:
    shadows = [tracer.shadow(tensor) for tensor in operands]
    summed = [
        [
            letter
            for dim, letter in enumerate(each)
            if shadow is not None and tracer.varies(shadow, dim) and letter not in output
        ]
        for each, shadow in zip(letters, shadows, strict=True)
    ]
    if any(summed):
        letter = (summed[0] or summed[1])[0]
        if letter in letters[0] and letter in letters[1]:
            _sum_of_products(tracer, operands, (letters[0].index(letter), letters[1].index(letter)))
        else:
            for tensor in operands:
                tracer.freeze(tensor, "an einsum sums over it")
        return None
    if all(shadow is not None for shadow in shadows):
        for tensor in operands:
            tracer.freeze(tensor, "two sets of channels meet in an einsum")
        return None
    for tensor, shadow, each in zip(operands, shadows, letters, strict=True):
        if shadow is not None:
            for dim, letter in reversed(list(enumerate(each))):
                shadow = shadow if letter in output else shadow.select(dim, 0)
            kept = [letter for letter in each if letter in output]
            shadow = shadow.permute([kept.index(letter) for letter in output if letter in kept])
            for dim, letter in enumerate(output):
                shadow = shadow if letter in kept else shadow.unsqueeze(dim)
            tracer.place(result, shadow.expand(result.shape), tracer.is_silent(tensor))
    return None


def _layer(
    tracer: Tracer,
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    result: Tensor,
    out_dim: int,
    in_dim: int,
    channel_dim: int,
    positions: int,
) -> Role | None:
    view = tracer.stored.view(weight)
    if view is None:
        return _computed(tracer, x, weight, bias)
    return _make(tracer, view, tracer.channels(x, channel_dim), bias, result, out_dim, in_dim, channel_dim, positions)


def _make(
    tracer: Tracer,
    view: View,
    given: Tensor,
    bias: Tensor | None,
    result: Tensor,
    out_dim: int,
    in_dim: int,
    channel_dim: int,
    positions: int,
) -> Role | None:
    rows, columns = axis(tracer, view, out_dim), axis(tracer, view, in_dim)
    layer = layer_of(view.name)
    _read(tracer, layer, given, columns)
    tracer.readers[view.name, _dim(view, in_dim)] = tracer.writers[view.name, _dim(view, out_dim)] = layer
    if bias is not None:
        tie_parameter(tracer, bias, rows)
    tracer.set_channels(result, rows, channel_dim, silent=True)
    tracer.called(view.name, positions)
    return Role.MAKES


def _computed(tracer: Tracer, x: Tensor, weight: Tensor, bias: Tensor | None) -> Role | None:
    tracer.freeze(x, COMPUTED)
    tracer.freeze(weight, COMPUTED)
    if bias is not None:
        tracer.freeze(bias, COMPUTED)
    return None


def axis(tracer: Tracer, view: View, dim: int) -> Tensor:
    """The identities along a dimension of a stored weight, shape ``(length,)``."""
    stored = _dim(view, dim)
    return tracer.identities.of(view.name, stored, view.shape[stored])


def _dim(view: View, dim: int) -> int:
    stored = view.dim(dim)
    assert stored is not None
    return stored


def _read(tracer: Tracer, layer: str, given: Tensor, columns: Tensor) -> None:
    if (given < 0).all():
        tracer.entries.append(layer)
    tracer.identities.tie(given, columns)
    tracer.identities.freeze(columns[given < 0], f"{layer!r} reads the model's input or a constant there")


def _grouped(
    tracer: Tracer,
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    result: Tensor,
    groups: int,
    transposed: bool,
    spatial: int,
) -> Role | None:
    """A convolution with groups: the inputs and outputs of each group leave together, and with them the group."""
    view = tracer.stored.view(weight)
    assert view is not None
    stored, layer = axis(tracer, view, 0), layer_of(view.name)
    given = tracer.channels(x)
    made = stored if not transposed else tracer.identities.fresh(result.shape[1])
    for part_in, part_stored, part_made in zip(
        given.chunk(groups), stored.chunk(groups), made.chunk(groups), strict=True
    ):
        members = torch.cat([part_in[part_in >= 0], part_stored, part_made])
        tracer.identities.tie(members[:-1], members[1:])
    if (given < 0).any():
        tracer.freeze_identities(stored, f"{layer!r} reads the model's input or a constant there")
    slot = view.name, _dim(view, 0)
    tracer.writers[slot] = tracer.readers[slot] = layer
    if bias is not None:
        tie_parameter(tracer, bias, made)
    tracer.set_channels(result, made, silent=True)
    tracer.called(view.name, spatial)
    return Role.MAKES


def tie_parameter(tracer: Tracer, parameter: Tensor, identities: Tensor) -> None:
    """A bias, a scale or a statistic belongs to these channels, shape ``(length,)``."""
    name = tracer.name_of(parameter)
    if name is None:
        tracer.freeze_identities(identities, "a bias or scale is computed, not stored")
        return
    tracer.identities.tie(tracer.identities.of(name, 0, len(parameter)), identities)


def recurrent(tracer: Tracer, operation: Operation, args: tuple, kwargs: dict, result: Any) -> Role | None:
    """LSTM, GRU and simple recurrent layers read the last dimension of their input; their states keep their width."""
    given = named(operation, args, kwargs)
    if "input" not in given or "params" not in given or given["input"].ndim != 3:
        for tensor in (given.get("data"), given.get("input")):
            if tensor is not None:
                tracer.freeze(tensor, f"{operation._schema.name.removeprefix('aten::')} reads it packed")
        return None
    channels = tracer.channels(given["input"], 2)
    per_direction = 4 if given["has_biases"] else 2
    directions = 2 if given["bidirectional"] else 1
    for direction in range(directions):
        name = tracer.name_of(given["params"][direction * per_direction])
        if name is None:
            tracer.freeze(given["input"], COMPUTED)
            continue
        columns = tracer.identities.of(name, 1, given["input"].shape[2])
        _read(tracer, layer_of(name), channels, columns)
        tracer.readers[name, 1] = name.rpartition(".")[0] or name
    return None


def weight_norm(tracer: Tracer, operation: Operation, args: tuple, kwargs: dict, result: Any) -> Role | None:
    """A weight-normalised kernel: its rows may leave, its columns are a part of the norm of each row."""
    direction, length = args[0], args[1]
    weight = result[0] if isinstance(result, tuple | list) else result
    view = tracer.stored.view(direction)
    if view is None or (args[2] if len(args) > 2 else 0) != 0 or tracer.name_of(length) is None:
        for tensor in (direction, length):
            tracer.freeze(tensor, COMPUTED)
        return None
    rows = tracer.identities.of(view.name, 0, view.shape[0])
    tie_parameter(tracer, length, rows)
    columns = tracer.identities.of(view.name, 1, view.shape[1])
    if view.shape[1] > 1:
        tracer.freeze_identities(columns, "the norm of a weight-normalised kernel runs over its inputs")
    tracer.stored.stands_for(weight, direction)
    return None


def attention(tracer: Tracer, operation: Operation, args: tuple, kwargs: dict, result: Tensor) -> Role | None:
    """Scaled dot products: the channels of queries and keys set the scale, those of the values go through."""
    given = named(operation, args, kwargs)
    query, key, value = given["query"], given["key"], given["value"]
    for tensor in (query, key):
        tracer.freeze(tensor, "attention scales by the number of channels")
    if given.get("attn_mask") is not None:
        tracer.freeze(given["attn_mask"], "it is an attention mask")
    shadow = tracer.shadow(value)
    if shadow is None:
        return None
    if tracer.varies(shadow, -2) or (query.shape[:-2] != value.shape[:-2]):
        tracer.freeze(value, "attention mixes its tokens")
        return None
    tracer.place(result, shadow.narrow(-2, 0, 1).expand(result.shape), tracer.is_silent(value))
    return None


def _contraction(tracer: Tracer, one: Tensor, other: Tensor, result: Tensor) -> Role | None:
    """``(…, n, k)`` by ``(…, k, m)`` to ``(…, n, m)`` without a stored factor."""
    left, right = tracer.shadow(one), tracer.shadow(other)
    contracted = [shadow is not None and tracer.varies(shadow, dim) for shadow, dim in ((left, -1), (right, -2))]
    if any(contracted):
        _sum_of_products(tracer, [one, other], (-1, -2))
        return None
    if left is not None and right is not None:
        for tensor in (one, other):
            tracer.freeze(tensor, "two sets of channels meet in a matrix product")
        return None
    if left is not None:
        tracer.place(result, left.narrow(-1, 0, 1).expand(result.shape), tracer.is_silent(one))
    if right is not None:
        tracer.place(result, right.narrow(-2, 0, 1).expand(result.shape), tracer.is_silent(other))
    return None


def _sum_of_products(tracer: Tracer, operands: list[Tensor], dims: tuple[int, int]) -> None:
    """Exact without the removed channels if each product with one of them is zero."""
    shadows = [tracer.shadow(tensor) for tensor in operands]
    first, second = (
        None if shadow is None else outline(shadow).along(dim) for shadow, dim in zip(shadows, dims, strict=True)
    )
    if first is None or second is None or bool(((first < 0) | (second < 0)).any()):
        reason = "a product sums over it against numbers of fixed width"
    elif not any(tracer.is_silent(tensor) for tensor in operands):
        reason = "a product sums over it, and it is not zero once it is removed"
    else:
        tracer.identities.tie(first, second)
        return
    for tensor in operands:
        tracer.freeze(tensor, reason)
