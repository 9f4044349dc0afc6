"""ResNet-20, 32, 44, 56, 110 for CIFAR: basic blocks, shortcuts without parameters (option A)."""

from typing import Literal

from torch import Tensor, nn
from torch.nn import functional as F

from pruning_lit.channels import ChannelScatter
from pruning_lit.models.start import kaiming_convolutions

STAGE_WIDTHS = (16, 32, 64)


class BasicBlock(nn.Module):
    """Two 3x3 convolutions beside a shortcut; ReLU after their sum.

    Args:
        in_channels: width of the incoming stream.
        out_channels: width of both convolutions.
        stride: of the first convolution; the shortcut takes every ``stride``-th pixel in both directions.
        shortcut: what brings the incoming channels to the outgoing ones.

    Shape: ``(N, in_channels, H, W)`` to ``(N, out_channels, ceil(H / stride), ceil(W / stride))``.

    Source: He et al. 2016, "Deep Residual Learning for Image Recognition", figure 2 and section 4.2.
    """

    def __init__(self, in_channels: int, out_channels: int, stride: int, shortcut: nn.Module) -> None:
        super().__init__()
        self.stride = stride
        self.conv1 = nn.Conv2d(in_channels, out_channels, 3, stride=stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(out_channels)
        self.conv2 = nn.Conv2d(out_channels, out_channels, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(out_channels)
        self.shortcut = shortcut

    def forward(self, x: Tensor) -> Tensor:
        """Carry the stream ``x``, shape ``(N, in_channels, H, W)``, one block further."""
        inner = F.relu(self.bn1(self.conv1(x)))
        return F.relu(self.bn2(self.conv2(inner)) + self.shortcut(x[:, :, :: self.stride, :: self.stride]))


class CifarResNet(nn.Module):
    """Stem, three stages of basic blocks (16, 32, 64 channels), global average pool, ``linear``.

    Args:
        num_blocks: blocks in each of the three stages.
        num_classes: width of the output.
        stem_shortcut: shortcut of the first block, 16 channels to 16.

    Shape: ``(N, 3, H, W)``, 32x32 in the paper, to logits ``(N, num_classes)``.

    Source: He et al. 2016, "Deep Residual Learning for Image Recognition", section 4.2.
    """

    def __init__(self, num_blocks: int, num_classes: int, stem_shortcut: nn.Module) -> None:
        super().__init__()
        stem, middle, last = STAGE_WIDTHS
        self.conv1 = nn.Conv2d(3, stem, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(stem)
        self.layer1 = _stage(BasicBlock(stem, stem, 1, stem_shortcut), num_blocks)
        self.layer2 = _stage(BasicBlock(stem, middle, 2, _centred(stem, middle)), num_blocks)
        self.layer3 = _stage(BasicBlock(middle, last, 2, _centred(middle, last)), num_blocks)
        self.linear = nn.Linear(last, num_classes)
        self.initialise()

    def initialise(self) -> None:
        """Draw the convolutions anew, at the present widths; the other layers keep what they have."""
        kaiming_convolutions(self)

    def forward(self, x: Tensor) -> Tensor:
        """Classify the pictures ``x``, shape ``(N, 3, H, W)``."""
        x = F.relu(self.bn1(self.conv1(x)))
        x = self.layer3(self.layer2(self.layer1(x)))
        return self.linear(F.adaptive_avg_pool2d(x, 1).flatten(1))


def cifar_resnet(depth: int, num_classes: int = 10, stem: Literal["select", "tied"] = "select") -> CifarResNet:
    """Build a CIFAR ResNet with option-A shortcuts.

    Args:
        depth: number of weighted layers, 6n + 2 for n blocks per stage: 20, 32, 44, 56, 110 in the paper.
        num_classes: width of the output.
        stem: how the first block passes the stem's 16 channels on. ``select``: through a ``ChannelScatter``, all
            channels at first, so that the stem and stage 1 can be narrowed apart. ``tied``: unchanged, so that the
            stem is narrowed together with stage 1. Both compute the same until something is narrowed.

    Returns:
        The network with fresh weights, for pictures ``(N, 3, H, W)``.

    Raises:
        ValueError: the depth is not 6n + 2, or ``stem`` is unknown.

    Source: He et al. 2016, "Deep Residual Learning for Image Recognition", section 4.2 and table 6.
    """
    num_blocks, remainder = divmod(depth - 2, 6)
    if remainder or num_blocks < 1:
        raise ValueError(f"a CIFAR ResNet has a depth of 6n + 2 (8, 14, 20, 32, 44, 56, 110, …), got {depth}")
    if stem not in ("select", "tied"):
        raise ValueError(f"stem is 'select' or 'tied', got {stem!r}")
    width = STAGE_WIDTHS[0]
    return CifarResNet(num_blocks, num_classes, _centred(width, width) if stem == "select" else nn.Identity())


def _centred(in_channels: int, out_channels: int) -> ChannelScatter:
    """Place the incoming channels in the middle of the outgoing ones; as many zeros in front as behind."""
    zeros = [-1] * ((out_channels - in_channels) // 2)
    return ChannelScatter([*zeros, *range(in_channels), *zeros])


def _stage(entry: BasicBlock, num_blocks: int) -> nn.Sequential:
    """Continue the entry block with blocks that keep the width and the resolution."""
    width = entry.conv2.out_channels
    return nn.Sequential(entry, *(BasicBlock(width, width, 1, nn.Identity()) for _ in range(num_blocks - 1)))
