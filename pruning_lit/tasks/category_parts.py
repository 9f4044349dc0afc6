"""Parts of a point cloud's category, among those of all categories."""

from collections.abc import Sequence

import torch
from torch import Tensor


def membership(categories: Sequence[Sequence[int]], num_parts: int) -> Tensor:
    """Parts of each category, boolean ``(categories, parts)``.

    Args:
        categories: the numbers of the parts of each.
        num_parts: in all.
    """
    own = torch.zeros(len(categories), num_parts, dtype=torch.bool)
    for number, parts in enumerate(categories):
        own[number, list(parts)] = True
    return own


def likeliest(outputs: Tensor, own: Tensor) -> Tensor:
    """The likeliest part of each point among those of its cloud's category, ``(N, points)``.

    Args:
        outputs: logits ``(N, parts, points)``.
        own: parts of the category of each cloud, boolean ``(N, parts)``.
    """
    return outputs.masked_fill(~own[:, :, None], -torch.inf).argmax(1)
