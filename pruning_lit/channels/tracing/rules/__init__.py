"""Rules: the effect of each kind of operation on the identities of channels.

A rule gets the tracer, the operation, its arguments and its result. It sets the shadow of the result, ties or freezes
identities, and may return the operation's role in the data flow. Whatever has no rule freezes the channels that go into
it.
"""

import functools
from collections.abc import Callable
from typing import Any

import torch

from pruning_lit.channels.tracing.arguments import named
from pruning_lit.channels.tracing.dataflow import Role
from pruning_lit.channels.tracing.kinds import COPIES, Operation
from pruning_lit.channels.tracing.operations import tensors_in
from pruning_lit.channels.tracing.randomness import DROPOUTS
from pruning_lit.channels.tracing.rules import elementwise, layers, norms, picking, products, reductions, shapes
from pruning_lit.channels.tracing.sizes import numbers_in
from pruning_lit.channels.tracing.tracer import Tracer

Rule = Callable[[Tracer, Operation, tuple, dict, Any], Role | None]


def unrelated(tracer: Tracer, operation: Operation, args: tuple, kwargs: dict, result: Any) -> Role | None:
    """Do nothing: the operation takes no more from a tensor than its type, its device or its shape."""
    return None


def not_understood(tracer: Tracer, operation: Operation, args: tuple, kwargs: dict, result: Any) -> Role | None:
    """Freeze what goes into an operation without a rule."""
    for tensor in tensors_in(args, kwargs):
        tracer.freeze(tensor, f"{operation._schema.name.removeprefix('aten::')} may mix channels")
        if operation._schema.is_mutable:
            tracer.shadows.discard(tensor)
    return None


FAMILIES: dict[Rule, str] = {
    layers.convolution: "conv1d conv2d conv3d conv_transpose1d conv_transpose2d conv_transpose3d",
    layers.deformable_convolution: "torchvision::deform_conv2d",
    layers.linear: "linear",
    products.product: "mm bmm matmul",
    products.sum_and_product: "addmm baddbmm",
    products.einsum: "einsum",
    layers.recurrent: "lstm gru rnn_tanh rnn_relu",
    layers.weight_norm: "_weight_norm_interface",
    products.attention: "scaled_dot_product_attention",
    norms.channel_norm: "batch_norm instance_norm",
    norms.group_norm: "group_norm",
    norms.layer_norm: "layer_norm",
    reductions.pooling: "max_pool1d max_pool2d max_pool3d avg_pool1d avg_pool2d avg_pool3d adaptive_avg_pool1d "
    "adaptive_avg_pool2d adaptive_avg_pool3d adaptive_max_pool1d adaptive_max_pool2d adaptive_max_pool3d "
    "max_pool2d_with_indices max_pool3d_with_indices "
    "upsample_nearest1d upsample_nearest2d upsample_nearest3d upsample_linear1d upsample_bilinear2d "
    "upsample_trilinear3d upsample_bicubic2d _upsample_bilinear2d_aa _upsample_bicubic2d_aa _upsample_nearest_exact1d "
    "_upsample_nearest_exact2d _upsample_nearest_exact3d _upsample_lanczos2d_aa reflection_pad1d reflection_pad2d "
    "reflection_pad3d replication_pad1d replication_pad2d replication_pad3d grid_sampler_2d grid_sampler_3d "
    "torchvision::roi_align torchvision::roi_pool",
    reductions.unpooling: "max_unpool2d max_unpool3d",
    reductions.reduction: "mean sum nansum amax amin aminmax max min argmax argmin median nanmedian mode kthvalue prod "
    "var std var_mean std_mean logsumexp linalg_vector_norm norm any all count_nonzero",
    reductions.soft: "softmax log_softmax cumsum cumsum_ cumprod cumprod_ cummax cummin logcumsumexp sort topk",
    shapes.movement: "permute transpose transpose_ t t_ expand cat stack squeeze squeeze_ unsqueeze unsqueeze_ unfold "
    "roll flip rot90 repeat diagonal",
    shapes.splitting: "slice narrow select split split_with_sizes unsafe_split unsafe_split_with_sizes unbind",
    picking.listed: "index_select index",
    picking.embedded: "embedding",
    picking.gathered: "gather take_along_dim",
    picking.scattered: "scatter scatter_ scatter_add scatter_add_ scatter_reduce scatter_reduce_ index_add index_add_ "
    "index_copy index_copy_ index_reduce index_reduce_",
    shapes.reshape: "view _unsafe_view _reshape_alias reshape unflatten",
    shapes.padding: "constant_pad_nd _pad_circular",
    shapes.shuffle: "channel_shuffle",
    shapes.pixel_shuffle: "pixel_shuffle",
    shapes.pixel_unshuffle: "pixel_unshuffle",
    shapes.im2col: "im2col",
    shapes.col2im: "col2im",
    # not all of these carry PyTorch's tag
    elementwise.pointwise: "hardswish hardswish_ hardtanh hardtanh_ silu silu_ mish mish_ _prelu_kernel abs_ gelu_ "
    "threshold_ rsub floor_divide floor_divide_ copysign_ heaviside_ eq_ ne_ ge_ gt_ le_ lt_ masked_fill masked_fill_ "
    "bernoulli bernoulli_ uniform_ normal_ exponential_",
    elementwise.logarithmic: "log_sigmoid_forward",
    elementwise.dropped: " ".join(f"{name} {name}_" for name in sorted(DROPOUTS)),
    elementwise.gated: "glu",
    elementwise.same: " ".join(sorted({*COPIES, "detach_"})),
    elementwise.like: "zeros_like ones_like full_like empty_like rand_like randn_like randint_like",
    elementwise.filled: "fill_ zero_",
    elementwise.written: "copy_ index_put_",
    unrelated: "new_zeros new_ones new_full new_empty new_empty_strided zeros ones empty rand randn",
}
RULES: dict[str, Rule] = {
    (name if "::" in name else f"aten::{name}"): rule for rule, names in FAMILIES.items() for name in names.split()
}
#: Overloads that do something else than the operation whose name they have: ``torch.max(a, b)`` is ``maximum``.
OVERLOADS: dict[str, Rule] = {f"aten::{name}.other": elementwise.pointwise for name in ("max", "min")}

