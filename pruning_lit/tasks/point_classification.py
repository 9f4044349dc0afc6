"""Classification of point clouds: one class per cloud."""

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pruning_lit.tasks.base import Primary
from pruning_lit.tasks.classification import Classification

if TYPE_CHECKING:
    from torchmetrics import MetricCollection


class PointClassification(Classification):
    """Cross-entropy; overall accuracy, and the mean over classes of their accuracies.

    Networks take clouds ``(N, points, 3)``, or ``(N, points, 6)`` with normals.

    Args:
        num_classes: number of classes.
        label_smoothing: share of the target spread evenly over all classes while training, in [0, 1).
    """

    primary = Primary("accuracy", meaning="share of the clouds whose class is predicted right")
    section = "pruning_lit.reports.clouds.CloudsSection"
    items = "clouds"
    maps_are_images = False

    def __init__(self, num_classes: int, label_smoothing: float = 0.0) -> None:
        super().__init__(num_classes, label_smoothing)

    def metrics(self, prefix: str = "", over_ranks: bool = True) -> "MetricCollection":
        """Share of all clouds that are right, and the mean over classes of that share."""
        from torchmetrics import MetricCollection  # late: loads torchvision, SciPy and matplotlib

        from pruning_lit.tasks.class_accuracy import ClassAccuracy

        figures = {"accuracy": False, "accuracy_classes": True}
        metrics = {
            name: ClassAccuracy(self.num_classes, mean, sync_on_compute=over_ranks) for name, mean in figures.items()
        }
        return MetricCollection({**metrics}, prefix=prefix, compute_groups=False)

    def train_metrics(self, prefix: str, over_ranks: bool = True) -> "MetricCollection":
        """Metrics of training batches, those of evaluation."""
        return self.metrics(prefix, over_ranks)

    def require_targets(self, targets: Any, inputs: Any) -> None:
        """ValueError where they are no classes ``(N,)``; parts of points have a task of their own."""
        if isinstance(inputs, tuple):
            raise ValueError(
                "the data set gives clouds with their categories, and parts of points: choose task=part_segmentation, "
                "or a data set of classes"
            )
        super().require_targets(targets, inputs)

    @staticmethod
    def view_example(net: nn.Module, example: Any) -> Any:
        """The cloud of the data set; where there is none, points on a sphere in the place of zeros."""
        return on_sphere(example) if isinstance(example, Tensor) and not example.any() else example


def on_sphere(zeros: Tensor) -> Tensor:
    """Points on a sphere, and their normals: where all points are one, all neighbourhoods are.

    Args:
        zeros: a batch of clouds, ``(N, points, 3)`` or ``(N, points, 6)``; anything else stays as it is.
    """
    if zeros.ndim != 3 or zeros.shape[-1] not in (3, 6):
        return zeros
    places = torch.randn(*zeros.shape[:2], 3, generator=torch.Generator().manual_seed(0))
    return F.normalize(places, dim=-1).repeat(1, 1, zeros.shape[-1] // 3).to(zeros)
