"""Tiny networks that do something else in training, return something odd, or remember: for ``test_constructions``."""

import random
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tests.channels.constructions import Built, conv


class OnlyReturnedInTraining(Built):
    """A head that always runs, and whose classes are returned in training only."""

    def build(self):
        self.aux = conv(8, 3)

    def forward(self, image):
        inner = self.norm(self.first(image)).relu()
        aux, classes = self.aux(inner), self.classify(self.last(inner).relu().mean((2, 3)))
        return [classes, aux] if self.training else classes


class OnlyRunInTraining(OnlyReturnedInTraining):
    """An auxiliary classifier, with a hidden layer of its own."""

    def build(self):
        self.aux = nn.Sequential(conv(8, 5), nn.ReLU(), conv(5, 3))

    def forward(self, image):
        return super().forward(image) if self.training else Built.forward(self, image)


class DeepSupervision(Built):
    """A list of maps from every depth in training, the last one alone else."""

    def build(self):
        self.middle, self.heads = conv(8, 8), nn.ModuleList([conv(8, 3), conv(8, 3), conv(6, 3)])

    def forward(self, image):
        maps = [self.norm(self.first(image)).relu()]
        maps.append(self.middle(maps[-1]).relu())
        maps.append(self.last(maps[-1]).relu())
        heads = zip(self.heads, maps, strict=True) if self.training else [(self.heads[-1], maps[-1])]
        return [head(each) for head, each in heads], self.classify(maps[-1].mean((2, 3)))


class ThroughAttribute(OnlyRunInTraining):
    """The mode is asked for on the way only, by another name."""

    def train(self, mode=True):
        self.also = mode
        return super().train(mode)

    def forward(self, image):
        inner = self.norm(self.first(image)).relu()
        classes = self.classify(self.last(inner).relu().mean((2, 3)))
        return (classes, self.aux(inner)) if self.also else classes

    also = True


class ThroughLayer(Built):
    """The mode is asked of a layer of PyTorch's."""

    def build(self):
        self.drop = nn.Dropout(0.1)

    def between(self, x):
        return torch.cat([x[:, :4] * 2, x[:, 4:]], 1) if self.drop.training else x


class AddedInTraining(Built):
    """A branch that joins the stream in training only."""

    def build(self):
        self.extra = conv(8, 8)

    def between(self, x):
        return x + self.extra(x) if self.training else x


class LiteralInTraining(Built):
    def between(self, x):
        return torch.cat([x[:, :4] * 2, x[:, 4:]], 1) if self.training else x


class DroppedPath(Built):
    """Stochastic depth, of a branch in which a channel number is written down."""

    def build(self):
        self.branch = conv(8, 8)

    def dropped(self) -> bool:
        return random.random() < 0.05

    def between(self, x):
        if self.training and not self.dropped():
            return x
        return x + self.branch(x)


class LiteralWhereDropped(DroppedPath):
    def between(self, x):
        if self.training and self.dropped():
            return torch.cat([x[:, :4] * 2, x[:, 4:]], 1)
        return x + self.branch(x)


class LiteralWhereKept(LiteralWhereDropped):
    def dropped(self) -> bool:
        return bool(torch.rand(()) > 0.95)


class DroppedByFactor(DroppedPath):
    """Stochastic depth for each picture, as timm and torchvision have it."""

    def between(self, x):
        branch = self.branch(F.dropout(x, 0.3, self.training))
        if self.training:
            branch = branch * x.new_empty(len(x), 1, 1, 1).bernoulli_(0.7) / 0.7
        return x + branch


class Dropped(Built):
    """Dropout of every kind in front of a random decision."""

    def build(self):
        self.drop = nn.Sequential(nn.Dropout(), nn.Dropout2d(), nn.AlphaDropout(0.2))

    def between(self, x):
        x = self.drop(x)
        return x * 2 if self.training and bool(torch.rand(1) < 0.5) else x


class AlphaSum(Built):
    """Zeros become other numbers in training, and are summed."""

    width = 9

    def build(self):
        self.drop = nn.AlphaDropout(0.5)

    def between(self, x):
        return torch.cat([x, self.drop(x).sum(1, keepdim=True)], 1)


class Noise(Built):
    def between(self, x):
        return x + torch.randn_like(x) if self.training else x


class NormOfOnePixel(Built):
    """In training, one picture is too few for the batch norm."""

    def build(self):
        self.gate, self.inner = conv(8, 8, 1), nn.BatchNorm2d(8)

    def between(self, x):
        return x * self.inner(self.gate(x.mean((2, 3), keepdim=True))).sigmoid()


