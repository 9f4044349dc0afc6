"""torchvision's detectors around a backbone of a few channels, and a training batch for them."""

import torch
from torch import Tensor, nn
from torchvision.models.detection import FCOS, FasterRCNN, KeypointRCNN, MaskRCNN, RetinaNet
from torchvision.models.detection.anchor_utils import AnchorGenerator, DefaultBoxGenerator
from torchvision.models.detection.ssd import SSD
from torchvision.ops import MultiScaleRoIAlign

SIZE = 64  # height and width of the images


class Backbone(nn.Module):
    """Three convolutions, and two feature maps at strides 4 and 8, brought to one width."""

    def __init__(self, width: int = 8) -> None:
        super().__init__()
        self.stages = nn.ModuleList(_convolution(incoming, width) for incoming in (3, width, width))
        self.laterals = nn.ModuleList(nn.Conv2d(width, width, 1) for _ in range(2))
        self.out_channels: int | list[int] = width

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        """Both maps, by the names that pooling asks for."""
        maps = []
        for stage in self.stages:
            maps.append(x := stage(x))
        return {str(i): lateral(each) for i, (lateral, each) in enumerate(zip(self.laterals, maps[1:], strict=True))}


def _convolution(incoming: int, outgoing: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(incoming, outgoing, 3, 2, 1, bias=False), nn.BatchNorm2d(outgoing), nn.ReLU(inplace=True)
    )


def _ssd() -> SSD:
    backbone = Backbone()
    backbone.out_channels = [8, 8]
    return SSD(backbone, DefaultBoxGenerator([[2], [2, 3]]), (SIZE, SIZE), 5)


def _anchors(*ratios: float) -> AnchorGenerator:
    return AnchorGenerator(((16,), (32,)), (ratios, ratios))


def _pool(size: int) -> MultiScaleRoIAlign:
    return MultiScaleRoIAlign(["0", "1"], size, 2)


_SIZES = {"min_size": SIZE, "max_size": SIZE}
_REGIONS = _SIZES | {"box_score_thresh": 0.0, "rpn_post_nms_top_n_test": 50, "box_detections_per_img": 20}

#: Builders by name; of five classes, keypoints of two.
SMALL = {
    "ssd": _ssd,
    "retinanet": lambda: RetinaNet(Backbone(32), 5, anchor_generator=_anchors(0.5, 1.0, 2.0), **_SIZES),
    "fcos": lambda: FCOS(Backbone(32), 5, anchor_generator=_anchors(1.0), **_SIZES),
    "faster_rcnn": lambda: FasterRCNN(
        Backbone(), 5, rpn_anchor_generator=_anchors(0.5, 1.0, 2.0), box_roi_pool=_pool(3), **_REGIONS
    ),
    "mask_rcnn": lambda: MaskRCNN(
        Backbone(),
        5,
        rpn_anchor_generator=_anchors(0.5, 1.0, 2.0),
        box_roi_pool=_pool(3),
        mask_roi_pool=_pool(4),
        **_REGIONS,
    ),
}


def keypoint_rcnn() -> KeypointRCNN:
    """The one that finds people's joints, too."""
    return KeypointRCNN(
        Backbone(),
        2,
        num_keypoints=5,
        rpn_anchor_generator=_anchors(1.0),
        box_roi_pool=_pool(3),
        keypoint_roi_pool=_pool(4),
        keypoint_head=nn.Sequential(nn.Conv2d(8, 512, 3, padding=1), nn.ReLU()),
        **_REGIONS,
    )


def training_batch(size: int = SIZE) -> tuple[list[Tensor], list[dict[str, Tensor]]]:
    """Two images of noise with two boxes and masks each, in a colour of their own."""
    boxes = torch.tensor([[4.0, 6.0, 40.0, 44.0], [20.0, 8.0, 60.0, 30.0]]) * size / SIZE
    masks = torch.zeros(2, size, size, dtype=torch.uint8)
    for mask, (left, top, right, bottom) in zip(masks, boxes.int().tolist(), strict=True):
        mask[top:bottom, left:right] = 1
    images = [torch.rand(3, size, size) * 0.3 for _ in range(2)]
    for image in images:
        for colour, mask in enumerate(masks):
            image[colour] += 0.6 * mask
    return images, [{"boxes": boxes, "labels": torch.tensor([1, 3]), "masks": masks} for _ in range(2)]
