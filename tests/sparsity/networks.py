"""Networks that sparsities are tried on, each traced once."""

from functools import cache

import torch
from torch import Tensor, nn

from pruning_lit.channels import ChannelGraph, trace
from pruning_lit.models import cifar_resnet, torchvision_model, vgg_bn


@cache
def traced(arch: str) -> ChannelGraph:
    """The graph of a network by its name in the golden tables.

    ``_tied``: the stem belongs to the first stream; ``_option_b``: with 1x1 convolutions for shortcuts.
    """
    if arch == "resnet_50":
        return trace(torchvision_model("resnet50"), torch.zeros(1, 3, 224, 224))
    if arch == "vgg_16_bn":
        return trace(vgg_bn(16), torch.zeros(1, 3, 32, 32))
    depth, _, form = arch.removeprefix("resnet_").partition("_")
    if form == "option_b":
        return trace(cifar_resnet(int(depth), shortcut=form), torch.zeros(1, 3, 32, 32))
    return trace(cifar_resnet(int(depth), stem=form or "select"), torch.zeros(1, 3, 32, 32))


@cache
def plain(*widths: int) -> ChannelGraph:
    """3x3 convolutions called 0, 1, … on 8x8 pixels, and a classifier: every group but the last is a layer."""
    ends = zip((3, *widths[:-1]), widths, strict=True)
    convolutions = [nn.Conv2d(c_in, c_out, 3, padding=1) for c_in, c_out in ends]
    net = nn.Sequential(*convolutions, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(widths[-1], 4))
    return trace(net, torch.zeros(1, 3, 8, 8))


def noise(graph: ChannelGraph, seed: int = 0) -> dict[str, Tensor]:
    """Random scores for every group, larger by a power of ten from one group to the next."""
    generator = torch.Generator().manual_seed(seed)
    return {
        group.name: 10.0 ** (number % 3) * torch.rand(group.size, dtype=torch.float64, generator=generator)
        for number, group in enumerate(graph.groups)
    }


@cache
def halves(width: int, multiple: int = 1) -> ChannelGraph:
    """A convolution called ``pair`` of ``width`` channels whose halves are multiplied, so that two leave at once.

    Behind it a convolution called ``tail`` of ``8 * multiple`` channels, normalised in 8 runs of ``multiple``.
    """
    return trace(_Halves(width, multiple), torch.zeros(1, 3, 8, 8))


class _Halves(nn.Module):
    def __init__(self, width: int, multiple: int) -> None:
        super().__init__()
        self.pair = nn.Conv2d(3, width, 3, padding=1)
        self.tail = nn.Conv2d(width // 2, 8 * multiple, 3, padding=1)
        self.norm = nn.GroupNorm(8, 8 * multiple)
        self.classifier = nn.Linear(8 * multiple, 4)

    def forward(self, x: Tensor) -> Tensor:
        left, right = self.pair(x).chunk(2, dim=1)
        return self.classifier(self.norm(self.tail(left * right)).mean((2, 3)))
