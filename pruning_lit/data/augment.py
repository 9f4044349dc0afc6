"""Augmentation of whole batches: draws in, images out, on whatever device the images are."""

import torch
from torch import Generator, Tensor
from torch.nn import functional as F


def draw(num_images: int, pad: int, flip: bool, random: Generator) -> Tensor:
    """Draw the augmentation of each image: the place of its window, and whether it is mirrored.

    Args:
        num_images: how many images.
        pad: black pixels around each image in which the window may move.
        flip: whether images are mirrored (one in two); the windows drawn do not depend on it.
        random: the generator to draw from.

    Returns:
        ``(dy, dx, flip)`` per image, shape ``(num_images, 3)``, int64: the window's upper left corner in the padded
        image, ``0 … 2 * pad``, and 1 where the window is mirrored.
    """
    corners = torch.randint(0, 2 * pad + 1, (num_images, 2), generator=random)
    mirrored = torch.randint(0, 2, (num_images, 1), generator=random)
    return torch.cat([corners, mirrored * flip], dim=1)


def crop(images: Tensor, corners: Tensor, pad: int) -> Tensor:
    """Cut a window of the image's own size out of each image padded with zeros (black).

    Args:
        images: any type, shape ``(B, C, H, W)``.
        corners: ``(dy, dx)`` of each window in the padded image, shape ``(B, 2)``, each ``0 … 2 * pad``.
        pad: zeros added on each side, in pixels.

    Returns:
        The windows, in the type, shape and memory format of ``images``.

    Source: He et al. 2016, "Deep Residual Learning for Image Recognition", section 4.2 (pad 4).
    """
    height, width = images.shape[-2:]
    padded = F.pad(images, (pad, pad, pad, pad))
    windows = padded.unfold(2, height, 1).unfold(3, width, 1)  # a view: (B, C, 2 pad + 1, 2 pad + 1, H, W)
    every = torch.arange(len(images), device=images.device)
    return windows[every, :, corners[:, 0], corners[:, 1]].contiguous(memory_format=memory_format(images))


def mirror(images: Tensor, chosen: Tensor) -> Tensor:
    """Mirror the chosen images left to right.

    Args:
        images: shape ``(B, C, H, W)``.
        chosen: non-zero where an image is to be mirrored, shape ``(B,)``.
    """
    return torch.where(chosen.bool()[:, None, None, None], images.flip(3), images)


def normalise(images: Tensor, mean: Tensor, std: Tensor) -> Tensor:
    """Scale bytes to 0 … 1, subtract the mean and divide by the standard deviation of each channel.

    Args:
        images: uint8, shape ``(B, C, H, W)``.
        mean: of each channel on the scale 0 … 1, float, shape ``(C,)``.
        std: standard deviation of each channel on the same scale, float, shape ``(C,)``.

    Returns:
        Images in the float type of ``mean`` and the memory format of ``images``.
    """
    scale, shift = 1 / (255 * std), -mean / std
    return images * scale[:, None, None] + shift[:, None, None]


def memory_format(images: Tensor) -> torch.memory_format:
    """The memory format of images ``(B, C, H, W)``; contiguous where both would describe them."""
    channels_last = images.is_contiguous(memory_format=torch.channels_last) and not images.is_contiguous()
    return torch.channels_last if channels_last else torch.contiguous_format
