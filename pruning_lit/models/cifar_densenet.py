"""DenseNet-40 for CIFAR: every layer reads all the features made before it."""

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pruning_lit.channels import ChannelSelect
from pruning_lit.models.start import batch_norm_scales, kaiming_convolutions


class DenseReader(nn.Module):
    """Selection, batch norm, ReLU and a convolution: what reads the stream of features.

    Args:
        in_channels: width of the stream.
        out_channels: width of the convolution.
        kernel_size: of the convolution, odd; the resolution is kept.
        select: lets this reader take some of the features only, while the others still find them all; see
            ``cifar_densenet``.

    Shape: ``(N, in_channels, H, W)`` to ``(N, out_channels, H, W)``.

    Source: Huang et al. 2017, "Densely Connected Convolutional Networks", section 3; ``select``: Liu et al. 2017,
    "Learning Efficient Convolutional Networks through Network Slimming", section 3.
    """

    def __init__(self, in_channels: int, out_channels: int, kernel_size: int, select: nn.Module) -> None:
        super().__init__()
        self.select = select
        self.bn1 = nn.BatchNorm2d(in_channels)
        self.conv1 = nn.Conv2d(in_channels, out_channels, kernel_size, padding=kernel_size // 2, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """New features, ``(N, out_channels, H, W)``, from the stream ``x``."""
        return self.conv1(F.relu(self.bn1(self.select(x))))


class DenseLayer(DenseReader):
    """A 3x3 reader whose features join the stream, behind those that are there: ``growth`` channels more."""

    def forward(self, x: Tensor) -> Tensor:
        """The stream ``x`` with the new features, ``(N, in_channels + out_channels, H, W)``."""
        return torch.cat([x, super().forward(x)], dim=1)


class Transition(DenseReader):
    """A 1x1 reader in front of an average pool; it neither widens nor compresses the stream."""

    def forward(self, x: Tensor) -> Tensor:
        """A new stream at half the resolution, ``(N, in_channels, H / 2, W / 2)``."""
        return F.avg_pool2d(super().forward(x), 2)


class CifarDenseNet(nn.Module):
    """Stem, three dense blocks with transitions between them, batch norm, ReLU, global average pool, ``fc``.

    Args:
        num_layers: layers in each of the three blocks.
        num_classes: width of the output.
        growth: features that a layer adds.
        stem: features that the first convolution makes.
        norm_scale: where the scales of the batch norms start.
        select: from the width of a stream to what stands in front of one of its readers.

    Shape: ``(N, 3, H, W)``, 32x32 in the paper, to logits ``(N, num_classes)``; H and W are multiples of 4.

    Source: Huang et al. 2017, "Densely Connected Convolutional Networks", section 3.
    """

    def __init__(
        self,
        num_layers: int,
        num_classes: int,
        growth: int,
        stem: int,
        norm_scale: float,
        select: Callable[[int], nn.Module],
    ) -> None:
        super().__init__()
        gain = num_layers * growth
        self.conv1 = nn.Conv2d(3, stem, 3, padding=1, bias=False)
        self.dense1 = _block(stem, growth, num_layers, select)
        self.trans1 = Transition(stem + gain, stem + gain, 1, select(stem + gain))
        self.dense2 = _block(stem + gain, growth, num_layers, select)
        self.trans2 = Transition(stem + 2 * gain, stem + 2 * gain, 1, select(stem + 2 * gain))
        self.dense3 = _block(stem + 2 * gain, growth, num_layers, select)
        self.select = select(stem + 3 * gain)
        self.bn = nn.BatchNorm2d(stem + 3 * gain)
        self.fc = nn.Linear(stem + 3 * gain, num_classes)
        self.norm_scale = norm_scale
        self.initialise()

    def initialise(self) -> None:
        """Draw the convolutions anew and set the scales back, at the present widths; ``fc`` keeps what it has."""
        kaiming_convolutions(self)
        batch_norm_scales(self, self.norm_scale)

    def forward(self, x: Tensor) -> Tensor:
        """Classify the images ``x``, shape ``(N, 3, H, W)``."""
        x = self.trans1(self.dense1(self.conv1(x)))
        x = self.dense3(self.trans2(self.dense2(x)))
        x = F.relu(self.bn(self.select(x)))
        return self.fc(F.adaptive_avg_pool2d(x, 1).flatten(1))


def cifar_densenet(
    depth: int = 40,
    num_classes: int = 10,
    growth: int = 12,
    stem: int | None = None,
    norm_scale: float = 0.5,
    selections: bool = True,
) -> CifarDenseNet:
    """Build a DenseNet for CIFAR, without bottlenecks or compression.

    Args:
        depth: number of weighted layers, 3n + 4 for n layers per block: 40 in the papers.
        num_classes: width of the output.
        growth: features that a layer adds.
        stem: features that the first convolution makes; twice the growth unless given, as in Network Slimming's
            release (16 in the papers).
        norm_scale: where the scales of the batch norms start; 0.5 for sparsity training, torch's own start is 1.
        selections: whether a ``ChannelSelect`` stands in front of every batch norm that reads the stream: then the
            readers can be narrowed one by one, while the stream stays whole. Without, the features themselves can be
            removed, and with them what all readers have of them.

    Returns:
        The network with fresh weights, for images ``(N, 3, H, W)``.

    Raises:
        ValueError: the depth is not 3n + 4, or a width is below 1.

    Source: Huang et al. 2017, "Densely Connected Convolutional Networks", section 4.1; Liu et al. 2017, "Learning
    Efficient Convolutional Networks through Network Slimming", section 4.2.
    """
    num_layers, remainder = divmod(depth - 4, 3)
    if remainder or num_layers < 1:
        raise ValueError(f"a CIFAR DenseNet has a depth of 3n + 4 (7, 10, 13, …, 40), got {depth}")
    stem = 2 * growth if stem is None else stem
    if growth < 1 or stem < 1:
        raise ValueError(f"growth is {growth} and stem is {stem}, but each is at least 1 channel")
    select = ChannelSelect if selections else _everything
    return CifarDenseNet(num_layers, num_classes, growth, stem, norm_scale, select)


def _everything(_width: int) -> nn.Module:
    return nn.Identity()


def _block(in_channels: int, growth: int, num_layers: int, select: Callable[[int], nn.Module]) -> nn.Sequential:
    widths = [in_channels + n * growth for n in range(num_layers)]
    return nn.Sequential(*(DenseLayer(width, growth, 3, select(width)) for width in widths))
