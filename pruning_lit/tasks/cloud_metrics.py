"""Metrics of point clouds: sums and counts by class or category, so that processes add them up."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torchmetrics import Metric

from pruning_lit.tasks.category_parts import likeliest, membership


class PartIou(Metric):
    """Intersection over union of parts, the mean over clouds or over categories; or the share of right points.

    The part of a point is the likeliest one of the cloud's category. The category is that of the cloud's parts.

    Args:
        categories: the numbers of the parts of each.
        num_parts: in all.
        figure: which of them, ``miou_instances``, ``miou_classes`` or ``accuracy``.
        **settings: of torchmetrics' ``Metric``.
    """

    full_state_update = False
    iou: Tensor
    clouds: Tensor
    right: Tensor
    points: Tensor
    own: Tensor
    category: Tensor

    def __init__(self, categories: Sequence[Sequence[int]], num_parts: int, figure: str, **settings: Any) -> None:
        super().__init__(**settings)
        self.figure = figure
        own = membership(categories, num_parts)
        self.register_buffer("own", own)
        self.register_buffer("category", own.int().argmax(0))
        zeros = torch.zeros(len(categories), dtype=torch.float64)
        self.add_state("iou", zeros, dist_reduce_fx="sum")
        for name, counts in (("clouds", zeros.long()), ("right", torch.tensor(0)), ("points", torch.tensor(0))):
            self.add_state(name, counts, dist_reduce_fx="sum")

    def update(self, outputs: Tensor, targets: Tensor) -> None:
        """Count some clouds; one of which no point counts is left out.

        Args:
            outputs: logits, ``(N, parts, points)``.
            targets: parts, ``(N, points)``; negative for points that do not count.
        """
        there = (targets >= 0).any(1)
        outputs, targets = outputs[there], targets[there]
        category = self.category[targets.amax(1)]
        own, counted = self.own[category], targets >= 0
        found = likeliest(outputs, own)
        self.right += ((found == targets) & counted).sum()
        self.points += counted.sum()
        number = torch.arange(self.own.shape[1], device=targets.device)[:, None]
        predicted, true = (each[:, None] == number for each in (torch.where(counted, found, -1), targets))
        either = (predicted | true).sum(2)
        iou = torch.where(either > 0, (predicted & true).sum(2).double() / either, 1.0)
        self.iou.index_add_(0, category, (iou * own).sum(1) / own.sum(1))
        self.clouds += torch.bincount(category, minlength=len(self.clouds))

    def compute(self) -> Tensor:
        """The figure; categories without a cloud are left out, and without any it is no number."""
        if self.figure == "accuracy":
            return self.right.double() / self.points
        if self.figure == "miou_instances":
            return self.iou.sum() / self.clouds.sum()
        there = self.clouds > 0
        return (self.iou[there] / self.clouds[there]).mean()
