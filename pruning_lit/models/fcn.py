"""A small fully convolutional network with skip connections, for segmentation."""

from torch import Tensor, nn
from torch.nn import functional as F


class SmallFCN(nn.Module):
    """Three stages, each at half the resolution of the one before; their features are brought to one width and added.

    Shape: ``(N, 3, H, W)`` to logits ``(N, num_classes, H, W)``; H and W are multiples of 4.

    Source: Long et al. 2015, "Fully Convolutional Networks for Semantic Segmentation", section 4.2 (skip connections);
    the sizes are our own.
    """

    def __init__(self, num_classes: int, width: int) -> None:
        super().__init__()
        widths = [width, 2 * width, 4 * width]
        self.stages = nn.ModuleList(
            nn.Sequential(_conv(incoming, outgoing), _conv(outgoing, outgoing))
            for incoming, outgoing in zip([3, *widths[:-1]], widths, strict=True)
        )
        self.laterals = nn.ModuleList(_conv(each, 2 * width, size=1) for each in widths)
        self.head = _conv(2 * width, 2 * width)
        self.classifier = nn.Conv2d(2 * width, num_classes, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Logits of images."""
        features = []
        for number, stage in enumerate(self.stages):
            x = stage(x if number == 0 else F.max_pool2d(x, 2))
            features.append(x)
        x = self.laterals[2](features[2])
        for number in (1, 0):
            x = self.laterals[number](features[number]) + F.interpolate(x, scale_factor=2.0, mode="bilinear")
        return self.classifier(self.head(x))


def _conv(incoming: int, outgoing: int, size: int = 3) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(incoming, outgoing, size, padding=size // 2, bias=False), nn.BatchNorm2d(outgoing), nn.ReLU()
    )


def small_fcn(num_classes: int = 11, width: int = 16) -> SmallFCN:
    """A fully convolutional network of 85,723 parameters, as it is by default.

    Args:
        num_classes: number of classes, background included.
        width: channels of the first stage; the next have two and four times as many.
    """
    if width < 1:
        raise ValueError(f"arch.width must be at least 1, got {width}")
    return SmallFCN(num_classes, width)
