"""SSD on torchvision's, with default boxes, loss and feature extractor of the release by NVIDIA (SSD300 v1.1)."""

from collections import OrderedDict
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torchvision.models import ResNet
from torchvision.models._utils import IntermediateLayerGetter
from torchvision.models.detection.anchor_utils import DefaultBoxGenerator
from torchvision.models.detection.ssd import SSD

Normalise = Literal["picture", "batch"]
#: Of the blocks behind the ResNet: channels of the 1x1 and of the 3x3 convolution, stride and padding of the latter.
EXTRA_BLOCKS = ((256, 512, 2, 1), (256, 512, 2, 1), (128, 256, 2, 1), (128, 256, 1, 0), (128, 256, 1, 0))


class ClampedDefaultBoxes(DefaultBoxGenerator):
    """Default boxes whose centres lie in the image, too, as those of the release do; in full precision.

    torchvision clamps widths and heights only. Where a grid reaches over the edge (ten steps of 32 pixels in an image
    of 300), the last centres do. And it computes them in the precision of the feature maps: in bfloat16, pixels off.
    """

    def _grid_default_boxes(
        self, grid_sizes: list[list[int]], image_size: list[int], dtype: torch.dtype = torch.float32
    ) -> Tensor:
        precise = torch.promote_types(dtype, torch.float32)
        return super()._grid_default_boxes(grid_sizes, image_size, precise).clamp(0, 1)


class SingleShotDetector(SSD):
    """torchvision's SSD, with a loss that may be normalised by each image's own positives.

    In mixed precision, losses and boxes are computed in float32.

    Args:
        normalise: ``picture``: the loss of an image is divided by the number of its positive default boxes, and the
            loss of a batch is the mean over images; one without positives counts 0. ``batch``: as torchvision does,
            by the number of positives in the batch.
        options: arguments of torchvision's ``SSD``, passed on as they are.

    Raises:
        ValueError: there is no such normalisation.

    Source: Liu et al. 2016, "SSD: Single Shot MultiBox Detector", equation 1, as NVIDIA's release has it.
    """

    def __init__(self, *, normalise: Normalise = "picture", **options: Any) -> None:
        if normalise not in ("picture", "batch"):
            raise ValueError(f"arch.normalise must be 'picture' or 'batch', got {normalise!r}")
        super().__init__(**options)
        self.normalise = normalise

    def compute_loss(
        self,
        targets: list[dict[str, Tensor]],
        head_outputs: dict[str, Tensor],
        anchors: list[Tensor],
        matched_idxs: list[Tensor],
    ) -> dict[str, Tensor]:
        """Localisation and classification loss, by torchvision's names."""
        head_outputs = _precise(head_outputs)
        if self.normalise == "batch":
            return super().compute_loss(targets, head_outputs, anchors, matched_idxs)
        images = []
        for i, (target, boxes, matches) in enumerate(zip(targets, anchors, matched_idxs, strict=True)):
            outputs = {name: output[i : i + 1] for name, output in head_outputs.items()}
            images.append(super().compute_loss([target], outputs, [boxes], [matches]))
        return {name: torch.stack([losses[name] for losses in images]).mean() for name in images[0]}

    def postprocess_detections(
        self, head_outputs: dict[str, Tensor], image_anchors: list[Tensor], image_shapes: list[tuple[int, int]]
    ) -> list[dict[str, Tensor]]:
        """Detections in each image: ``boxes``, ``scores`` and ``labels``."""
        return super().postprocess_detections(_precise(head_outputs), image_anchors, image_shapes)


def _precise(outputs: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: each.to(torch.promote_types(each.dtype, torch.float32)) for name, each in outputs.items()}


class ResNetFeatures(nn.Module):
    """Six feature maps: of a ResNet up to its third stage, which does not lower the resolution, and of five blocks.

    Shape: ``(N, 3, 300, 300)`` to maps of sides 38, 19, 10, 5, 3 and 1.

    Attributes:
        body: the ResNet, with torchvision's names of layers.
        extra: the blocks.
        out_channels: of each map.
    """

    def __init__(self, resnet: ResNet) -> None:
        super().__init__()
        entry = resnet.layer3[0]
        entry.conv1.stride = entry.conv2.stride = entry.downsample[0].stride = (1, 1)
        self.body = IntermediateLayerGetter(resnet, {"layer3": "0"})
        self.out_channels = [entry.conv3.out_channels, *(block[1] for block in EXTRA_BLOCKS)]
        self.extra = nn.ModuleList(
            extra_block(incoming, *block) for incoming, block in zip(self.out_channels, EXTRA_BLOCKS, strict=False)
        )
        xavier_kernels(self.extra)

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """The maps by number, the finest first."""
        maps = [self.body(images)["0"]]
        for block in self.extra:
            maps.append(block(maps[-1]))
        return OrderedDict((str(number), each) for number, each in enumerate(maps))


class SmallFeatures(nn.Module):
    """Feature maps at strides 8, 16 and 32, of plain convolutions with batch norm.

    Attributes:
        stages: each lowers the resolution by two.
        out_channels: of each of the three maps.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        widths = [width, 2 * width, 4 * width, 4 * width, 4 * width]
        self.stages = nn.ModuleList(
            nn.Sequential(*_convolution(incoming, outgoing, 3, 2, 1), *_convolution(outgoing, outgoing, 3, 1, 1))
            for incoming, outgoing in zip([3, *widths], widths, strict=False)
        )
        self.out_channels = widths[2:]

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """The maps by number, the finest first."""
        maps = [images]
        for stage in self.stages:
            maps.append(stage(maps[-1]))
        return OrderedDict((str(number), each) for number, each in enumerate(maps[-3:]))


def extra_block(incoming: int, inner: int, outgoing: int, stride: int, padding: int) -> nn.Sequential:
    """A 1x1 and a 3x3 convolution without bias, each with batch norm and ReLU."""
    return nn.Sequential(*_convolution(incoming, inner, 1, 1, 0), *_convolution(inner, outgoing, 3, stride, padding))


def _convolution(incoming: int, outgoing: int, size: int, stride: int, padding: int) -> list[nn.Module]:
    kernel = nn.Conv2d(incoming, outgoing, size, stride, padding, bias=False)
    return [kernel, nn.BatchNorm2d(outgoing), nn.ReLU(inplace=True)]


def xavier_kernels(module: nn.Module) -> None:
    """Draw all kernels anew, in place, uniformly after Xavier; biases keep PyTorch's default, as in the release."""
    for layer in module.modules():
        if isinstance(layer, nn.Conv2d):
            layer.reset_parameters()  # torchvision's heads have zeroed their biases
            nn.init.xavier_uniform_(layer.weight)
