"""What each kind of operation does to the identities of channels.

A rule gets the tracer, the operation, its arguments and its result. It sets the shadow of the result, ties or freezes
identities, and may return the operation's role in the data flow. Whatever has no rule freezes the channels that go into
it.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from pruning_lit.channels.flow import Role
from pruning_lit.channels.graph import LayerCall
from pruning_lit.channels.shadow import NONE, compact, varies
from pruning_lit.channels.stream import tensors_of
from pruning_lit.channels.tracer import Tracer

Operation = torch._ops.OpOverload
Rule = Callable[[Tracer, Operation, tuple, dict, Any], Role | None]


def convolution(tracer: Tracer, operation: Operation, args: tuple, kwargs: dict, result: Tensor) -> Role | None:
    """Reads the channels of its input, makes new ones; with groups, a whole convolution group goes or stays."""
    named = _named(operation, args, kwargs)
    x, weight, groups = named["input"], named["weight"], named["groups"]
    transposed = "transpose" in operation._schema.name
    out_dim, in_dim = (1, 0) if transposed else (0, 1)
    batched = x.ndim == weight.ndim
    if groups == 1:
        spatial = (x if transposed else result).shape[-(weight.ndim - 2) :].numel()
        return _layer(tracer, x, weight, named["bias"], result, out_dim, in_dim, 1 if batched else 0, spatial)
    return _grouped(tracer, x, weight, named["bias"], result, groups, transposed)


def linear(tracer: Tracer, operation: Operation, args: tuple, kwargs: dict, result: Tensor) -> Role | None:
    """Reads the channels along the last dimension of its input, makes new ones there."""
    named = _named(operation, args, kwargs)
    x, weight = named["input"], named["weight"]
    positions = result.numel() // result.shape[-1] // (x.shape[0] if x.ndim > 1 else 1)
    return _layer(tracer, x, weight, named["bias"], result, 0, 1, x.ndim - 1, positions)


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
    name = tracer.name_of(weight)
    if name is None:
        tracer.freeze(x, "it is read by a weight that is computed, not stored")
        return None
    layer = name.rpartition(".")[0]
    columns = tracer.identities.of(name, in_dim, weight.shape[in_dim])
    rows = tracer.identities.of(name, out_dim, weight.shape[out_dim])
    _read(tracer, layer, tracer.channels(x, channel_dim), columns)
    tracer.readers[name, in_dim] = tracer.writers[name, out_dim] = layer
    if bias is not None:
        _tie_parameter(tracer, bias, rows)
    tracer.set_channels(result, rows, channel_dim)
    tracer.calls.append(LayerCall(name, positions))
    return Role.MAKES


def _read(tracer: Tracer, layer: str, given: Tensor, columns: Tensor) -> None:
    if (given < 0).all():
        tracer.entries.append(layer)
    tracer.identities.tie(given, columns)
    tracer.identities.freeze(columns[given < 0], f"{layer!r} reads the model's input or a constant there")


def _grouped(
    tracer: Tracer, x: Tensor, weight: Tensor, bias: Tensor | None, result: Tensor, groups: int, transposed: bool
) -> Role | None:
    """A convolution with groups: the inputs and outputs of each group leave together, and with them the group."""
    name = tracer.name_of(weight)
    if name is None:
        tracer.freeze(x, "it is read by a weight that is computed, not stored")
        return None
    layer = name.rpartition(".")[0]
    given = tracer.channels(x)
    stored = tracer.identities.of(name, 0, weight.shape[0])
    made = stored if not transposed else tracer.identities.fresh(result.shape[1])
    for part_in, part_stored, part_made in zip(
        given.chunk(groups), stored.chunk(groups), made.chunk(groups), strict=True
    ):
        members = torch.cat([part_in[part_in >= 0], part_stored, part_made])
        tracer.identities.tie(members[:-1], members[1:])
    if (given < 0).any():
        tracer.freeze_identities(stored, f"{layer!r} reads the model's input or a constant there")
    tracer.writers[name, 0] = tracer.readers[name, 0] = layer
    if bias is not None:
        _tie_parameter(tracer, bias, made)
    tracer.set_channels(result, made)
    spatial = (x if transposed else result).shape[2:].numel()
    tracer.calls.append(LayerCall(name, spatial))
    return Role.MAKES


def _tie_parameter(tracer: Tracer, parameter: Tensor, identities: Tensor) -> None:
    name = tracer.name_of(parameter)
    if name is None:
        tracer.freeze_identities(identities, "a bias or scale is computed, not stored")
        return
    tracer.identities.tie(tracer.identities.of(name, 0, len(parameter)), identities)


def channel_norm(tracer: Tracer, operation: Operation, args: tuple, kwargs: dict, result: Tensor) -> Role | None:
    """Batch and instance normalisation: every channel for itself; all their vectors belong to the channels."""
    named = _named(operation, args, kwargs)
    channels = tracer.channels(named["input"])
    for key in ("weight", "bias", "running_mean", "running_var"):
        if named.get(key) is not None:
            _tie_parameter(tracer, named[key], channels)
    tracer.set_channels(result, channels)
    return Role.PASSES


def pooling(tracer: Tracer, operation: Operation, args: tuple, kwargs: dict, result: Any) -> Role | None:
    """Pooling and resizing: channels stay, whatever happens within each map."""
    x = tensors_of(args)[0]
    outputs = tensors_of(result)
    if tracer.shadow(x) is None:
        return None
    for output in outputs:
        tracer.set_channels(output, tracer.channels(x))
    # A single pixel left of a larger map is a summary of it, not the map that a criterion wants to see.
    is_global = outputs[0].shape[2:].numel() == 1 and x.shape[2:].numel() > 1
    return None if is_global else Role.PASSES


def pointwise(tracer: Tracer, operation: Operation, args: tuple, kwargs: dict, result: Tensor) -> Role | None:
    """Channels that meet element by element are the same channel."""
    operands = tensors_of((args, kwargs))
    shadows = {i: shadow for i, tensor in enumerate(operands) if (shadow := tracer.shadow(tensor)) is not None}
    if not shadows:
        return None
    shape = result.shape
    shadows = {i: shadow.expand(shape) for i, shadow in shadows.items()}
    first, *rest = shadows.values()
    merged = first
    for shadow in rest:
        merged = _meet(tracer, merged, shadow)
    for i, shadow in shadows.items():
        for j, other in enumerate(operands):
            if j not in shadows and _differs_where(shadow, other):
                tracer.freeze_identities(shadows[i], "it meets, element by element, a tensor whose width is fixed")
    tracer.place(result, merged)
    return Role.PASSES


def _meet(tracer: Tracer, one: Tensor, other: Tensor) -> Tensor:
    """Tie two shadows of the same shape; the result says, element by element, who is there."""
    small_one, small_other = torch.broadcast_tensors(compact(one), compact(other))
    tracer.identities.tie(small_one, small_other)
    alone = ((small_one < 0) != (small_other < 0)) & _present(one, other)
    for small in (small_one, small_other):
        tracer.freeze_identities(small[alone], "it meets a constant of fixed width")
    return torch.where(small_one >= 0, small_one, small_other).expand(one.shape)


def _present(one: Tensor, other: Tensor) -> bool:
    """Whether both shadows differ along some common dimension, so that a -1 in one of them is a position of its own."""
    return any(varies(one, dim) and varies(other, dim) for dim in range(one.ndim))


def _differs_where(shadow: Tensor, other: Tensor) -> bool:
    """Whether a tensor without channels has a length of its own along a dimension in which the shadow varies."""
    offset = shadow.ndim - other.ndim
    return any(other.shape[dim] > 1 and varies(shadow, dim + offset) for dim in range(other.ndim))


def movement(tracer: Tracer, operation: Operation, args: tuple, kwargs: dict, result: Any) -> Role | None:
    """Shape operations need no rule of their own: the same operation is performed on the shadow."""
    if not any(tracer.shadow(tensor) is not None for tensor in tensors_of((args, kwargs))):
        return None
    moved = operation(*_shadowed(tracer, args), **_shadowed(tracer, kwargs))
    for output, shadow in zip(tensors_of(result), tensors_of(moved), strict=True):
        tracer.place(output, shadow)
    return None


def _shadowed(tracer: Tracer, tree: Any) -> Any:
    def swap(leaf: Any) -> Any:
        if not isinstance(leaf, Tensor) or leaf.dtype in (torch.int64, torch.bool):
            return leaf  # an index stays an index
        shadow = tracer.shadow(leaf)
        return torch.full((), NONE).expand(leaf.shape) if shadow is None else shadow

    return torch.utils._pytree.tree_map(swap, tree)


def reshape(tracer: Tracer, operation: Operation, args: tuple, kwargs: dict, result: Tensor) -> Role | None:
    """A view of the activation can be a copy of its shadow, whose strides differ."""
    shadow = tracer.shadow(args[0])
    if shadow is not None:
        tracer.place(result, shadow.reshape(result.shape))
    return None


def padding(tracer: Tracer, operation: Operation, args: tuple, kwargs: dict, result: Tensor) -> Role | None:
    """Padded positions belong to no channel; padding in space leaves the channels as they are."""
    shadow = tracer.shadow(args[0])
    if shadow is None:
        return None
    pads = args[1]
    padded = [shadow.ndim - 1 - i // 2 for i in range(0, len(pads), 2) if pads[i] or pads[i + 1]]
    if any(varies(shadow, dim) for dim in padded):
        tracer.place(result, torch.nn.functional.pad(shadow, pads, value=NONE))
        return None
    tracer.place(result, compact(shadow).expand(result.shape))
    return None


def same(tracer: Tracer, operation: Operation, args: tuple, kwargs: dict, result: Tensor) -> Role | None:
    """A copy, or the same values in another memory layout or type."""
    shadow = tracer.shadow(args[0])
    if shadow is not None:
        tracer.place(result, shadow)
    return Role.PASSES


def reduction(tracer: Tracer, operation: Operation, args: tuple, kwargs: dict, result: Tensor) -> Role | None:
    """A mean, sum or maximum over dimensions without channels; over channels it freezes them."""
    named = _named(operation, args, kwargs)
    x, dims, keepdim = named["self"], named.get("dim"), named.get("keepdim", False)
    shadow = tracer.shadow(x)
    if shadow is None:
        return None
    dims = [dims] if isinstance(dims, int) else list(dims or range(x.ndim))
    dims = sorted(dim % x.ndim for dim in dims)
    if any(varies(shadow, dim) for dim in dims):
        tracer.freeze(x, f"{operation._schema.name.removeprefix('aten::')} mixes channels")
        return None
    for dim in dims:
        shadow = shadow.narrow(dim, 0, 1)
    for dim in reversed(dims if not keepdim else []):
        shadow = shadow.squeeze(dim)
    for output in tensors_of(result):
        tracer.place(output, shadow)
    return None


def soft(tracer: Tracer, operation: Operation, args: tuple, kwargs: dict, result: Tensor) -> Role | None:
    """Softmax: fine along a dimension without channels."""
    shadow = tracer.shadow(args[0])
    if shadow is None:
        return None
    if varies(shadow, args[1] % shadow.ndim):
        tracer.freeze(args[0], "a softmax mixes channels")
    else:
        tracer.place(result, shadow)
    return None


def not_understood(tracer: Tracer, operation: Operation, args: tuple, kwargs: dict, result: Any) -> Role | None:
    """Freeze what goes into an operation without a rule."""
    for tensor in tensors_of((args, kwargs)):
        tracer.freeze(tensor, f"{operation._schema.name.removeprefix('aten::')} may mix channels")
    return None


def _named(operation: Operation, args: tuple, kwargs: dict) -> dict[str, Any]:
    """Arguments by name, defaults filled in."""
    schema = operation._schema.arguments
    named = {argument.name: argument.default_value for argument in schema}
    named.update(zip((argument.name for argument in schema), args, strict=False))
    return named | kwargs


def _table() -> dict[str, Rule]:
    families: dict[Rule, str] = {
        convolution: "conv1d conv2d conv3d conv_transpose1d conv_transpose2d conv_transpose3d",
        linear: "linear",
        channel_norm: "batch_norm instance_norm",
        pooling: "max_pool1d max_pool2d max_pool3d avg_pool1d avg_pool2d avg_pool3d "
        "adaptive_avg_pool1d adaptive_avg_pool2d adaptive_avg_pool3d adaptive_max_pool1d "
        "adaptive_max_pool2d max_pool2d_with_indices upsample_nearest2d "
        "upsample_bilinear2d upsample_bicubic2d _upsample_nearest_exact2d",
        movement: "permute transpose t expand slice select cat split split_with_sizes stack unbind squeeze unsqueeze "
        "roll flip repeat index_select unfold",
        reshape: "view _unsafe_view _reshape_alias",
        padding: "constant_pad_nd",
        # not all of these carry PyTorch's tag
        pointwise: "hardswish hardswish_ hardtanh hardtanh_ silu silu_ mish mish_ _prelu_kernel",
        same: "clone _to_copy detach alias lift_fresh",
        reduction: "mean sum amax amin",
        soft: "softmax log_softmax",
    }
    return {f"aten::{name}": rule for rule, names in families.items() for name in names.split()}


RULES = _table()


def rule_for(operation: Operation) -> Rule:
    """The rule of an operation: by name, else by PyTorch's own pointwise tag, else the cautious one."""
    if rule := RULES.get(operation._schema.name):
        return rule
    return pointwise if torch.Tag.pointwise in operation.tags else not_understood
