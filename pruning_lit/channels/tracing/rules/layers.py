"""Layers: they read the channels of their input, and make new ones."""

import math
from fractions import Fraction
from typing import Any, NamedTuple

from torch import Tensor

from pruning_lit.channels.tracing.arguments import named
from pruning_lit.channels.tracing.dataflow import Role
from pruning_lit.channels.tracing.kinds import Operation
from pruning_lit.channels.tracing.tracer import Tracer
from pruning_lit.channels.tracing.views import View, layer_of

COMPUTED = "it is read by a weight that is computed, not stored"


def convolution(tracer: Tracer, operation: Operation, args: tuple, kwargs: dict, result: Tensor) -> Role | None:
    """Reads the channels of its input, makes new ones; with groups, a whole convolution group goes or stays."""
    given = named(operation, args, kwargs)
    x, weight, bias, groups = given["input"], given["weight"], given["bias"], given["groups"]
    transposed = "transpose" in operation._schema.name
    places, made = (tensor.shape[-(weight.ndim - 2) :].numel() for tensor in (x, result))
    spatial, strided = (places if transposed else made), made < places
    rows = len(x) if x.ndim == weight.ndim else None
    where = Places(spatial, rows, strided)
    view = tracer.stored.view(weight)
    if view is None:
        return _computed(tracer, x, weight, bias, where)
    if tracer.shadow(x) is not None and tracer.decide(_is_shared(view, weight, groups)):
        return _each_by_itself(tracer, x, bias, result)
    if tracer.decide(groups > 1):
        return _grouped(tracer, x, weight, bias, result, groups, transposed, where)
    channel = 1 if x.ndim == weight.ndim else 0
    dims = Dims(1, 0, channel) if transposed else Dims(0, 1, channel)
    return layer(tracer, x, weight, bias, result, dims, where)


def deformable_convolution(
    tracer: Tracer, operation: Operation, args: tuple, kwargs: dict, result: Tensor
) -> Role | None:
    """A convolution whose taps are displaced; as many channels must leave from each part with offsets of its own."""
    given = named(operation, args, kwargs)
    x, weight, bias, groups, parts = (given[key] for key in ("input", "weight", "bias", "groups", "offset_groups"))
    for tensor in (given["offset"], given["mask"]):
        tracer.freeze(tensor, "it says where a deformable convolution looks")
    places, made = x.shape[2:].numel(), result.shape[2:].numel()
    where = Places(made, len(x), made < places)
    if tracer.stored.view(weight) is None:
        return _computed(tracer, x, weight, bias, where)
    if tracer.decide(tracer.name_of(bias) is None and not bias.is_meta and not bias.any()):
        bias = None  # of a layer without one it is made anew, of zeros
    if parts > 1:
        members = tracer.channels(x).view(parts, -1)
        tracer.identities.tie(members[:1].expand_as(members[1:]), members[1:])
    if tracer.decide(groups > 1):
        return _grouped(tracer, x, weight, bias, result, groups, False, where)
    return layer(tracer, x, weight, bias, result, Dims(0, 1, 1), where)


def linear(tracer: Tracer, operation: Operation, args: tuple, kwargs: dict, result: Tensor) -> Role | None:
    """Reads the channels along the last dimension of its input, makes new ones there."""
    given = named(operation, args, kwargs)
    x = given["input"]
    places = Places(result.shape[1:-1].numel(), len(x) if x.ndim > 1 else None)
    return layer(tracer, x, given["weight"], given["bias"], result, Dims(0, 1, x.ndim - 1), places)


def _is_shared(view: View, weight: Tensor, groups: int) -> bool:
    """True where one stored kernel, repeated, is applied to each channel by itself: a blur, an edge filter."""
    repeated = view.dims[0] is None and weight.shape[0] > 1
    return repeated and weight.shape[1] == 1 and weight.shape[0] == groups


def _each_by_itself(tracer: Tracer, x: Tensor, bias: Tensor | None, result: Tensor) -> Role | None:
    """Kernel that all channels share: as pooling, it reads none and makes none."""
    channels = tracer.channels(x, x.ndim - result.ndim + 1)
    if bias is not None:
        tie_parameter(tracer, bias, channels)
    tracer.set_channels(result, channels, zeroed=tracer.is_zero_when_pruned(x))
    return Role.FORWARDS


