"""ResNet-164 and its kin for CIFAR: bottlenecks with batch norm and ReLU in front of every convolution."""

from torch import Tensor, nn
from torch.nn import functional as F

from pruning_lit.channels import ChannelSelect, ResidualBranch
from pruning_lit.models.start import batch_norm_scales, kaiming_convolutions

EXPANSION = 4


class PreActivationBottleneck(ResidualBranch):
    """Convolutions 1x1, 3x3, 1x1 beside a shortcut; nothing behind their sum.

    The first batch norm reads the stream. ``select`` in front of it lets it, and the convolution behind it, take some
    of the stream's channels only, while the stream stays whole for the other blocks. Once nothing is left of the last
    batch norm the block is its shortcut alone.

    Args:
        in_channels: width of the incoming stream.
        planes: width of the first two convolutions; the outgoing stream is four times as wide.
        stride: of the 3x3 convolution and of the shortcut.
        is_entry: whether this is the first block of a stage, whose shortcut is a bare convolution of the raw stream.

    Shape: ``(N, in_channels, H, W)`` to ``(N, 4 * planes, ceil(H / stride), ceil(W / stride))``.

    Source: He et al. 2016, "Identity Mappings in Deep Residual Networks", figure 4 (e); ``select``: Liu et al. 2017,
    "Learning Efficient Convolutional Networks through Network Slimming", section 3.
    """

    branch = ("select", "bn1", "conv1", "bn2", "conv2", "bn3", "conv3")

    def __init__(self, in_channels: int, planes: int, stride: int, is_entry: bool) -> None:
        super().__init__()
        out_channels = EXPANSION * planes
        self.select = ChannelSelect(in_channels)
        self.bn1 = nn.BatchNorm2d(in_channels)
        self.conv1 = nn.Conv2d(in_channels, planes, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(planes)
        self.conv2 = nn.Conv2d(planes, planes, 3, stride=stride, padding=1, bias=False)
        self.bn3 = nn.BatchNorm2d(planes)
        self.conv3 = nn.Conv2d(planes, out_channels, 1, bias=False)
        self.downsample = (
            nn.Sequential(nn.Conv2d(in_channels, out_channels, 1, stride=stride, bias=False))
            if is_entry
            else nn.Identity()
        )

    def forward(self, x: Tensor) -> Tensor:
        """Carry the stream ``x``, shape ``(N, in_channels, H, W)``, one block further."""
        if not self.has_branch:
            return self.downsample(x)
        inner = self.conv1(F.relu(self.bn1(self.select(x))))
        inner = self.conv2(F.relu(self.bn2(inner)))
        inner = self.conv3(F.relu(self.bn3(inner)))
        return inner + self.downsample(x)


class PreResNet(nn.Module):
    """Stem, three stages of pre-activation bottlenecks, batch norm, ReLU, global average pool, ``fc``.

    Args:
        num_blocks: blocks in each of the three stages.
        num_classes: width of the output.
        width: channels of the stem; the stages have 4, 8 and 16 times as many.
        norm_scale: where the scales of the batch norms start.

    Shape: ``(N, 3, H, W)``, 32x32 in the paper, to logits ``(N, num_classes)``.

    Source: He et al. 2016, "Identity Mappings in Deep Residual Networks", section 4.
    """

    def __init__(self, num_blocks: int, num_classes: int, width: int, norm_scale: float) -> None:
        super().__init__()
        last = 4 * width * EXPANSION
        self.conv1 = nn.Conv2d(3, width, 3, padding=1, bias=False)
        self.layer1 = _stage(width, width, 1, num_blocks)
        self.layer2 = _stage(width * EXPANSION, 2 * width, 2, num_blocks)
        self.layer3 = _stage(2 * width * EXPANSION, 4 * width, 2, num_blocks)
        self.select = ChannelSelect(last)
        self.bn = nn.BatchNorm2d(last)
        self.fc = nn.Linear(last, num_classes)
        self.norm_scale = norm_scale
        self.initialise()

    def initialise(self) -> None:
        """Draw the convolutions anew and set the scales back, at the present widths; ``fc`` keeps what it has."""
        kaiming_convolutions(self)
        batch_norm_scales(self, self.norm_scale)

    def forward(self, x: Tensor) -> Tensor:
        """Classify the images ``x``, shape ``(N, 3, H, W)``."""
        x = self.layer3(self.layer2(self.layer1(self.conv1(x))))
        x = F.relu(self.bn(self.select(x)))
        return self.fc(F.adaptive_avg_pool2d(x, 1).flatten(1))


def preresnet(depth: int = 164, num_classes: int = 10, width: int = 16, norm_scale: float = 0.5) -> PreResNet:
    """Build a pre-activation ResNet for CIFAR whose readers of the stream can be narrowed one by one.

    Args:
        depth: number of weighted layers, 9n + 2 for n blocks per stage: 164 in the papers.
        num_classes: width of the output.
        width: channels of the stem, 16 in the papers.
        norm_scale: where the scales of the batch norms start; 0.5 for sparsity training, torch's own start is 1.

    Returns:
        The network with fresh weights, for images ``(N, 3, H, W)``.

    Raises:
        ValueError: the depth is not 9n + 2, or the width is below 1.

    Source: Liu et al. 2017, "Learning Efficient Convolutional Networks through Network Slimming", section 4.2.
    """
    num_blocks, remainder = divmod(depth - 2, 9)
    if remainder or num_blocks < 1:
        raise ValueError(f"a pre-activation ResNet has a depth of 9n + 2 (11, 20, 29, …, 164), got {depth}")
    if width < 1:
        raise ValueError(f"width is {width}, but a stem has at least 1 channel")
    return PreResNet(num_blocks, num_classes, width, norm_scale)


def _stage(in_channels: int, planes: int, stride: int, num_blocks: int) -> nn.Sequential:
    """An entry block, which brings the stream to its width and resolution, and blocks that keep both."""
    entry = PreActivationBottleneck(in_channels, planes, stride, is_entry=True)
    rest = (PreActivationBottleneck(EXPANSION * planes, planes, 1, is_entry=False) for _ in range(num_blocks - 1))
    return nn.Sequential(entry, *rest)
