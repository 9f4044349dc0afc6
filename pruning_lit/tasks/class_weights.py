"""Weights of classes in the loss, for data in which some are rare."""

import math
from collections.abc import Sequence
from typing import Any, Literal

import torch

from pruning_lit.tasks.base import TaskData, is_integral

ClassWeights = Sequence[float] | Literal["balanced"]


def require_weights(weights: Any, num_classes: int) -> ClassWeights | None:
    """The setting ``class_weights``; ValueError unless it is one factor for each class, ``balanced``, or None."""
    if weights is None or weights == "balanced":
        return weights
    if isinstance(weights, str) or not isinstance(weights, Sequence) or len(weights) != num_classes:
        found = repr(weights) if isinstance(weights, str) or not isinstance(weights, Sequence) else len(weights)
        raise ValueError(
            f"class_weights is balanced, or a list of {num_classes} numbers, one for each class; got {found}"
        )
    for number, weight in enumerate(weights):
        if isinstance(weight, bool) or not isinstance(weight, int | float) or not 0 <= weight < math.inf:
            raise ValueError(f"class_weights: expected numbers of at least 0, got {weight!r} for class {number}")
    if not any(weights):
        raise ValueError("class_weights are all 0: nothing would be learned")
    return [float(weight) for weight in weights]


def balanced_weights(data: TaskData, num_classes: int) -> list[float]:
    """Number of training images, divided by that of each class and by the number of classes.

    Args:
        data: a data set.
        num_classes: how many there are.

    Raises:
        ValueError: the data set does not tell the targets of all training images, or there is none of a class.
    """
    targets = data.sample_targets()
    if not is_integral(targets) or targets.ndim != 1 or len(targets) != data.num_training:
        raise ValueError(
            "class_weights=balanced counts the classes of all training images, which this data set does not tell "
            f"beforehand: give a list of {num_classes} numbers"
        )
    counts = torch.bincount(targets.long(), minlength=num_classes)
    if missing := (counts == 0).nonzero().flatten().tolist():
        raise ValueError(f"class_weights=balanced: there is no training image of class {missing[0]}")
    return (len(targets) / (num_classes * counts.double())).tolist()
