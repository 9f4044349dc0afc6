"""Accuracy by class: counts that processes add up, of all examples together or as a mean over classes."""

from typing import Any

import torch
from torch import Tensor
from torchmetrics import Metric


class ClassAccuracy(Metric):
    """Overall accuracy, or the mean over classes of their accuracies; classes without an example are left out.

    Args:
        num_classes: number of classes.
        mean: over classes; else over all examples.
        **settings: of torchmetrics' ``Metric``.
    """

    full_state_update = False
    right: Tensor
    seen: Tensor

    def __init__(self, num_classes: int, mean: bool, **settings: Any) -> None:
        super().__init__(**settings)
        self.num_classes, self.mean = num_classes, mean
        for name in ("right", "seen"):
            self.add_state(name, torch.zeros(num_classes, dtype=torch.int64), dist_reduce_fx="sum")

    def update(self, outputs: Tensor, targets: Tensor) -> None:
        """Count logits ``(N, classes)`` and classes ``(N,)``."""
        self.seen += torch.bincount(targets, minlength=self.num_classes)
        self.right += torch.bincount(targets[outputs.argmax(1) == targets], minlength=self.num_classes)

    def compute(self) -> Tensor:
        """The accuracy; not a number where there was no example."""
        if not self.mean:
            return self.right.sum().double() / self.seen.sum()
        there = self.seen > 0
        return (self.right[there].double() / self.seen[there]).mean()
