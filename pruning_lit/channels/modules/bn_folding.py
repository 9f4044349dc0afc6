"""Batch-norm folding: a convolution, its batch norm and its compactor as one convolution, exactly."""

from collections.abc import Iterable, Mapping
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.conv import _ConvNd

from pruning_lit.channels.modules.attached import hand_over

MARK = "folded"


class FoldedBatchNorm(nn.Identity):
    """Placeholder of a batch norm that has become part of the convolution in front of it.

    It says so by a buffer, ``folded``: the names of a state dict alone would not tell a folded norm from one that is
    missing in a damaged file.
    """

    folded: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer(MARK, torch.ones((), dtype=torch.bool))


def fold(model: nn.Module, name: str) -> None:
    """Replace the batch norm called ``name`` by a ``FoldedBatchNorm``, in place, wherever the model holds it.

    What was attached to the norm, a scatter, goes on.
    """
    norm, folded = model.get_submodule(name), FoldedBatchNorm().train(model.training)
    hand_over(norm, folded)
    for module in list(model.modules()):
        for key, child in module._modules.items():
            if child is norm:
                module._modules[key] = folded


def adopt_folded(model: nn.Module, state: Mapping[str, Tensor], prefix: str = "") -> None:
    """Fold the batch norms away that ``state`` says to be folded, and give layers the biases that they have there.

    Args:
        model: changed in place.
        state: a state dict.
        prefix: with which the names of the model begin in it.
    """
    for name, module in list(model.named_modules()):
        if isinstance(module, _BatchNorm) and f"{prefix}{name}.{MARK}" in state:
            fold(model, name)
        elif isinstance(module, _ConvNd | nn.Linear) and module.bias is None:
            bias = state.get(f"{prefix}{name}.bias")
            if bias is not None and bias.ndim == 1:
                module.bias = nn.Parameter(torch.zeros_like(bias, device=module.weight.device))


class Affine(NamedTuple):
    """Kernel ``(out, in, *)`` and bias ``(out,)``, float64, of a convolution with all that is folded into it."""

    kernel: Tensor
    bias: Tensor


def fuse_conv_bn_compactor(conv: _ConvNd, norm: nn.Module | None = None, compactor: Tensor | None = None) -> Affine:
    """The kernel and bias that do what the convolution, its batch norm in eval mode and its compactor do.

    Args:
        conv: of any dimension and number of groups; a single one, where there is a compactor.
        norm: a batch norm with running statistics, affine or not; None: nothing stands between the two.
        compactor: square matrix, shape ``(out, out)``; None: the identity.

    Source: Ding et al. 2021 (ResRep), section 3.2.
    """
    kernel = conv.weight.detach().double()
    bias = kernel.new_zeros(len(kernel)) if conv.bias is None else conv.bias.detach().double()
    if norm is not None:
        assert isinstance(norm, _BatchNorm)
        assert norm.running_mean is not None
        assert norm.running_var is not None
        factor = (norm.running_var.double() + norm.eps).rsqrt()
        factor = factor if norm.weight is None else factor * norm.weight.detach().double()
        shift = 0.0 if norm.bias is None else norm.bias.detach().double()
        kernel = kernel * factor.view(-1, *[1] * (kernel.ndim - 1))
        bias = shift + (bias - norm.running_mean.double()) * factor
    if compactor is not None:
        mixing = compactor.detach().double()
        kernel, bias = torch.tensordot(mixing, kernel, dims=1), mixing @ bias
    return Affine(kernel, bias)


def merge(
    conv: nn.Conv2d, norm: nn.Module | None, compactor: Tensor | nn.Module | None, keep: Iterable[int] | None = None
) -> nn.Conv2d:
    """One convolution that gives the channels ``keep`` of the stack convolution, batch norm, compactor, in eval mode.

    Args:
        conv: without groups.
        norm: the batch norm behind it, or None.
        compactor: behind that: a matrix ``(out, out)``, a 1x1 convolution or a ``Compactor``; None: nothing.
        keep: positions of the channels that stay, ascending; None: all.

    Returns:
        A convolution with bias, in the precision and on the device of ``conv``; the sums are made in float64.

    Raises:
        ValueError: the three do not fit together, the convolution is transposed or has groups, the norm has no running
            statistics, or ``keep`` names no channels or some that do not exist.

    Source: Ding et al. 2021 (ResRep), section 3.2.
    """
    _require_mergeable(conv, norm, compactor)
    positions = list(range(conv.out_channels)) if keep is None else [int(position) for position in keep]
    if not positions or sorted({*positions}) != positions or positions[0] < 0 or positions[-1] >= conv.out_channels:
        raise ValueError(f"keep must list ascending channels of 0…{conv.out_channels - 1}, got {positions}")
    matrix = _matrix(compactor)
    kernel, bias = fuse_conv_bn_compactor(conv, norm, matrix)
    if isinstance(offset := getattr(compactor, "bias", None), Tensor):
        bias = bias + offset.detach().double()
    merged = nn.Conv2d(
        conv.in_channels,
        len(positions),
        conv.kernel_size,  # type: ignore[arg-type]
        conv.stride,  # type: ignore[arg-type]
        conv.padding,  # type: ignore[arg-type]
        conv.dilation,  # type: ignore[arg-type]
        padding_mode=conv.padding_mode,
    ).to(conv.weight)
    with torch.no_grad():
        merged.weight.copy_(kernel[positions])
        merged.bias.copy_(bias[positions])  # type: ignore[union-attr]
    return merged


def _matrix(compactor: Tensor | nn.Module | None) -> Tensor | None:
    """The matrix of a compactor in whatever form."""
    weight = compactor if isinstance(compactor, Tensor | None) else compactor.weight
    return weight.flatten(1) if isinstance(weight, Tensor) else None


def _require_mergeable(conv: nn.Conv2d, norm: nn.Module | None, compactor: Tensor | nn.Module | None) -> None:
    if not isinstance(conv, nn.Conv2d):
        raise ValueError(f"expected a torch.nn.Conv2d to merge into, got a {type(conv).__name__}")
    if conv.groups > 1:
        raise ValueError(f"a compactor cannot be merged into a convolution with {conv.groups} groups")
    if norm is not None and not isinstance(norm, _BatchNorm):
        raise ValueError(f"expected a batch norm between the two, got a {type(norm).__name__}")
    if norm is not None and norm.running_mean is None:
        raise ValueError("the batch norm has no running statistics, so what it does depends on the batch")
    if norm is not None and norm.num_features != conv.out_channels:
        raise ValueError(f"the batch norm has {norm.num_features} channels, the convolution makes {conv.out_channels}")
    matrix, expected = _matrix(compactor), (conv.out_channels, conv.out_channels)
    if matrix is not None and tuple(matrix.shape) != expected:
        raise ValueError(
            f"expected a compactor of {expected}, as a matrix or a 1x1 convolution, got {tuple(matrix.shape)}"
        )