#: Told by what happens to the shadows: numbers among their arguments may be widths.
SIZED = frozenset(
    {shapes.movement, shapes.splitting, picking.listed, shapes.reshape, shapes.padding, layers.convolution}
    | {layers.deformable_convolution, norms.group_norm, norms.layer_norm, elementwise.same, elementwise.like, unrelated}
)


#: Arguments of these that are no widths, whatever numbers they are.
NO_WIDTHS = ("fill_value", "value", "shifts", "stride", "padding", "dilation")


@functools.cache
def rule_for(operation: Operation) -> Rule:
    """The rule of an operation: by name, else by PyTorch's own pointwise tag, else the cautious one."""
    if rule := OVERLOADS.get(operation.name()) or RULES.get(operation._schema.name):
        return rule
    return elementwise.pointwise if torch.Tag.pointwise in operation.tags else not_understood


#: Of these each channel of a result is made of the same channels, or is a row of the weight.
CARRY_OVER = frozenset(
    {layers.convolution, layers.linear, norms.channel_norm, elementwise.pointwise, reductions.pooling}
)


@functools.cache
def carries_over(operation: Operation) -> bool:
    """True where what goes in, and the weight, say which channels come out, and in which order."""
    return rule_for(operation) in CARRY_OVER and "transpose" not in operation._schema.name


@functools.cache
def makes_channels(operation: Operation) -> bool:
    """True for a layer whose weight is its second argument."""
    return rule_for(operation) in (layers.convolution, layers.linear)


def numbers_of(operation: Operation, args: tuple, kwargs: dict) -> tuple[object, ...]:
    """The numbers among the arguments that are no widths: equal for two passes in which equal things are done."""
    if rule_for(operation) in SIZED:
        given = named(operation, args, kwargs)
        return numbers_in(tuple(given[name] for name in NO_WIDTHS if name in given), {})
    if operation._schema.name in ("aten::full", "aten::scalar_tensor"):
        return (args[-1],)
    return numbers_in(args, kwargs)
