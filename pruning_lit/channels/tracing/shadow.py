"""Shadows: beside each activation an integer tensor of the same shape that says which channel every element belongs to.

-1 stands for "no channel" (the image, a constant). Nearly all strides of a shadow are 0, so it costs next to nothing.
"""

from dataclasses import dataclass

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
    strides, lengths = shadow.stride(), shadow.shape
    small = [1 if stride == 0 and length else length for stride, length in zip(strides, lengths, strict=True)]
    return shadow if small == list(lengths) else shadow.as_strided(small, strides)


def varies(shadow: Tensor, dim: int) -> bool:
    """True where the identities differ along ``dim``."""
    return not constant(compact(shadow), dim)


def constant(small: Tensor, dim: int) -> bool:
    """True where a tensor is the same all along ``dim``."""
    return small.shape[dim] == 1 or torch.equal(small, small.narrow(dim, 0, 1).expand_as(small))


def settle(shadow: Tensor) -> Tensor:
    """Restore the 0 strides of a shadow that an operation has written out in full."""
    if shadow.numel() <= compact(shadow).numel() < 2**16:
        return shadow
    for dim in range(shadow.ndim):
        if shadow.stride(dim) != 0 and not varies(shadow, dim):
            shadow = shadow.narrow(dim, 0, 1).expand_as(shadow)
    return shadow


@dataclass(frozen=True)
class Outline:
    """Identities in a shadow, without repetition.

    Attributes:
        dims: the dimensions along which the identities differ, ascending.
        identities: one dimension for each of ``dims``.
        shape: shape of the shadow.
    """

    dims: tuple[int, ...]
    identities: Tensor
    shape: tuple[int, ...]

    def along(self, dim: int) -> Tensor | None:
        """The identities along ``dim``, shape ``(length,)``, or None where they differ along another one too."""
        dim %= len(self.shape)
        if self.dims not in ((), (dim,)):
            return None
        return self.identities if self.dims else self.identities.reshape(-1).expand(self.shape[dim])

    def without(self, removed: Tensor) -> "Outline | None":
        """The outline of what is left, itself where that is all; None where not whole rows of it are removed.

        Args:
            removed: whether each identity is removed.
        """
        identities, shape = self.identities, list(self.shape)
        if len(self.dims) == 1:  # of nearly all
            left = identities[~removed[identities]]
            return Outline(self.dims, left, (*shape[: self.dims[0]], len(left), *shape[self.dims[0] + 1 :]))
        if not bool(removed[identities].any()):
            return self
        for number, dim in enumerate(self.dims):
            rows = (~removed[identities]).movedim(number, 0).reshape(identities.shape[number], -1).any(1)
            identities, shape[dim] = identities.movedim(number, 0)[rows].movedim(0, number), int(rows.sum())
        return None if bool(removed[identities].any()) else Outline(self.dims, identities, tuple(shape))

    def shadow(self) -> Tensor:
        """A shadow with this outline."""
        small = [self.shape[dim] if dim in self.dims else 1 for dim in range(len(self.shape))]
        return self.identities.reshape(small).expand(self.shape)


def outline(shadow: Tensor) -> Outline:
    """The outline of a shadow that is not empty."""
    small = compact(shadow)
    dims = []
    for dim, length in enumerate(small.shape):
        if length > 1 and not constant(small, dim):
            dims.append(dim)
        elif length > 1:
            small = small.narrow(dim, 0, 1)
    return Outline(tuple(dims), small.reshape([small.shape[dim] for dim in dims]), tuple(shadow.shape))


def outline_along(shadow: Tensor, dims: tuple[int, ...]) -> Outline | None:
    """The outline of a shadow with the given ``dims``; None where it differs along any other."""
    if shadow.numel() == 0 or (dims and dims[-1] >= shadow.ndim):
        return None
    small = compact(shadow)
    if any(dim not in dims and not constant(small, dim) for dim in range(shadow.ndim)):
        return None
    lengths = [shadow.shape[dim] if dim in dims else 1 for dim in range(shadow.ndim)]
    small = shadow[tuple(slice(length) for length in lengths)]
    return Outline(dims, small.reshape([shadow.shape[dim] for dim in dims]), tuple(shadow.shape))
