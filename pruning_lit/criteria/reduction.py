"""Reduction of the scores that a channel has in several layers, as those of a residual stream, to one."""

from collections.abc import Sequence
from typing import Any, Literal, get_args

import torch
from torch import Tensor

Reduction = Literal["sum", "mean", "max", "first"]


def require_reduction(value: Any) -> None:
    """ValueError unless the setting ``criterion.reduction`` is one that there is."""
    if value not in get_args(Reduction):
        raise ValueError(f"criterion.reduction must be one of {list(get_args(Reduction))}, got {value!r}")


def reduced(scores: Sequence[Tensor], reduction: Reduction) -> Tensor:
    """One score per channel.

    Args:
        scores: of every layer that makes the channels, in execution order, each of shape ``(channels,)``.
        reduction: ``sum``, ``mean`` or ``max`` over the layers, or the scores of the ``first`` alone.
    """
    match reduction:
        case "sum":
            return torch.stack([*scores]).sum(0)
        case "mean":
            return torch.stack([*scores]).mean(0)
        case "max":
            return torch.stack([*scores]).amax(0)
        case "first":
            return scores[0]