class Dims(NamedTuple):
    """Dimensions: those of a weight that make and that read channels, and that of the activations with channels."""

    out: int
    into: int
    channel: int


class Places(NamedTuple):
    """Places of a weight, see ``Tracer.called``: positions in a row, rows, and whether they are strided."""

    positions: int
    rows: int | None
    strided: bool = False


def layer(
    tracer: Tracer,
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    result: Tensor,
    dims: Dims,
    places: Places,
) -> Role | None:
    """A weight reads the channels of ``x`` and makes those of ``result``, in certain places."""
    view = tracer.stored.view(weight)
    if view is None:
        return _computed(tracer, x, weight, bias, places)
    given = tracer.channels(x, dims.channel)
    return make(tracer, view, given, bias, result, dims, places)


def make(
    tracer: Tracer,
    view: View,
    given: Tensor,
    bias: Tensor | None,
    result: Tensor,
    dims: Dims,
    places: Places,
) -> Role | None:
    """Let a stored weight read the channels ``given``, shape ``(length,)``, and make those of ``result``.

    ``dims.channel`` is the dimension of the result.
    """
    rows, columns = axis(tracer, view, dims.out), axis(tracer, view, dims.into)
    name = layer_of(view.name)
    _read(tracer, name, given, columns)
    tracer.readers[view.name, _dim(view, dims.into)] = tracer.writers[view.name, _dim(view, dims.out)] = name
    if bias is not None:
        tie_parameter(tracer, bias, rows)
    tracer.set_channels(result, rows, dims.channel, zeroed=True)
    tracer.called(view.name, *places)
    return Role.PRODUCES


def _computed(tracer: Tracer, x: Tensor, weight: Tensor, bias: Tensor | None, places: Places) -> Role | None:
    """A weight that is made of stored ones, or a part of one: what it reads stays, and it costs what it costs."""
    tracer.freeze(x, COMPUTED)
    tracer.freeze(weight, COMPUTED)
    if bias is not None:
        tracer.freeze(bias, COMPUTED)
    if sources := tracer.stored.sources(weight):
        source = max(sorted(sources), key=lambda name: math.prod(tracer.stored.shapes[name]))
        share = Fraction(weight.numel(), math.prod(tracer.stored.shapes[source]))
        if share <= 1 or weight.shape[1] > 1:  # a kernel repeated for each channel is counted as little as a stored one
            tracer.called(source, *places, share=share)
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
    tracer.identities.tie(given, columns)
    if bool((none := given < 0).any()):
        if bool(none.all()):
            tracer.entries.append(layer)
        tracer.identities.freeze(columns[none], f"{layer!r} reads the model's input or a constant there")


def _grouped(
    tracer: Tracer,
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    result: Tensor,
    groups: int,
    transposed: bool,
    places: Places,
) -> Role | None:
    """A convolution with groups: the inputs and outputs of each group leave together, and with them the group."""
    view = tracer.stored.view(weight)
    assert view is not None
    stored, name = axis(tracer, view, 0), layer_of(view.name)
    given = tracer.channels(x)
    made = stored if not transposed else tracer.identities.fresh(result.shape[1])
    for members in (given, made, stored):
        members = members.view(groups, -1)
        tracer.identities.tie(stored.view(groups, -1)[:, :1].expand_as(members), members)
    if (given < 0).any():
        tracer.freeze_identities(stored, f"{name!r} reads the model's input or a constant there")
    slot = view.name, _dim(view, 0)
    tracer.writers[slot] = tracer.readers[slot] = name
    if bias is not None:
        tie_parameter(tracer, bias, made)
    tracer.set_channels(result, made, zeroed=True)
    tracer.called(view.name, *places)
    return Role.PRODUCES


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
    directions = 2 if given["bidirectional"] else 1
    per_direction = len(given["params"]) // (directions * given["num_layers"])  # biases and projections may be there
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
