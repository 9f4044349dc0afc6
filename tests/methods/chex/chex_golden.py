"""CHEX's golden network, a small bottleneck ResNet, filled from one of the recorded snapshots.

Source of the files: the released masking and choosing functions, run with seeded inputs, on the CPU.
"""

import json
from collections.abc import Callable
from math import prod

import numpy as np
import torch
from torch import Tensor, nn

from pruning_lit.channels import ChannelGraph, insert_scatters, trace
from tests.places import VECTORS

FOLDER = VECTORS / "chex"
COUNTER = "num_batches_tracked"  # of batch norms: not recorded
DEPTHS, STRIDES = (3, 4, 6, 3), (1, 2, 2, 2)


class Bottleneck(nn.Module):
    """Three convolutions beside the identity or a projection; the stride is that of the second one, or the first."""

    def __init__(
        self,
        inputs: int,
        inner: int,
        outputs: int,
        stride: int,
        projection: bool,
        norm: Callable[[int], nn.Module] = nn.BatchNorm2d,
        stride_first: bool = False,
    ) -> None:
        super().__init__()
        first, second = (stride, 1) if stride_first else (1, stride)
        self.conv1, self.bn1 = nn.Conv2d(inputs, inner, 1, first, bias=False), norm(inner)
        self.conv2, self.bn2 = nn.Conv2d(inner, inner, 3, second, 1, bias=False), norm(inner)
        self.conv3, self.bn3 = nn.Conv2d(inner, outputs, 1, bias=False), norm(outputs)
        self.downsample = nn.Sequential()
        if projection:
            self.downsample = nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride, bias=False), norm(outputs))

    def forward(self, x: Tensor) -> Tensor:
        inner = self.bn2(self.conv2(self.bn1(self.conv1(x)).relu())).relu()
        return (self.bn3(self.conv3(inner)) + self.downsample(x)).relu()


class BottleneckNet(nn.Module):
    """A stem without pooling, and 3, 4, 6, 3 bottlenecks, under torchvision's names."""

    def __init__(self, inner: list[int], outputs: list[int], stem: int, num_classes: int) -> None:
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(3, stem, 3, padding=1, bias=False), nn.BatchNorm2d(stem)
        width, stages = stem, []
        for depth, stride, mid, out in zip(DEPTHS, STRIDES, inner, outputs, strict=True):
            first = Bottleneck(width, mid, out, stride, projection=True)
            stages.append(
                nn.Sequential(first, *(Bottleneck(out, mid, out, 1, projection=False) for _ in range(depth - 1)))
            )
            width = out
        self.layer1, self.layer2, self.layer3, self.layer4 = stages
        self.fc = nn.Linear(width, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        x = self.bn1(self.conv1(x)).relu()
        for stage in (self.layer1, self.layer2, self.layer3, self.layer4):
            x = stage(x)
        return self.fc(x.mean((2, 3)))


class Golden:
    """One file of snapshots, or of a training.

    Attributes:
        meta: what the JSON file says.
        example: an image of zeros.
    """

    def __init__(self, name: str) -> None:
        self.meta = json.loads((FOLDER / f"{name}.json").read_text())
        self.arrays = dict(np.load(FOLDER / f"{name}.npz"))
        self.example = torch.zeros(1, 3, 16, 16)

    def __getitem__(self, name: str) -> Tensor:
        return torch.from_numpy(self.arrays[name])

    def snapshot(self, name: str) -> dict[str, Tensor]:
        """Tensors by name; what the network counts itself is missing."""
        vector = self[name]
        return {each: vector[start : start + prod(shape)].view(shape) for each, shape, start in self.meta["layout"]}

    def build(self, name: str) -> nn.Module:
        """The network of a snapshot, with its scatters behind shortcuts, in float32."""
        net = BottleneckNet(*(self.meta[key] for key in ("inner", "outs", "stem", "num_classes")))
        missing, unexpected = net.load_state_dict(self.snapshot(name), strict=False)
        assert unexpected == []
        assert all(each.endswith(COUNTER) for each in missing)
        insert_scatters(net, self.example)
        return net

    def graph(self, net: nn.Module) -> ChannelGraph:
        """Its trace."""
        return trace(net, self.example.to(next(net.parameters())))
