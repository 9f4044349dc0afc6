"""Part segmentation of point clouds: one part per point, where the category of the cloud is given."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pruning_lit.channels.inputs import first_tensor
from pruning_lit.tasks.base import Primary, Task, TaskData, as_classes, is_integral, mean_counted, refused_targets
from pruning_lit.tasks.point_classification import on_sphere

if TYPE_CHECKING:
    from torchmetrics import MetricCollection

NO_PART = -1  # of points that do not count


class PartSegmentation(Task):
    """Cross-entropy of every point over all parts; mean intersection over union within each cloud's category.

    Networks take clouds ``(N, points, 3)``, or ``(N, points, 6)`` with normals, and their categories, int64 ``(N,)``;
    targets are parts, ``(N, points)``, -1 for points that do not count.

    Args:
        num_classes: number of parts, of all categories together.
        categories: by name, the numbers of the parts of each.

    Source: Yi et al. 2016, "A Scalable Active Framework for Region Annotation in 3D Shape Collections", for the
    metrics.
    """

    primary = Primary(
        "miou_instances",
        meaning="intersection over union of predicted and true parts, mean over the parts of a cloud's category, then "
        "over clouds",
    )
    section = "pruning_lit.reports.clouds.CloudsSection"
    has_logits = True
    items = "clouds"
    maps_are_images = False
    facts = ("num_classes", "categories")

    def __init__(self, num_classes: int, categories: Mapping[str, Sequence[int]]) -> None:
        self.num_classes, self.categories = num_classes, {name: list(parts) for name, parts in categories.items()}

    def losses(self, outputs: Any, targets: Tensor, training: bool) -> dict[str, Tensor]:
        """Mean cross-entropy of logits ``(N, parts, points)`` and parts ``(N, points)``, over points that count."""
        require_parts(outputs, (len(targets), self.num_classes, targets.shape[1]))
        parts = as_classes(targets)
        each = F.cross_entropy(outputs, parts, ignore_index=NO_PART, reduction="none")
        return {"cross_entropy": mean_counted(each, (parts != NO_PART).sum(), training)}

    def logits(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Logits of all points that count, ``(points, parts)``."""
        return outputs.movedim(1, -1)[as_classes(targets) != NO_PART]

    def right_classes(self, targets: Tensor) -> Tensor:
        """Parts of all points that count, ``(points,)``."""
        parts = as_classes(targets)
        return parts[parts != NO_PART]

    def metrics(self, prefix: str = "", over_ranks: bool = True) -> "MetricCollection":
        """Mean intersection over union, of all clouds and of categories, and point accuracy."""
        from torchmetrics import MetricCollection  # late: loads torchvision, SciPy and matplotlib

        from pruning_lit.tasks.cloud_metrics import PartIou

        names, parts = self.metric_names(), list(self.categories.values())
        metrics = {name: PartIou(parts, self.num_classes, name, sync_on_compute=over_ranks) for name in names}
        return MetricCollection({**metrics}, prefix=prefix, compute_groups=False)

    def metric_names(self) -> list[str]:
        """Means over clouds and over categories, and the share of right points."""
        return ["miou_instances", "miou_classes", "accuracy"]

    def require_targets(self, targets: Any, inputs: Any) -> None:
        """ValueError where they are no parts, one for each point."""
        num_points = first_tensor(inputs).shape[1]
        fit = is_integral(targets) and targets.shape[1:] == (num_points,)
        if not fit or as_classes(targets).min() < NO_PART or as_classes(targets).max() >= self.num_classes:
            needed = f"integers of shape (N, {num_points}), 0 to {self.num_classes - 1}, or -1 for no part"
            raise refused_targets(targets, "part_segmentation", needed, "number the parts of all categories through")

    def require_fit(self, net: nn.Module, data: TaskData) -> None:
        """ValueError also where the network knows fewer categories than there are."""
        super().require_fit(net, data)
        known = getattr(net, "num_categories", None)
        if isinstance(known, int) and known < len(self.categories):
            raise ValueError(
                f"the data set has {len(self.categories)} categories, and the network knows {known}: set "
                f"arch.num_categories={len(self.categories)}"
            )

    def update(self, metrics: "MetricCollection", outputs: Any, targets: Any) -> None:
        """Count a batch."""
        metrics.update(outputs, as_classes(targets))

    def require_outputs(self, outputs: Any, inputs: Any) -> None:
        """ValueError where they are not one logit for each part and point."""
        points = first_tensor(inputs)
        require_parts(outputs, (len(points), self.num_classes, points.shape[1]))

    @staticmethod
    def view_example(net: nn.Module, example: Any) -> Any:
        """The cloud and category of the data set; where there are none, points on a sphere, and the first category."""
        if not isinstance(example, Tensor):
            return example
        return on_sphere(example), torch.zeros(len(example), dtype=torch.int64, device=example.device)

    def changed(self, before: Tensor, after: Tensor) -> int:
        """Number of clouds in which the likeliest part of a point differs, of whatever category."""
        return int((before.argmax(1) != after.argmax(1)).any(1).sum())


def require_parts(outputs: Any, shape: tuple[int, ...]) -> None:
    """ValueError where outputs are not one tensor of a shape ``(N, parts, points)``."""
    found = f"shape {tuple(outputs.shape)}" if isinstance(outputs, Tensor) else f"a {type(outputs).__name__}"
    if not isinstance(outputs, Tensor) or outputs.shape != shape:
        raise ValueError(
            f"the network returns {found}; part segmentation needs one tensor of shape {shape}: (clouds, parts, points)"
        )
