"""VGG with batch normalisation for CIFAR, in the forms that the pruning papers use."""

from collections import OrderedDict
from typing import Literal

from torch import Tensor, nn

from pruning_lit.models.start import batch_norm_scales, kaiming_convolutions

# widths of the convolutions at 32x32, 16x16, 8x8, 4x4 and 2x2 pixels; a max-pool lies between two resolutions
WIDTHS: dict[int, tuple[tuple[int, ...], ...]] = {
    11: ((64,), (128,), (256,) * 2, (512,) * 2, (512,) * 2),
    13: ((64,) * 2, (128,) * 2, (256,) * 2, (512,) * 2, (512,) * 2),
    16: ((64,) * 2, (128,) * 2, (256,) * 3, (512,) * 3, (512,) * 3),
    19: ((64,) * 2, (128,) * 2, (256,) * 4, (512,) * 4, (512,) * 4),
}
POOLS: dict[str, type[nn.Module]] = {"average": nn.AvgPool2d, "max": nn.MaxPool2d}


class VGG(nn.Module):
    """Convolutions 3x3 with batch norm and ReLU, four max-pools, a last pool 2x2, a classifier.

    Layers are numbered from 1 along the depth: ``features.conv1``, ``features.bn1``, …; ``features.pool2`` follows the
    second one.

    Args:
        widths: output channels of the convolutions, one inner tuple per resolution.
        bias: whether the convolutions have a bias.
        classifier: from ``(N, last width)`` to the logits.
        norm_scale: where the scales of the batch norms start.
        pool: kind of the pool behind the last convolution, whose 2x2 pixels become one.

    Shape: ``(N, 3, 32, 32)`` to ``(N, num_classes)``.

    Source: Simonyan & Zisserman 2015, "Very Deep Convolutional Networks", table 1; batch norm and the smaller
    classifier as in Liu et al. 2017 and Sui et al. 2021.
    """

    def __init__(
        self,
        widths: tuple[tuple[int, ...], ...],
        bias: bool,
        classifier: nn.Module,
        norm_scale: float,
        pool: type[nn.Module] = nn.AvgPool2d,
    ) -> None:
        super().__init__()
        self.features = nn.Sequential(_convolutions(widths, bias))
        self.pool = pool(2)
        self.classifier = classifier
        self.norm_scale = norm_scale
        self.initialise()

    def initialise(self) -> None:
        """Draw the convolutions anew and set the scales back, at the present widths.

        A linear classifier starts as in Network Slimming's release, with small normal weights and no offsets; a
        classifier of several layers keeps what it has.
        """
        kaiming_convolutions(self)
        batch_norm_scales(self, self.norm_scale)
        if isinstance(self.classifier, nn.Linear):
            nn.init.normal_(self.classifier.weight, std=0.01)
            nn.init.zeros_(self.classifier.bias)

    def forward(self, x: Tensor) -> Tensor:
        """Classify the images ``x``, shape ``(N, 3, 32, 32)``."""
        return self.classifier(self.pool(self.features(x)).flatten(1))


def vgg_bn(
    depth: int = 16,
    num_classes: int = 10,
    classifier: Literal["linear", "mlp", "mlp_plain"] = "mlp",
    bias: bool = True,
    norm_scale: float = 1.0,
    pool: Literal["average", "max"] = "average",
) -> VGG:
    """Build a VGG with batch norm for 32x32 images.

    The defaults are CHIP's VGG-16-BN; Network Slimming's form has ``classifier="linear", bias=False, norm_scale=0.5``,
    ResRep's ``classifier="mlp_plain", bias=False, pool="max"``.

    Args:
        depth: 11, 13, 16 or 19; the name counts three classifier layers of the ImageNet form, so there are
            ``depth - 3`` convolutions.
        num_classes: width of the output.
        classifier: ``linear``: one linear layer. ``mlp``: linear to 512, batch norm, ReLU, linear. ``mlp_plain``: the
            same without batch norm.
        bias: whether the convolutions have a bias.
        norm_scale: where the scales of the batch norms start; 0.5 for sparsity training.
        pool: what the last 2x2 pixels become: their ``average`` or their ``max``.

    Returns:
        The network with fresh weights, for images ``(N, 3, 32, 32)``.

    Raises:
        ValueError: depth, classifier or pool are unknown.

    Source: Sui et al. 2021, "CHIP: CHannel Independence-based Pruning for Compact Neural Networks", section 4.1;
    Liu et al. 2017, "Learning Efficient Convolutional Networks through Network Slimming", section 4.2;
    Ding et al. 2021, "ResRep: Lossless CNN Pruning via Decoupling Remembering and Forgetting", as released.
    """
    if depth not in WIDTHS:
        raise ValueError(f"a VGG has a depth of {', '.join(map(str, WIDTHS))}, got {depth}")
    if classifier not in ("linear", "mlp", "mlp_plain"):
        raise ValueError(f"classifier is 'linear', 'mlp' or 'mlp_plain', got {classifier!r}")
    if pool not in POOLS:
        raise ValueError(f"pool is 'average' or 'max', got {pool!r}")
    last = WIDTHS[depth][-1][-1]
    head = nn.Linear(last, num_classes) if classifier == "linear" else _mlp(last, num_classes, classifier == "mlp")
    return VGG(WIDTHS[depth], bias, head, norm_scale, POOLS[pool])


def _convolutions(widths: tuple[tuple[int, ...], ...], bias: bool) -> OrderedDict[str, nn.Module]:
    layers: OrderedDict[str, nn.Module] = OrderedDict()
    in_channels, number = 3, 0
    for resolution in widths:
        if number:
            layers[f"pool{number}"] = nn.MaxPool2d(2)
        for width in resolution:
            number += 1
            layers[f"conv{number}"] = nn.Conv2d(in_channels, width, 3, padding=1, bias=bias)
            layers[f"bn{number}"] = nn.BatchNorm2d(width)
            layers[f"relu{number}"] = nn.ReLU()
            in_channels = width
    return layers


def _mlp(in_features: int, num_classes: int, norm: bool, hidden: int = 512) -> nn.Sequential:
    layers: OrderedDict[str, nn.Module] = OrderedDict(linear1=nn.Linear(in_features, hidden))
    if norm:
        layers["bn"] = nn.BatchNorm1d(hidden)
    return nn.Sequential(layers | OrderedDict(relu=nn.ReLU(), linear2=nn.Linear(hidden, num_classes)))
