"""Multi-label classification: any number of classes per image."""

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.nn import functional as F

from pruning_lit.channels.inputs import first_tensor
from pruning_lit.tasks.base import Primary, Task, refused_targets

if TYPE_CHECKING:
    from torchmetrics import MetricCollection


class MultiLabel(Task):
    """Binary cross-entropy of every class; average precision (the mean over classes, mAP) and F1 score.

    Args:
        num_classes: number of classes.
        threshold: probability from which a class counts as found, for the F1 score.
    """

    primary = Primary(
        "average_precision",
        meaning="area under the curve of precision over recall, images ranked by probability, mean over classes that "
        "occur",
    )
    threshold: float

    def __init__(self, num_classes: int, threshold: float = 0.5) -> None:
        if not 0 < threshold < 1:
            raise ValueError(f"task.threshold is a probability between 0 and 1, got {threshold}")
        self.num_classes, self.threshold = num_classes, threshold

    def losses(self, outputs: Any, targets: Tensor, training: bool) -> dict[str, Tensor]:
        """Mean binary cross-entropy of logits and targets ``(N, classes)`` of 0 and 1, of any type."""
        require_logits(outputs, len(targets), self.num_classes)
        return {"binary_cross_entropy": F.binary_cross_entropy_with_logits(outputs, targets.to(outputs.dtype))}

    def metrics(self, prefix: str = "", over_ranks: bool = True) -> "MetricCollection":
        """Average precision and F1 score, each the mean over classes that occur."""
        from torchmetrics import MetricCollection  # late: loads torchvision, SciPy and matplotlib

        from pruning_lit.tasks.label_metrics import MeanAveragePrecision, MeanF1Score

        return MetricCollection(
            {
                "average_precision": MeanAveragePrecision(self.num_classes, over_ranks),
                "f1": MeanF1Score(self.num_classes, self.threshold, over_ranks),
            },
            prefix=prefix,
            compute_groups=False,
        )

    def update(self, metrics: "MetricCollection", outputs: Tensor, targets: Tensor) -> None:
        """Count a batch, by probabilities: whether numbers are logits metrics would guess batch by batch.

        In float64, in which those of large logits still differ.
        """
        metrics.update(outputs.double().sigmoid(), targets.long())

    def require_targets(self, targets: Any, inputs: Any) -> None:
        """ValueError where they are not 0 or 1, or false or true, for each image and class."""
        rows = isinstance(targets, Tensor) and targets.ndim == 2 and targets.shape[1] == self.num_classes
        if not rows or not ((targets == 0) | (targets == 1)).all():
            needed = f"shape (N, {self.num_classes}), 1 for each class of an image and 0 for the others"
            mend = "give such rows, and dataset.num_classes, or num_classes of a data module of your own"
            raise refused_targets(targets, "multi_label", needed, mend)

    def require_outputs(self, outputs: Any, inputs: Any) -> None:
        """ValueError where they are no logits, one for each image and class."""
        require_logits(outputs, len(first_tensor(inputs)), self.num_classes)

    def changed(self, before: Tensor, after: Tensor) -> int:
        """Number of images for which another set of classes is found."""
        border = torch.logit(torch.tensor(self.threshold))
        return int(((before > border) != (after > border)).any(1).sum())


def require_logits(outputs: Any, num_images: int, num_classes: int) -> None:
    """ValueError where outputs are not one tensor of shape ``(num_images, num_classes)``."""
    found = f"shape {tuple(outputs.shape)}" if isinstance(outputs, Tensor) else f"a {type(outputs).__name__}"
    if not isinstance(outputs, Tensor) or outputs.shape != (num_images, num_classes):
        raise ValueError(
            f"the network returns {found} for {num_images} image(s); multi-label classification needs one tensor of "
            f"shape {(num_images, num_classes)}"
        )