class OwnNormOfOnePixel(OnlyReturnedInTraining):
    def forward(self, image):
        mean = self.first(image).mean((2, 3))
        mean = F.batch_norm(mean, None, None, training=True) if self.training else mean
        inner = self.norm(self.first(image)).relu() * mean[:, :, None, None]
        aux, classes = self.aux(inner), self.classify(self.last(inner).relu().mean((2, 3)))
        return (classes, aux) if self.training else classes


class Slots:
    __slots__ = ("classes", "map")

    def __init__(self, classes: Tensor, inner: Tensor) -> None:
        self.classes, self.map = classes, inner


@dataclass(slots=True)
class Data:
    classes: Tensor
    map: Tensor


class Named(NamedTuple):
    classes: Tensor
    map: Tensor


class OddOutput(Built):
    """The inner map is an output, too, in something that is not a tensor, list, tuple or dict."""

    def wrap(self, classes, inner):
        return Slots(classes, inner)

    def forward(self, image):
        inner = self.norm(self.first(image)).relu()
        return self.wrap(self.classify(self.last(inner).relu().mean((2, 3))), inner)


class DataOutput(OddOutput):
    wrap = staticmethod(Data)


class NamedOutput(OddOutput):
    wrap = staticmethod(Named)


class SetOutput(OddOutput):
    def wrap(self, classes, inner):
        return classes, {inner}


class ViewOutput(OddOutput):
    def wrap(self, classes, inner):
        return {"classes": classes, "map": inner}.values()


class GeneratorOutput(OddOutput):
    def wrap(self, classes, inner):
        return classes, (each * 2 for each in [inner])


class ClosureOutput(OddOutput):
    def wrap(self, classes, inner):
        return classes, lambda: inner


class ArrayOutput(OddOutput):
    def wrap(self, classes, inner):
        return classes, inner.detach().numpy()


class CopiedArrayOutput(OddOutput):
    def wrap(self, classes, inner):
        return classes, inner.detach().numpy().copy()


class ListOutput(OddOutput):
    def wrap(self, classes, inner):
        return classes, inner.tolist()


class Kept(OddOutput):
    """The map is kept on the module."""

    def wrap(self, classes, inner):
        self.kept = {"maps": [inner]}
        return classes


class Remembers(Built):
    """Anchors are made in the first pass, and anew for every size of picture; every pass is counted and listed."""

    def build(self):
        self.anchors, self.sizes, self.passes = None, [], 0
        self.register_buffer("seen", torch.zeros(()))

    def between(self, x):
        if self.anchors is None or self.anchors.shape[-2:] != x.shape[-2:]:
            self.anchors = x.new_zeros(1, 1, *x.shape[-2:]) + 8
        self.sizes.append(tuple(x.shape[-2:]))
        self.passes += 1
        self.seen += 1
        return x * self.anchors


class RemembersGrid(Remembers):
    """The same, from a module below, in a dictionary by size."""

    def build(self):
        super().build()
        self.grids = {}

    def between(self, x):
        if x.shape[-2:] not in self.grids:
            self.grids[x.shape[-2:]] = torch.linspace(0, 1, x.shape[-1], dtype=x.dtype, device=x.device)
        return super().between(x) + self.grids[x.shape[-2:]]


#: As in ``constructions.PRUNABLE``.
PRUNABLE: dict[type[Built], str] = {
    OnlyReturnedInTraining: "first last",
    OnlyRunInTraining: "first last",
    DeepSupervision: "first middle last",
    ThroughAttribute: "first last",
    ThroughLayer: "first last",
    AddedInTraining: "first extra last",
    LiteralInTraining: "first last",
    DroppedPath: "first branch last",
    LiteralWhereDropped: "first branch last",
    LiteralWhereKept: "first branch last",
    DroppedByFactor: "first branch last",
    Dropped: "first last",
    AlphaSum: "last",
    Noise: "first last",
    NormOfOnePixel: "first gate last",
    OwnNormOfOnePixel: "first last",
    OddOutput: "last",
    DataOutput: "last",
    NamedOutput: "last",
    SetOutput: "last",
    ViewOutput: "last",
    GeneratorOutput: "last",
    ClosureOutput: "last",
    ArrayOutput: "last",
    CopiedArrayOutput: "last",
    ListOutput: "last",
    Kept: "last",
    Remembers: "first last",
    RemembersGrid: "first last",
}
