"""MobileNet-V1: depthwise and pointwise convolutions in turn, without residual connections."""

from collections import OrderedDict

from torch import Tensor, nn
from torch.nn import functional as F

from pruning_lit.models.start import kaiming_convolutions

STEM_WIDTH = 32
# of the blocks: channels that come out, and the stride of the depthwise convolution
BLOCKS = ((64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2), *((512, 1),) * 5, (1024, 2), (1024, 1))


class SeparableBlock(nn.Sequential):
    """A depthwise 3x3 and a pointwise convolution, each with batch norm and ReLU.

    Args:
        in_channels: width of what comes in, and of the depthwise convolution.
        out_channels: width of the pointwise convolution.
        stride: of the depthwise convolution.

    Shape: ``(N, in_channels, H, W)`` to ``(N, out_channels, ceil(H / stride), ceil(W / stride))``.

    Source: Howard et al. 2017, "MobileNets: Efficient Convolutional Neural Networks for Mobile Vision Applications",
    figure 3.
    """

    def __init__(self, in_channels: int, out_channels: int, stride: int) -> None:
        super().__init__(
            OrderedDict(
                depthwise=nn.Conv2d(
                    in_channels, in_channels, 3, stride=stride, padding=1, groups=in_channels, bias=False
                ),
                bn1=nn.BatchNorm2d(in_channels),
                relu1=nn.ReLU(),
                pointwise=nn.Conv2d(in_channels, out_channels, 1, bias=False),
                bn2=nn.BatchNorm2d(out_channels),
                relu2=nn.ReLU(),
            )
        )


class MobileNetV1(nn.Module):
    """Stem with stride 2, thirteen separable blocks, global average pool, ``fc``.

    Args:
        num_classes: width of the output.

    Shape: ``(N, 3, H, W)``, 224x224 in the paper, to logits ``(N, num_classes)``.

    Source: Howard et al. 2017, "MobileNets: Efficient Convolutional Neural Networks for Mobile Vision Applications",
    table 1.
    """

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, STEM_WIDTH, 3, stride=2, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(STEM_WIDTH)
        incoming = (STEM_WIDTH, *(width for width, _ in BLOCKS))
        self.blocks = nn.Sequential(
            *(SeparableBlock(before, width, stride) for before, (width, stride) in zip(incoming, BLOCKS, strict=False))
        )
        self.fc = nn.Linear(incoming[-1], num_classes)
        self.initialise()

    def initialise(self) -> None:
        """Draw the convolutions anew, at the present widths; ``fc`` keeps what it has."""
        kaiming_convolutions(self)

    def forward(self, x: Tensor) -> Tensor:
        """Classify the images ``x``, shape ``(N, 3, H, W)``."""
        x = self.blocks(F.relu(self.bn1(self.conv1(x))))
        return self.fc(F.adaptive_avg_pool2d(x, 1).flatten(1))


def mobilenet_v1(num_classes: int = 1000) -> MobileNetV1:
    """Build a MobileNet-V1 of the paper's full width, 1.0.

    Args:
        num_classes: width of the output.

    Returns:
        The network with fresh weights, for images ``(N, 3, H, W)``.

    Source: Howard et al. 2017, "MobileNets: Efficient Convolutional Neural Networks for Mobile Vision Applications",
    table 1.
    """
    return MobileNetV1(num_classes)
