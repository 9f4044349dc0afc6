"""Augmentation of whole batches: draws in, pictures out, on whatever device the pictures are."""

import torch
from torch import Generator, Tensor
from torch.nn import functional as F


def draw(num_pictures: int, pad: int, flip: bool, random: Generator) -> Tensor:
    """What happens to each picture: where its window lies and whether it is mirrored.

    Args:
        num_pictures: how many pictures.
        pad: black pixels around each picture in which the window may move.
        flip: whether pictures are mirrored (one in two); the windows drawn do not depend on it.
        random: the generator to draw from.

    Returns:
        ``(dy, dx, flip)`` per picture, shape ``(num_pictures, 3)``, int64: the window's upper left corner in the padded
        picture, ``0 … 2 * pad``, and 1 where the window is mirrored.
    """
    corners = torch.randint(0, 2 * pad + 1, (num_pictures, 2), generator=random)
    mirrored = torch.randint(0, 2, (num_pictures, 1), generator=random)
    return torch.cat([corners, mirrored * flip], dim=1)


def crop(pictures: Tensor, corners: Tensor, pad: int) -> Tensor:
    """Cut a window of the picture's own size out of each picture padded with zeros (black).

    Args:
        pictures: any type, shape ``(B, C, H, W)``.
        corners: ``(dy, dx)`` of each window in the padded picture, shape ``(B, 2)``, each ``0 … 2 * pad``.
        pad: zeros added on each side, in pixels.

    Returns:
        The windows, in the type, shape and memory format of ``pictures``.

    Source: He et al. 2016, "Deep Residual Learning for Image Recognition", section 4.2 (pad 4).
    """
    height, width = pictures.shape[-2:]
    padded = F.pad(pictures, (pad, pad, pad, pad))
    windows = padded.unfold(2, height, 1).unfold(3, width, 1)  # a view: (B, C, 2 pad + 1, 2 pad + 1, H, W)
    every = torch.arange(len(pictures), device=pictures.device)
    return windows[every, :, corners[:, 0], corners[:, 1]].contiguous(memory_format=memory_format(pictures))


def mirror(pictures: Tensor, chosen: Tensor) -> Tensor:
    """Mirror the chosen pictures left to right.

    Args:
        pictures: shape ``(B, C, H, W)``.
        chosen: non-zero where a picture is to be mirrored, shape ``(B,)``.
    """
    return torch.where(chosen.bool()[:, None, None, None], pictures.flip(3), pictures)


def normalise(pictures: Tensor, mean: Tensor, std: Tensor) -> Tensor:
    """Scale bytes to 0 … 1, subtract the mean and divide by the standard deviation of each channel.

    Args:
        pictures: uint8, shape ``(B, C, H, W)``.
        mean: of each channel on the scale 0 … 1, float, shape ``(C,)``.
        std: standard deviation of each channel on the same scale, float, shape ``(C,)``.

    Returns:
        Pictures in the float type of ``mean`` and the memory format of ``pictures``.
    """
    scale, shift = 1 / (255 * std), -mean / std
    return pictures * scale[:, None, None] + shift[:, None, None]


def memory_format(pictures: Tensor) -> torch.memory_format:
    """The memory format of pictures ``(B, C, H, W)``; contiguous where both would describe them."""
    channels_last = pictures.is_contiguous(memory_format=torch.channels_last) and not pictures.is_contiguous()
    return torch.channels_last if channels_last else torch.contiguous_format
