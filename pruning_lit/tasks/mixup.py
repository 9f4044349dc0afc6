"""Mixup: every training image blended with another one of its batch, and their classes with them."""

import math

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F


def require_alpha(alpha: float) -> float:
    """``alpha``, or ValueError where it is none of a Beta distribution, nor 0 for no mixup."""
    if isinstance(alpha, bool) or not isinstance(alpha, int | float) or not 0 <= alpha < math.inf:
        raise ValueError(
            f"task.mixup is the alpha of a Beta distribution, a number above 0, or 0 for no mixup, got {alpha!r}"
        )
    return float(alpha)


def mixup(images: Tensor, target: Tensor, num_classes: int, alpha: float) -> tuple[Tensor, Tensor]:
    """Blend a batch with itself in another order, all images in the same shares.

    The share and the order come from torch's CPU generator, so they are the same on all kinds of devices; in a run,
    ``StatelessRandomness`` seeds it before every step by step and rank.

    Args:
        images: shape ``(N, C, H, W)``; left as they are.
        target: their classes, shape ``(N,)``.
        num_classes: how many there are.
        alpha: of the distribution Beta(alpha, alpha) of the share, above 0. Small: most batches are hardly blended; 1:
            all shares are equally likely; large: half and half.

    Returns:
        The blended images, and the shares of the classes in each, shape ``(N, num_classes)``; rows sum to 1.

    Source: Zhang et al. 2018, "mixup: Beyond Empirical Risk Minimization", section 2.
    """
    share, order = _draw_share(alpha), torch.randperm(len(target)).to(target.device)
    classes = F.one_hot(target, num_classes).to(torch.float32)
    return torch.lerp(images[order], images, share), torch.lerp(classes[order], classes, share)


def dominant(target: Tensor) -> Tensor:
    """The classes ``(N,)`` with the largest shares of targets ``(N, classes)``; classes ``(N,)`` are passed on."""
    return target.argmax(1) if target.ndim == 2 else target


def _draw_share(alpha: float) -> float:
    """Through numpy, whose shares are right for tiny alphas, too; torch's would then often be one half."""
    seed = int(torch.randint(2**63 - 1, ()))
    return float(np.random.default_rng(seed).beta(alpha, alpha))
