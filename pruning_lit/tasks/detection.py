"""Object detection and instance segmentation: boxes, and masks within them."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, ClassVar, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.dropout import _DropoutNd

from pruning_lit.channels.tracing.operations import evaluating
from pruning_lit.models.detector_views import detector_view, rounds_anchors, view_size
from pruning_lit.system.one_line import in_one_line
from pruning_lit.tasks.base import Batch, Primary, Task, TaskData

if TYPE_CHECKING:
    from torchmetrics import MetricCollection

Target = dict[str, Tensor]  # of one image, see ``Detection``
LARGEST_SHIFT = 0.5  # pixels by which a box may move and be the same


class Detection(Task):
    """Object detection, by networks that work as torchvision's detectors do: losses in training, boxes in evaluation.

    A batch is a list of images, float ``(3, H, W)`` in 0 … 1 of any sizes, and a list of targets, one dictionary per
    image: ``boxes`` float ``(n, 4)``, left, top, right, bottom in pixels; ``labels`` int64 ``(n,)``, where 0 is the
    background; ``area`` float ``(n,)`` and ``iscrowd`` int64 ``(n,)`` as COCO has them; ``image_id``; and in evaluation
    ``size``, height and width of the original image, which boxes and areas belong to.

    The losses are those of the network, under its own names. The metrics are COCO's: average precision (AP) at
    intersections over unions of 0.5 to 0.95, of 0.5 and of 0.75, and of small, medium and large objects.

    Args:
        num_classes: number of classes, background included.

    Source: Lin et al. 2014, "Microsoft COCO: Common Objects in Context"; the metrics of its evaluation code.
    """

    primary = Primary("ap", meaning="average precision of boxes, mean over classes and over overlaps of 0.5 to 0.95")
    loss_in_evaluation = False
    section = "pruning_lit.reports.detections.DetectionsSection"
    masks: ClassVar[bool] = False

    def __init__(self, num_classes: int) -> None:
        self.num_classes = num_classes

    def size(self, batch: Batch) -> int:
        """Number of images."""
        return len(batch[0])

    def outputs(self, net: nn.Module, batch: Batch) -> Any:
        """Losses of a network in training mode, by name; else the detections in each image, at its original size."""
        images, targets = batch
        if net.training:
            return net(images, targets)
        return [
            at_original_size(found, tuple(image.shape[-2:]), target)
            for found, image, target in zip(net(images), images, targets, strict=True)
        ]

    def losses(self, outputs: Any, targets: Any, training: bool) -> dict[str, Tensor]:
        """The losses of the network itself; it has none in evaluation."""
        return outputs if training else {}

    def loss(self, net: nn.Module, batch: Batch, training: bool) -> dict[str, Tensor]:
        """Forward pass and losses; in evaluation by the averages of batch norms, and with the same draws every time."""
        if training:
            return net(*batch)
        devices = [batch[0][0].device] if batch[0][0].is_cuda else []
        with torch.random.fork_rng(devices), giving_losses(net):  # anchors and regions are sampled
            torch.manual_seed(0)
            return net(*batch)

    def metrics(self, prefix: str = "", over_ranks: bool = True) -> "MetricCollection":
        """Average precision of boxes."""
        from torchmetrics import MetricCollection  # late: loads torchvision, SciPy and matplotlib

        from pruning_lit.tasks.coco_precision import CocoPrecision

        return MetricCollection({"coco": CocoPrecision(self.masks, over_ranks)}, prefix=prefix, compute_groups=False)

    def metric_names(self) -> list[str]:
        """Average precision (AP), of AP at single overlaps, and of objects of some sizes."""
        from pruning_lit.tasks.coco_precision import names_of_figures

        return names_of_figures(self.masks)

    def train_metrics(self, prefix: str) -> "MetricCollection":
        """None: a detector in training gives losses, and no boxes."""
        from torchmetrics import MetricCollection

        return MetricCollection({}, prefix=prefix)

    def update(self, metrics: "MetricCollection", outputs: Any, targets: Any) -> None:
        """Count the detections of a batch; losses are none."""
        if not isinstance(outputs, dict):
            metrics.update(outputs, targets)

    def require_outputs(self, outputs: Any, inputs: Any) -> None:
        """ValueError where they are no list of detections."""
        needed = {"boxes", "labels", "scores"} | ({"masks"} if self.masks else set())
        if not isinstance(outputs, Sequence) or not all(isinstance(each, dict) for each in outputs):
            raise ValueError(
                f"the network returns a {type(outputs).__name__}; detection needs a list of dictionaries, one per "
                f"image, with {sorted(needed)}, as torchvision's detectors give it"
            )
        for each in outputs:
            if missing := needed - each.keys():
                raise ValueError(
                    f"the network finds {sorted(each)}, and no {sorted(missing)}: choose another arch"
                    + (", or task=detection" if self.masks else "")
                )

    def require_fit(self, net: nn.Module, data: TaskData) -> None:
        """ValueError where network and data do not know the same classes, or one of them no boxes or masks."""
        targets = data.sample_targets()
        needed = {"boxes", "labels"} | ({"masks"} if self.masks else set())
        if not isinstance(targets, Sequence) or not all(isinstance(each, dict) for each in targets):
            raise ValueError(
                f"the data set gives targets of type {type(targets).__name__}; detection needs a list of dictionaries, "
                "one per image, with boxes and labels: choose dataset=coco, or another task"
            )
        if missing := needed - targets[0].keys():
            mend = "set dataset.masks=true" if missing == {"masks"} else "choose dataset=coco"
            raise ValueError(f"the data set gives targets without {sorted(missing)}: {mend}")
        if (known := classes_of(net)) not in (None, self.num_classes):
            raise ValueError(
                f"the network tells {known} classes apart, the data set has {self.num_classes}, background included: "
                "choose another network, or how the data set numbers its classes (dataset.labels)"
            )
        image = torch.zeros(3, 32, 32).to(next(net.parameters()))
        try:
            with torch.no_grad(), evaluating(net):
                outputs = net([image])
        except Exception as error:  # whatever a network raises; these two are what a list is to a layer
            reason = "" if isinstance(error, TypeError | AttributeError) else f" ({in_one_line(error)})"
            raise ValueError(
                f"the network does not take a list of images, as torchvision's detectors do{reason}: choose a "
                "detector, such as arch=ssd300_resnet50, or another task"
            ) from error
        self.require_outputs(outputs, image)

    def require_precision(self, net: nn.Module, precision: str) -> None:
        """ValueError for bf16 with anchors in the precision of the maps: it knows 256 numbers between 512 and 1024."""
        if str(precision).startswith("bf16") and rounds_anchors(net):
            raise ValueError(
                f"trainer.precision={precision}: {type(net).__name__} computes its anchors in the precision of its "
                "maps, and bf16 rounds them by several pixels: choose 16-mixed (on a GPU), 32-true, or an SSD of "
                "pruning_lit's"
            )

    @staticmethod
    def view(net: nn.Module) -> nn.Module:
        """The detector as seen from images to raw outputs, without what looks at its own predictions."""
        return detector_view(net)

    @staticmethod
    def view_inputs(net: nn.Module, inputs: Any) -> list[Tensor]:
        """Images as the detector itself resizes and normalises them, ``(N, 3, H, W)``; one by one unless all are alike.

        Together they would be padded, so that maps would depend on what else is in a batch.
        """
        with evaluating(cast(nn.Module, net.transform)):  # in training it draws a size
            images = [net.transform([image])[0].tensors for image in inputs]  # type: ignore[operator]
        return [torch.cat(images)] if len({each.shape for each in images}) == 1 else images

    @staticmethod
    def view_example(net: nn.Module, example: Any) -> Tensor:
        """Zeros of the size to which the detector resizes images, ``(1, 3, H, W)``."""
        return example.new_zeros(1, example.shape[1], *view_size(net))

    def changed(self, before: Any, after: Any) -> int:
        """Number of images in which other objects are found, or elsewhere."""
        return sum(not same_detections(*pair) for pair in zip(before, after, strict=True))


class InstanceSegmentation(Detection):
    """Object detection with a mask for each object: ``masks`` uint8 ``(n, H, W)`` in the targets.

    Its metrics are those of detection, for masks (``mask_ap`` and so on) and for boxes.
    """

    primary = Primary("mask_ap", meaning=Detection.primary.meaning.replace("boxes", "masks"))
    masks = True


def at_original_size(found: Target, size: tuple[int, ...], target: Target) -> Target:
    """Detections in an image that was resized, as they lie in the original.

    Args:
        found: boxes ``(n, 4)``, and masks ``(n, 1, H, W)`` of probabilities where there are any.
        size: height and width of the image that the detector has got.
        target: ``size`` of the original, where it differs.

    Returns:
        The detections; masks are boolean ``(n, H, W)``.
    """
    height, width = target["size"].tolist() if "size" in target else size
    scale = found["boxes"].new_tensor([width / size[1], height / size[0]] * 2)
    moved = {**found, "boxes": found["boxes"] * scale}
    if "masks" in found:
        masks = found["masks"]
        if tuple(masks.shape[-2:]) != (height, width):
            masks = F.interpolate(masks, size=(height, width), mode="bilinear", align_corners=False)
        moved["masks"] = masks[:, 0] > 0.5
    return moved


def same_detections(one: Target, other: Target) -> bool:
    """True where the same classes are found in the same order, and boxes differ by less than half a pixel."""
    if not torch.equal(one["labels"], other["labels"]):
        return False
    return not len(one["boxes"]) or float((one["boxes"] - other["boxes"]).abs().max()) < LARGEST_SHIFT


def classes_of(net: nn.Module) -> int | None:
    """Number of classes of one of torchvision's detectors, background included; None for others."""
    heads = getattr(net, "roi_heads", None)
    if heads is not None and (scores := getattr(getattr(heads, "box_predictor", None), "cls_score", None)) is not None:
        return int(scores.out_features)
    known = getattr(getattr(getattr(net, "head", None), "classification_head", None), "num_classes", None)
    if known is None:
        known = getattr(getattr(getattr(net, "head", None), "classification_head", None), "num_columns", None)  # SSD
    return None if known is None else int(known)


@contextmanager
def giving_losses(net: nn.Module) -> Iterator[None]:
    """Let a detector give its losses, with batch norms and dropout as in evaluation."""
    modes = {module: module.training for module in net.modules()}
    try:
        for module in modes:
            module.training = not isinstance(module, _BatchNorm | _DropoutNd)
        yield
    finally:
        for module, mode in modes.items():
            module.training = mode
