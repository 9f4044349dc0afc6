"""Metrics of any number of classes per image: means over the classes that occur."""

import torch
from torch import Tensor
from torchmetrics.classification import MultilabelAveragePrecision, MultilabelF1Score
from torchmetrics.utilities import dim_zero_cat


class MeanAveragePrecision(MultilabelAveragePrecision):
    """Average precision, the mean over classes of which there are images; without any it is no number.

    Args:
        num_classes: in all.
        sync_on_compute: the processes add up what they have seen.
    """

    def __init__(self, num_classes: int, sync_on_compute: bool = True) -> None:
        super().__init__(num_classes, average="none", sync_on_compute=sync_on_compute)

    def compute(self) -> Tensor:  # type: ignore[override]
        """The mean."""
        return super().compute()[(dim_zero_cat(self.target) == 1).any(0)].mean()


class MeanF1Score(MultilabelF1Score):
    """F1 score, the mean over classes that occur or are found; without any it is no number.

    Args:
        num_classes: in all.
        threshold: probability from which a class is found.
        sync_on_compute: the processes add up what they have seen.
    """

    def __init__(self, num_classes: int, threshold: float, sync_on_compute: bool = True) -> None:
        super().__init__(num_classes, threshold=threshold, average="none", sync_on_compute=sync_on_compute)

    def compute(self) -> Tensor:
        """The mean."""
        counts = [dim_zero_cat(each) for each in (self.tp, self.fp, self.fn)]
        return super().compute()[torch.stack(counts).any(0)].mean()
