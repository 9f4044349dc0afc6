"""Shadows: beside each activation an integer tensor of the same shape that says which channel every element belongs to.

-1 stands for "no channel" (the image, a constant). Nearly all strides of a shadow are 0, so it costs next to nothing.
"""

import torch
from torch import Tensor

NONE = -1


def spread(identities: Tensor, dim: int, shape: torch.Size) -> Tensor:
    """A shadow of ``shape`` with ``identities`` along ``dim``, constant along all other dimensions."""
    view = [1] * len(shape)
    view[dim] = len(identities)
    return identities.view(view).expand(shape)


def compact(shadow: Tensor) -> Tensor:
    """The shadow with every dimension along which it is constant by construction (stride 0) cut down to length 1."""
    for dim, stride in enumerate(shadow.stride()):
        if stride == 0 and shadow.shape[dim] > 1:
            shadow = shadow.narrow(dim, 0, 1)
    return shadow


def varies(shadow: Tensor, dim: int) -> bool:
    """Whether the identities differ along ``dim``."""
    small = compact(shadow)
    return small.shape[dim] > 1 and bool((small != small.narrow(dim, 0, 1)).any())


def along(shadow: Tensor, dim: int) -> Tensor | None:
    """The identities along ``dim``, shape ``(length,)``, or None where the shadow varies along another one too."""
    dim %= shadow.ndim
    if any(varies(shadow, other) for other in range(shadow.ndim) if other != dim):
        return None
    for other in range(shadow.ndim):
        if other != dim:
            shadow = shadow.narrow(other, 0, 1)
    return shadow.reshape(-1)


def settle(shadow: Tensor) -> Tensor:
    """Restore the 0 strides of a shadow that an operation has written out in full."""
    if shadow.numel() <= compact(shadow).numel() < 2**16:
        return shadow
    for dim in range(shadow.ndim):
        if shadow.stride(dim) != 0 and not varies(shadow, dim):
            shadow = shadow.narrow(dim, 0, 1).expand_as(shadow)
    return shadow
