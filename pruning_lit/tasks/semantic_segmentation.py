"""Semantic segmentation: one class per pixel."""

from typing import TYPE_CHECKING, Any

from torch import Tensor
from torch.nn import functional as F

from pruning_lit.channels.inputs import first_tensor
from pruning_lit.tasks.base import NUMBERED, Primary, Task, as_classes, is_integral, mean_counted, refused_targets

if TYPE_CHECKING:
    from torchmetrics import MetricCollection


class SemanticSegmentation(Task):
    """Cross-entropy of every pixel; mean intersection over union (mIoU), and the share of right pixels.

    Args:
        num_classes: number of classes, background included.
        ignore_index: target of pixels that count neither for the loss nor for the metrics.
    """

    primary = Primary("mean_iou", meaning="intersection over union of predicted and true pixels, mean over classes")
    has_logits = True

    def __init__(self, num_classes: int, ignore_index: int = 255) -> None:
        self.num_classes, self.ignore_index = num_classes, ignore_index

    def losses(self, outputs: Any, targets: Tensor, training: bool) -> dict[str, Tensor]:
        """Mean cross-entropy of logits ``(N, classes, H, W)`` and integers ``(N, H, W)``, over pixels that count."""
        require_maps(outputs, (len(targets), self.num_classes, *targets.shape[1:]))
        classes = as_classes(targets)
        each = F.cross_entropy(outputs, classes, ignore_index=self.ignore_index, reduction="none")
        return {"cross_entropy": mean_counted(each, (classes != self.ignore_index).sum(), training)}

    def logits(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Logits of all pixels that count, ``(pixels, classes)``."""
        return outputs.movedim(1, -1)[as_classes(targets) != self.ignore_index]

    def right_classes(self, targets: Tensor) -> Tensor:
        """Classes of all pixels that count, ``(pixels,)``."""
        classes = as_classes(targets)
        return classes[classes != self.ignore_index]

    def metrics(self, prefix: str = "", over_ranks: bool = True) -> "MetricCollection":
        """Intersection over union, the mean over classes, and pixel accuracy; over all pixels of all images."""
        from torchmetrics import MetricCollection  # late: loads torchvision, SciPy and matplotlib
        from torchmetrics.classification import MulticlassAccuracy, MulticlassJaccardIndex

        common: dict[str, Any] = {"ignore_index": self.ignore_index, "sync_on_compute": over_ranks}
        return MetricCollection(
            {
                "mean_iou": MulticlassJaccardIndex(self.num_classes, average="macro", **common),
                "pixel_accuracy": MulticlassAccuracy(self.num_classes, average="micro", **common),
            },
            prefix=prefix,
            compute_groups=False,  # one counts pairs of classes, the other what is right
        )

    def update(self, metrics: "MetricCollection", outputs: Tensor, targets: Tensor) -> None:
        """Count a batch."""
        metrics.update(outputs, as_classes(targets))

    def require_targets(self, targets: Any, inputs: Any) -> None:
        """ValueError where they are no integers for the pixels of each image, in the range of the classes."""
        size = tuple(first_tensor(inputs).shape[-2:])
        masks = is_integral(targets) and targets.ndim == 3
        if masks and targets.shape[1:] == size:
            classes = targets.long()
            if ((classes >= 0) & (classes < self.num_classes) | (classes == self.ignore_index)).all():
                return
        needed = (
            f"integers of shape (N, {', '.join(map(str, size))}), 0 to {self.num_classes - 1}, "
            f"or {self.ignore_index} for no class"
        )
        mend = NUMBERED
        if masks and targets.shape[1:] != size:
            mend = "give masks the size of the images"
        elif isinstance(targets, Tensor) and not is_integral(targets):
            mend = "give integers, not scaled to 0 ... 1, as torch.from_numpy(mask).long() does"
        raise refused_targets(targets, "semantic_segmentation", needed, mend)

    def require_outputs(self, outputs: Any, inputs: Any) -> None:
        """ValueError where they are not one map of logits for each class, as large as the image."""
        image = first_tensor(inputs)
        require_maps(outputs, (len(image), self.num_classes, *image.shape[-2:]))

    def changed(self, before: Tensor, after: Tensor) -> int:
        """Number of images in which the predicted class of a pixel differs."""
        return int((before.argmax(1) != after.argmax(1)).flatten(1).any(1).sum())


def require_maps(outputs: Any, shape: tuple[int, ...]) -> None:
    """ValueError where outputs are not one tensor of a shape ``(N, classes, H, W)``."""
    found = f"shape {tuple(outputs.shape)}" if isinstance(outputs, Tensor) else f"a {type(outputs).__name__}"
    if not isinstance(outputs, Tensor) or outputs.shape != shape:
        raise ValueError(
            f"the network returns {found}; semantic segmentation needs one tensor of shape {shape}: "
            "(images, classes, height, width)"
        )
