"""Single-shot detectors: SSD300 with a ResNet-50, and a small one for small images."""

from pathlib import Path
from typing import TYPE_CHECKING, Literal

from pruning_lit.models.published import full_name
from pruning_lit.models.weights import load_weights
from pruning_lit.system.loading import loading

if TYPE_CHECKING:
    from pruning_lit.models.ssd_network import SingleShotDetector


def ssd300_resnet50(
    num_classes: int = 81,
    weights_backbone: str | None = None,
    normalise: Literal["picture", "batch"] = "picture",
    score_thresh: float = 0.05,
    nms_thresh: float = 0.5,
    topk_candidates: int = 200,
    detections_per_img: int = 200,
) -> "SingleShotDetector":
    """SSD300 with a ResNet-50: 22,894,902 parameters with 81 classes, 20,150,906,112 MACs.

    Takes a list of images ``(3, H, W)`` in 0...1, of any size, and in training a list of targets with ``boxes`` and
    ``labels``, as torchvision's detectors do.

    Args:
        num_classes: number of classes, background included.
        weights_backbone: those of a ``resnet50`` that torchvision publishes (``IMAGENET1K_V1``; downloaded once), or
            the path of a file with them. None: fresh ones.
        normalise: by what the loss is divided, see ``SingleShotDetector``.
        score_thresh: of a detection, the least score.
        nms_thresh: largest intersection over union of two detections of a class.
        topk_candidates: of a class, the detections that are compared.
        detections_per_img: the best that are told.

    Raises:
        ValueError: torchvision publishes no such weights, or there is no such normalisation.
        FileNotFoundError: the weights cannot be fetched.

    Source: NVIDIA's release of SSD300 v1.1 for PyTorch, after Liu et al. 2016, "SSD: Single Shot MultiBox Detector",
    and Huang et al. 2017, "Speed/accuracy trade-offs for modern convolutional object detectors".
    """
    with loading():  # late: it takes as long as torch
        from torchvision.models import resnet50

        from pruning_lit.models.ssd_network import (
            ClampedDefaultBoxes,
            ResNetFeatures,
            SingleShotDetector,
            xavier_kernels,
        )
    resnet = resnet50()
    if weights_backbone is not None:
        is_file = Path(weights_backbone).is_file()
        load_weights(resnet, weights_backbone if is_file else full_name("resnet50", weights_backbone))
    net = SingleShotDetector(
        backbone=ResNetFeatures(resnet),
        anchor_generator=ClampedDefaultBoxes(
            [[2], [2, 3], [2, 3], [2, 3], [2], [2]],
            scales=[0.07, 0.15, 0.33, 0.51, 0.69, 0.87, 1.05],
            steps=[8, 16, 32, 64, 100, 300],
        ),
        size=(300, 300),
        num_classes=num_classes,
        normalise=normalise,
        score_thresh=score_thresh,
        nms_thresh=nms_thresh,
        topk_candidates=topk_candidates,
        detections_per_img=detections_per_img,
    )
    xavier_kernels(net.head)
    return net


def ssd_small(num_classes: int = 5, image_size: int = 64, width: int = 16) -> "SingleShotDetector":
    """A single-shot detector for small images: 282,588 parameters, as it is by default.

    Three feature maps, at strides 8, 16 and 32, with default boxes of about 10 to 50 pixels in images of 64.

    Args:
        num_classes: number of classes, background included.
        image_size: height and width in pixels to which images are brought; a multiple of 32.
        width: channels of the first stage; the next has two, the others four times as many.

    Raises:
        ValueError: the images have no such size, or there are no channels.
    """
    if width < 1 or image_size < 32 or image_size % 32:
        raise ValueError(
            f"arch.width must be at least 1 and arch.image_size a multiple of 32, got {width} and {image_size}"
        )
    with loading():
        from pruning_lit.models.ssd_network import ClampedDefaultBoxes, SingleShotDetector, SmallFeatures
    return SingleShotDetector(
        backbone=SmallFeatures(width),
        anchor_generator=ClampedDefaultBoxes([[2], [2], [2]], scales=[0.15, 0.3, 0.55, 0.85]),
        size=(image_size, image_size),
        num_classes=num_classes,
        score_thresh=0.05,
        nms_thresh=0.5,
        topk_candidates=200,
        detections_per_img=100,
    )
