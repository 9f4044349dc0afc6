"""ResNet-50 as the body of a detector: of any width, with strides where the first ResNets had them."""

from collections.abc import Callable

from torch import nn
from torchvision.models.resnet import Bottleneck

BLOCKS = (3, 4, 6, 3)  # in the four stages


class ResNet50Body(nn.Sequential):
    """ResNet-50 without a classifier, by torchvision's names of layers; stride 2 is in the first 1x1 of a stage.

    torchvision's own has it in the 3x3 instead, with the same parameters.

    Args:
        width: channels of the stem, 64 in the paper.
        norm: number of channels to a normalisation layer.

    Source: He et al. 2016, "Deep Residual Learning for Image Recognition", table 1.
    """

    def __init__(self, width: int, norm: Callable[[int], nn.Module]) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, width, 7, 2, 3, bias=False)
        self.bn1 = norm(width)
        self.relu = nn.ReLU(inplace=True)
        self.maxpool = nn.MaxPool2d(3, 2, 1)
        incoming = width
        for number, blocks in enumerate(BLOCKS):
            inner, stride = width * 2**number, 1 if number == 0 else 2
            stage = nn.Sequential(_entry(incoming, inner, stride, norm))
            incoming = inner * Bottleneck.expansion
            stage.extend(Bottleneck(incoming, inner, norm_layer=norm) for _ in range(blocks - 1))
            self.add_module(f"layer{number + 1}", stage)
        for layer in self.modules():
            if isinstance(layer, nn.Conv2d):
                nn.init.kaiming_uniform_(layer.weight, a=1)


def _entry(incoming: int, inner: int, stride: int, norm: Callable[[int], nn.Module]) -> Bottleneck:
    """The first block of a stage, with a convolution in its shortcut."""
    outgoing = inner * Bottleneck.expansion
    shortcut = nn.Sequential(nn.Conv2d(incoming, outgoing, 1, stride, bias=False), norm(outgoing))
    block = Bottleneck(incoming, inner, stride, shortcut, norm_layer=norm)
    block.conv1.stride, block.conv2.stride = (stride, stride), (1, 1)
    return block
