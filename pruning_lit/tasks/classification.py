"""Classification: one class per image."""

from typing import TYPE_CHECKING, Any

from torch import Tensor
from torch.nn import functional as F

from pruning_lit.channels.inputs import first_tensor
from pruning_lit.tasks.base import NUMBERED, Batch, Primary, Task, TaskData, as_classes, is_integral, refused_targets
from pruning_lit.tasks.class_weights import ClassWeights, balanced_weights, require_weights
from pruning_lit.tasks.mixup import dominant, mixup, require_alpha

if TYPE_CHECKING:
    from torchmetrics import MetricCollection


class Classification(Task):
    """Cross-entropy and accuracy.

    With mixup the accuracies of training are of blended images, each held against the class with the largest share in
    it; those of evaluation know no mixup.

    Args:
        num_classes: number of classes.
        label_smoothing: share of the target spread evenly over all classes while training, in [0, 1).
        mixup: while training, alpha of the distribution Beta(alpha, alpha) of the share that images keep where they
            are blended with others, one share for a batch; 0: no mixup.
        class_weights: factors of the loss of each class while training, by its number; ``balanced``: inversely
            proportional to the number of its training images, with a mean over these of 1; None: all count alike.
    """

    primary = Primary("accuracy", meaning="share of the images whose class is predicted right")
    has_logits = True
    section = "pruning_lit.reports.classes.ClassesSection"

    def __init__(
        self,
        num_classes: int,
        label_smoothing: float = 0.0,
        mixup: float = 0.0,
        class_weights: ClassWeights | None = None,
    ) -> None:
        if not 0 <= label_smoothing < 1:
            raise ValueError(f"label_smoothing must lie in [0, 1), got {label_smoothing}")
        self.num_classes = num_classes
        self.label_smoothing = label_smoothing
        self.mixup = require_alpha(mixup)
        self.class_weights = require_weights(class_weights, num_classes)

    def learn_from(self, data: TaskData) -> None:
        """Count the training images of each class, where ``balanced`` weights ask for it."""
        if self.class_weights == "balanced":
            self.class_weights = balanced_weights(data, self.num_classes)

    def prepare(self, batch: Batch) -> Batch:
        """Blend a batch of training by ``mixup``, where so asked."""
        inputs, targets = batch
        return mixup(inputs, as_classes(targets), self.num_classes, self.mixup) if self.mixup else batch

    @property
    def changes_batches(self) -> bool:
        """True where batches are blended, also by a task of one's own."""
        return self.mixup > 0 or type(self).prepare is not Classification.prepare

    def losses(self, outputs: Any, targets: Tensor, training: bool) -> dict[str, Tensor]:
        """Mean cross-entropy of logits ``(N, classes)`` and targets; smoothed and weighted only while training.

        Of a share s of smoothing it is ``(1 - s) * -sum(t log p) + s * mean(-log p)``, over the classes. Weights are
        those of the targets, blended ones where targets are; the mean is over images, whatever these weigh, so that
        processes find the gradients of one.

        Args:
            outputs: logits from the network.
            targets: classes ``(N,)``, of any integer type, or shares of the classes ``(N, classes)``.
            training: whether to smooth.

        Raises:
            ValueError: no logits; some networks return more than one tensor only while they are trained.
        """
        require_logits(outputs, len(targets), self.num_classes)
        smoothing = self.label_smoothing if training else 0.0
        targets = as_classes(targets)
        if not training or self.class_weights is None:
            return {"cross_entropy": F.cross_entropy(outputs, targets, label_smoothing=smoothing)}
        assert not isinstance(self.class_weights, str), "learn_from has not been called"
        weights = outputs.new_tensor(self.class_weights)
        weighted = targets @ weights.to(targets) if targets.is_floating_point() else weights[targets]
        losses = F.cross_entropy(outputs, targets, label_smoothing=smoothing, reduction="none")
        return {"cross_entropy": (weighted * losses).mean()}

    def logits(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Logits ``(N, classes)``, as they are."""
        return outputs

    def right_classes(self, targets: Tensor) -> Tensor:
        """Classes ``(N,)``; those with the largest shares, where targets are shares."""
        return dominant(as_classes(targets))

    def metrics(self, prefix: str = "", over_ranks: bool = True) -> "MetricCollection":
        """Top-1 accuracy, and top-5 where there are more than five classes; balanced accuracy and F1 score.

        The first two are shares of all images; the others means over classes, of the share of its images that are
        right, and of the harmonic mean of that and the share of right ones among all that are taken for it. All are
        counted over all images, 0…1; classes that do not occur are left out.
        """
        from torchmetrics import Metric, MetricCollection  # late: loads torchvision, SciPy and matplotlib
        from torchmetrics.classification import MulticlassF1Score

        from pruning_lit.tasks.class_accuracy import ClassAccuracy

        metrics = self.train_metrics(prefix, over_ranks)
        further: dict[str, Metric | MetricCollection] = {
            "balanced_accuracy": ClassAccuracy(self.num_classes, mean=True, sync_on_compute=over_ranks),
            "f1": MulticlassF1Score(self.num_classes, average="macro", sync_on_compute=over_ranks),
        }
        metrics.add_metrics(further)
        return metrics

    def train_metrics(self, prefix: str, over_ranks: bool = True) -> "MetricCollection":
        """Top-1 and top-5 accuracy alone."""
        from torchmetrics import Metric, MetricCollection  # late: loads torchvision, SciPy and matplotlib
        from torchmetrics.classification import MulticlassAccuracy

        common: dict[str, Any] = {"average": "micro", "sync_on_compute": over_ranks}
        metrics: dict[str, Metric | MetricCollection] = {"accuracy": MulticlassAccuracy(self.num_classes, **common)}
        if self.num_classes > 5:
            metrics["accuracy_top5"] = MulticlassAccuracy(self.num_classes, top_k=5, **common)
        return MetricCollection(metrics, prefix=prefix, compute_groups=False)  # equal counts at first would tie the two

    def update(self, metrics: "MetricCollection", outputs: Tensor, targets: Tensor) -> None:
        """Count a batch; blended images by the class with the largest share."""
        metrics.update(outputs, self.right_classes(targets))

    def require_targets(self, targets: Any, inputs: Any) -> None:
        """ValueError where they are no classes ``(N,)``, nor, without mixup, shares of the classes ``(N, classes)``."""
        if is_integral(targets) and targets.ndim == 1:
            fit = bool(((targets.long() >= 0) & (targets.long() < self.num_classes)).all())
        else:
            fit = self._are_shares(targets)
            if fit and self.mixup:
                raise ValueError("the data set gives shares of classes, but task.mixup blends classes: set it to 0")
        if not fit:
            needed = f"integers of shape (N,), 0 to {self.num_classes - 1}"
            raise refused_targets(targets, "classification", needed, NUMBERED)

    def _are_shares(self, targets: Any) -> bool:
        if not isinstance(targets, Tensor) or targets.shape[1:] != (self.num_classes,) or is_integral(targets):
            return False
        return bool(((targets.double().sum(1) - 1).abs() < 1e-2).all())

    def require_outputs(self, outputs: Any, inputs: Any) -> None:
        """ValueError where they are no logits, one for each image and class."""
        require_logits(outputs, len(first_tensor(inputs)), self.num_classes)

    def changed(self, before: Tensor, after: Tensor) -> int:
        """Number of images whose predicted class differs."""
        return int((before.argmax(1) != after.argmax(1)).sum())


def require_logits(output: Any, num_images: int, num_classes: int) -> None:
    """ValueError where a network's output is not one tensor of shape ``(num_images, num_classes)``."""
    if not isinstance(output, Tensor):
        found = "None" if output is None else f"a {type(output).__name__}"
        raise ValueError(f"the network returns {found}; classification needs one tensor of shape (N, {num_classes})")
    if output.ndim != 2 or len(output) != num_images:
        raise ValueError(
            f"the network returns a tensor of shape {tuple(output.shape)} for {num_images} image(s); "
            f"classification needs shape {(num_images, num_classes)}"
        )
    if output.shape[1] != num_classes:
        raise ValueError(f"the network tells {output.shape[1]} classes apart, the data have {num_classes}")
