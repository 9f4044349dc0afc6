"""ResNet-20, 32, 44, 56, 110 for CIFAR: basic blocks, shortcuts without parameters (option A) or of convolutions."""

from collections import OrderedDict
from collections.abc import Callable
from typing import ClassVar, Literal

from torch import Tensor, nn
from torch.nn import functional as F

from pruning_lit.channels import ChannelScatter
from pruning_lit.models.start import batch_norm_scales, kaiming_convolutions

STAGE_WIDTHS = (16, 32, 64)


class ConvShortcut(nn.Sequential):
    """A 3x3 convolution with stride 2, and batch norm: from one stage to the next.

    Args:
        in_channels: width of the stage that ends.
        out_channels: width of the stage that begins.

    Shape: ``(N, in_channels, H, W)`` to ``(N, out_channels, ceil(H / 2), ceil(W / 2))``.

    Source: "Filter Pruning via Decomposition of Redundancy Graphs", Neurocomputing 2024,
    doi 10.1016/j.neucom.2024.128108: the network of its experiments.
    """

    kernel_size: ClassVar[int] = 3

    def __init__(self, in_channels: int, out_channels: int) -> None:
        size = self.kernel_size
        conv = nn.Conv2d(in_channels, out_channels, size, stride=2, padding=size // 2, bias=False)
        super().__init__(OrderedDict(conv=conv, bn=nn.BatchNorm2d(out_channels)))


class ProjectionShortcut(ConvShortcut):
    """A 1x1 convolution with stride 2, reading every second pixel in both directions (option B), and batch norm.

    Args: see ``ConvShortcut``.

    Source: He et al. 2016, "Deep Residual Learning for Image Recognition", section 3.3, equation 2; Ding et al. 2021,
    "ResRep: Lossless CNN Pruning via Decoupling Remembering and Forgetting": the networks of its release.
    """

    kernel_size = 1


class BasicBlock(nn.Module):
    """Two 3x3 convolutions beside a shortcut; ReLU after their sum.

    Args:
        in_channels: width of the incoming stream.
        out_channels: width of both convolutions.
        stride: of the first convolution.
        shortcut: what brings the incoming channels to the outgoing ones. A ``ConvShortcut`` gets all pixels, any other
            every ``stride``-th in both directions.

    Shape: ``(N, in_channels, H, W)`` to ``(N, out_channels, ceil(H / stride), ceil(W / stride))``.

    Source: He et al. 2016, "Deep Residual Learning for Image Recognition", figure 2 and section 4.2.
    """

    def __init__(self, in_channels: int, out_channels: int, stride: int, shortcut: nn.Module) -> None:
        super().__init__()
        self.step = 1 if isinstance(shortcut, ConvShortcut) else stride  # that one has a stride of its own
        self.conv1 = nn.Conv2d(in_channels, out_channels, 3, stride=stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(out_channels)
        self.conv2 = nn.Conv2d(out_channels, out_channels, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(out_channels)
        self.shortcut = shortcut

    def forward(self, x: Tensor) -> Tensor:
        """Carry the stream ``x``, shape ``(N, in_channels, H, W)``, one block further."""
        inner = F.relu(self.bn1(self.conv1(x)))
        return F.relu(self.bn2(self.conv2(inner)) + self.shortcut(x[:, :, :: self.step, :: self.step]))


class CifarResNet(nn.Module):
    """Stem, three stages of basic blocks (16, 32, 64 channels), global average pool, ``linear``.

    Args:
        num_blocks: blocks in each of the three stages.
        num_classes: width of the output.
        stem_shortcut: shortcut of the first block, 16 channels to 16.
        stage_shortcut: makes the shortcuts into stages 2 and 3, from the widths of the stage before and of the stage.
        norm_scale: where the scales of the batch norms start.

    Shape: ``(N, 3, H, W)``, 32x32 in the paper, to logits ``(N, num_classes)``.

    Source: He et al. 2016, "Deep Residual Learning for Image Recognition", section 4.2.
    """

    def __init__(
        self,
        num_blocks: int,
        num_classes: int,
        stem_shortcut: nn.Module,
        stage_shortcut: Callable[[int, int], nn.Module],
        norm_scale: float = 1.0,
    ) -> None:
        super().__init__()
        stem, middle, last = STAGE_WIDTHS
        self.conv1 = nn.Conv2d(3, stem, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(stem)
        self.layer1 = _stage(BasicBlock(stem, stem, 1, stem_shortcut), num_blocks)
        self.layer2 = _stage(BasicBlock(stem, middle, 2, stage_shortcut(stem, middle)), num_blocks)
        self.layer3 = _stage(BasicBlock(middle, last, 2, stage_shortcut(middle, last)), num_blocks)
        self.linear = nn.Linear(last, num_classes)
        self.norm_scale = norm_scale
        self.initialise()

    def initialise(self) -> None:
        """Draw the convolutions anew and set the scales back, at the present widths; ``linear`` keeps what it has."""
        kaiming_convolutions(self)
        batch_norm_scales(self, self.norm_scale)

    def forward(self, x: Tensor) -> Tensor:
        """Classify the images ``x``, shape ``(N, 3, H, W)``."""
        x = F.relu(self.bn1(self.conv1(x)))
        x = self.layer3(self.layer2(self.layer1(x)))
        return self.linear(F.adaptive_avg_pool2d(x, 1).flatten(1))


def cifar_resnet(
    depth: int,
    num_classes: int = 10,
    stem: Literal["select", "tied"] = "select",
    shortcut: Literal["option_a", "option_b", "conv"] = "option_a",
    norm_scale: float = 1.0,
) -> CifarResNet:
    """Build a CIFAR ResNet.

    Args:
        depth: number of weighted layers, 6n + 2 for n blocks per stage: 20, 32, 44, 56, 110 in the paper.
        num_classes: width of the output.
        stem: how the first block passes the stem's 16 channels on. ``select``: through a ``ChannelScatter``, all
            channels at first, so that the stem and stage 1 can be narrowed apart. ``tied``: unchanged, so that the
            stem is narrowed together with stage 1. Both compute the same until something is narrowed.
        shortcut: how the first blocks of stages 2 and 3 pass the stream on. ``option_a``: every second pixel, between
            channels of zeros. ``option_b``: through a ``ProjectionShortcut``. ``conv``: through a ``ConvShortcut``. The
            last two have weights of their own.
        norm_scale: where the scales of the batch norms start; 0.5 for sparsity training and channel exploration.

    Returns:
        The network with fresh weights, for images ``(N, 3, H, W)``.

    Raises:
        ValueError: the depth is not 6n + 2, or ``stem`` or ``shortcut`` is unknown.

    Source: He et al. 2016, "Deep Residual Learning for Image Recognition", section 4.2 and table 6; ``option_b``:
    Ding et al. 2021, "ResRep: Lossless CNN Pruning via Decoupling Remembering and Forgetting", as released; ``conv``:
    "Filter Pruning via Decomposition of Redundancy Graphs", Neurocomputing 2024, doi 10.1016/j.neucom.2024.128108.
    """
    num_blocks, remainder = divmod(depth - 2, 6)
    if remainder or num_blocks < 1:
        raise ValueError(f"a CIFAR ResNet has a depth of 6n + 2 (8, 14, 20, 32, 44, 56, 110, …), got {depth}")
    if stem not in ("select", "tied"):
        raise ValueError(f"stem is 'select' or 'tied', got {stem!r}")
    if shortcut not in STAGE_SHORTCUTS:
        raise ValueError(f"shortcut is 'option_a', 'option_b' or 'conv', got {shortcut!r}")
    width = STAGE_WIDTHS[0]
    stem_shortcut = _centred(width, width) if stem == "select" else nn.Identity()
    return CifarResNet(num_blocks, num_classes, stem_shortcut, STAGE_SHORTCUTS[shortcut], norm_scale)


def _centred(in_channels: int, out_channels: int) -> ChannelScatter:
    """Place the incoming channels in the middle of the outgoing ones; as many zeros in front as behind."""
    zeros = [-1] * ((out_channels - in_channels) // 2)
    return ChannelScatter([*zeros, *range(in_channels), *zeros])


STAGE_SHORTCUTS: dict[str, Callable[[int, int], nn.Module]] = {
    "option_a": _centred,
    "option_b": ProjectionShortcut,
    "conv": ConvShortcut,
}


def _stage(entry: BasicBlock, num_blocks: int) -> nn.Sequential:
    """Continue the entry block with blocks that keep the width and the resolution."""
    width = entry.conv2.out_channels
    return nn.Sequential(entry, *(BasicBlock(width, width, 1, nn.Identity()) for _ in range(num_blocks - 1)))
