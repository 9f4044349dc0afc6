"""Mask R-CNN with group norm everywhere, as CHEX's release prunes it, and a narrow one for small images."""

from functools import partial
from typing import TYPE_CHECKING

from torch import Tensor, nn
from torch.nn import functional as F

from pruning_lit.system.loading import loading

if TYPE_CHECKING:
    from torchvision.models.detection import MaskRCNN

WIDTH = 64  # channels of the released ResNet's stem; all other widths are multiples of it


def maskrcnn_resnet50_fpn_gn(num_classes: int = 81, min_size: int = 800, max_size: int = 1333) -> "MaskRCNN":
    """Mask R-CNN with a ResNet-50 and a feature pyramid, with group norm: 44,405,813 parameters with 81 classes.

    Takes a list of images ``(3, H, W)`` in 0...1, of any size, and in training a list of targets with ``boxes``,
    ``labels`` and ``masks``, as torchvision's does, whose conventions hold for anchors, targets and losses.

    Args:
        num_classes: number of classes, background included.
        min_size: pixels of an image's shorter side, to which it is brought;
        max_size: of its longer side, at most, for which the shorter one may become shorter.

    Source: Hou et al. 2022, "CHEX: CHannel EXploration for CNN Model Compression", as released, after Wu and He 2018,
    "Group Normalization", table 5; by Massa and Girshick's maskrcnn-benchmark.
    """
    return _mask_rcnn(num_classes, WIDTH, min_size, max_size, smallest_anchor=32)


def maskrcnn_small(num_classes: int = 5, image_size: int = 128, width: int = 8) -> "MaskRCNN":
    """Narrow Mask R-CNN with group norm, of few proposals, for small images: 698,869 parameters by default.

    Args:
        num_classes: number of classes, background included.
        image_size: height and width in pixels to which square images are brought; of others, the longer side.
        width: channels of the stem, 64 in the large one; even, at least 4.

    Raises:
        ValueError: there is no such width.
    """
    if width < 4 or width % 2:
        raise ValueError(f"arch.width must be even and at least 4, got {width}")
    proposals = {"rpn_post_nms_top_n_train": 200, "rpn_post_nms_top_n_test": 100, "box_batch_size_per_image": 64}
    return _mask_rcnn(num_classes, width, image_size, image_size, smallest_anchor=16, **proposals)


class GroupNormBoxHead(nn.Module):
    """Two fully connected layers without biases on the features of a region, with group norm over their outputs.

    Shape: ``(R, incoming, size, size)`` to ``(R, outgoing)``.
    """

    def __init__(self, incoming: int, outgoing: int, groups: int) -> None:
        super().__init__()
        self.fc6, self.norm6 = nn.Linear(incoming, outgoing, bias=False), nn.GroupNorm(groups, outgoing)
        self.fc7, self.norm7 = nn.Linear(outgoing, outgoing, bias=False), nn.GroupNorm(groups, outgoing)
        for layer in (self.fc6, self.fc7):
            nn.init.kaiming_uniform_(layer.weight, a=1)

    def forward(self, regions: Tensor) -> Tensor:
        """Features of whole regions."""
        x = F.relu(self.norm6(self.fc6(regions.flatten(1))))
        return F.relu(self.norm7(self.fc7(x)))


def _mask_rcnn(
    num_classes: int, width: int, min_size: int, max_size: int, smallest_anchor: int, **options: int
) -> "MaskRCNN":
    with loading():  # late: it takes as long as torch
        from torchvision.models.detection import MaskRCNN
        from torchvision.models.detection.anchor_utils import AnchorGenerator
        from torchvision.models.detection.backbone_utils import BackboneWithFPN
        from torchvision.models.detection.faster_rcnn import FastRCNNPredictor
        from torchvision.models.detection.mask_rcnn import MaskRCNNHeads, MaskRCNNPredictor
        from torchvision.ops.feature_pyramid_network import LastLevelMaxPool

        from pruning_lit.models.mask_rcnn_body import ResNet50Body
    groups, pyramid, representation = width // 2, 4 * width, 16 * width
    norm = partial(nn.GroupNorm, groups)
    stages = {f"layer{number + 1}": str(number) for number in range(4)}
    widths = [pyramid * 2**number for number in range(4)]
    backbone = BackboneWithFPN(
        ResNet50Body(width, norm), stages, widths, pyramid, extra_blocks=LastLevelMaxPool(), norm_layer=norm
    )
    return MaskRCNN(
        backbone,
        min_size=min_size,
        max_size=max_size,
        rpn_anchor_generator=AnchorGenerator(
            tuple((smallest_anchor * 2**level,) for level in range(5)), ((0.5, 1.0, 2.0),) * 5
        ),
        box_head=GroupNormBoxHead(pyramid * 7 * 7, representation, groups),
        box_predictor=FastRCNNPredictor(representation, num_classes),
        mask_head=MaskRCNNHeads(pyramid, (pyramid,) * 4, 1, norm_layer=norm),
        mask_predictor=MaskRCNNPredictor(pyramid, pyramid, num_classes),
        **options,
    )
