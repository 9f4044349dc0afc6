"""Tiny networks, one for each way of building that people use, for ``test_constructions``."""

import math
import sys

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint
from torchvision.ops import DeformConv2d, FrozenBatchNorm2d


def conv(inputs: int, outputs: int, kernel: int = 3, **options: object) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2, **options)


class Built(nn.Module):
    """A convolution ``first`` of eight channels, what is tried, a convolution ``last``, and a classifier."""

    width = 8  # of what is tried

    def __init__(self) -> None:
        super().__init__()
        self.first, self.norm = conv(3, 8), nn.BatchNorm2d(8)
        self.build()
        self.last, self.classify = conv(self.width, 6), nn.Linear(6, 4)

    def build(self) -> None:
        """The layers of what is tried."""

    def between(self, x: Tensor) -> Tensor:
        return x

    def forward(self, image: Tensor) -> Tensor:
        inner = self.between(self.norm(self.first(image)).relu())
        return self.classify(self.last(inner).relu().mean((2, 3)))


class Residual(Built):
    def build(self):
        self.one, self.two = conv(8, 5), conv(5, 8)

    def between(self, x):
        return (x + self.two(self.one(x).relu())).relu()


class Concat(Built):
    width = 13

    def build(self):
        self.branch = conv(8, 5)

    def between(self, x):
        return torch.cat([x, self.branch(x)], 1)


class Twice(Built):
    width = 16

    def between(self, x):
        return torch.cat([x, x], 1)


class Mirrored(Built):
    width = 16

    def between(self, x):
        return F.relu(torch.cat([x, -x], 1))


class WithImage(Built):
    width = 11

    def forward(self, image):
        inner = torch.cat([image, self.first(image)], 1)
        return self.classify(self.last(inner).relu().mean((2, 3)))


class UNet(Built):
    width = 13

    def build(self):
        self.down, self.up = conv(8, 6, stride=2), nn.ConvTranspose2d(6, 5, 2, stride=2)

    def between(self, x):
        return torch.cat([x, self.up(self.down(x).relu())], 1)


class FlattenCHW(Built):
    def build(self):
        self.wide = nn.Linear(8 * 36, 7)

    def forward(self, image):
        return self.classify(self.squash(self.wide(self.first(image).relu().flatten(1)).relu()))

    def squash(self, x):
        return self.last(x[:, :, None, None].expand(-1, -1, 6, 6)).mean((2, 3))

    width = 7


class FlattenHWC(FlattenCHW):
    def forward(self, image):
        return self.classify(self.squash(self.wide(self.first(image).permute(0, 2, 3, 1).flatten(1)).relu()))


class ViewCHW(FlattenCHW):
    def forward(self, image):
        x = self.first(image)
        return self.classify(self.squash(self.wide(x.view(x.size(0), -1)).relu()))


class LeNetView(FlattenCHW):
    """The number of features is written down, the batch is not."""

    def forward(self, image):
        return self.classify(self.squash(self.wide(self.first(image).view(-1, 288)).relu()))


class Depthwise(Built):
    def build(self):
        self.deep = conv(8, 8, groups=8)

    def between(self, x):
        return self.deep(x).relu()


class Multiplied(Built):
    width = 16

    def build(self):
        self.deep = conv(8, 16, groups=8)

    def between(self, x):
        return self.deep(x).relu()


class Grouped(Built):
    def build(self):
        self.grouped = conv(8, 8, groups=4)

    def between(self, x):
        return self.grouped(x).relu()


class Transposed(Built):
    width = 5

    def build(self):
        self.up = nn.ConvTranspose2d(8, 5, 2, stride=2)

    def between(self, x):
        return self.up(x).relu()


class GroupedTransposed(Built):
    width = 12

    def build(self):
        self.up = nn.ConvTranspose2d(8, 12, 2, stride=2, groups=4)

    def between(self, x):
        return self.up(x).relu()


class SqueezeExcite(Built):
    def build(self):
        self.down, self.up = nn.Linear(8, 3), nn.Linear(3, 8)

    def between(self, x):
        return x * self.up(self.down(x.mean((2, 3))).relu()).sigmoid()[:, :, None, None]


class GLU(Built):
    width = 5

    def build(self):
        self.gate = conv(8, 10)

    def between(self, x):
        return F.glu(self.gate(x), 1)


class HandGLU(GLU):
    def between(self, x):
        value, gate = self.gate(x).chunk(2, 1)
        return value * gate.sigmoid()


class C2f(Built):
    width = 12

    def build(self):
        self.branch = conv(4, 4)

    def between(self, x):
        parts = list(x.chunk(2, 1))
        parts.append(self.branch(parts[-1]).relu())
        return torch.cat(parts, 1)


class C2fAttribute(C2f):
    """As the original writes it: the width of a half is an attribute."""

    def between(self, x):
        one, other = x.split((4, 4), 1)
        return torch.cat([one, other, self.branch(other).relu()], 1)


class CSP(Built):
    def build(self):
        self.left, self.right, self.inner = conv(8, 4, 1), conv(8, 4, 1), conv(4, 4)

    def between(self, x):
        return torch.cat([self.inner(self.left(x)).relu(), self.right(x)], 1)


class Halves(Built):
    def between(self, x):
        half = x.shape[1] // 2
        return torch.cat([x[:, half:], x[:, :half]], 1)


class Quarters(Built):
    width = 2

    def between(self, x):
        return sum(x.chunk(4, 1))


class Unequal(Built):
    """A quarter of the channels is convolved, in proportion to the width."""

    def build(self):
        self.partial = conv(2, 2)

    def between(self, x):
        part = x.shape[1] // 4
        one, other = x[:, :part], x[:, part:]
        return torch.cat([self.partial(one), other], 1)


class LiteralSlice(Built):
    width = 5

    def between(self, x):
        return x[:, :5]


class LiteralTail(Built):
    width = 5

    def between(self, x):
        return x[:, 3:]


class LiteralTreatment(Built):
    def between(self, x):
        return torch.cat([x[:, :4] * 2, x[:, 4:]], 1)


class LiteralInPlace(Built):
    def between(self, x):
        x = x.clone()
        x[:, :4] *= 3
        return x


class LiteralSplit(Built):
    def between(self, x):
        one, other = x.split([3, 5], 1)
        return torch.cat([other.sin(), one], 1)


class SizesAttribute(Built):
    """Widths of parts are a list of the module, as in MixNet."""

    def build(self):
        self.sizes = [3, 5]
        self.small, self.large = conv(3, 3), conv(5, 5, 5)

    def between(self, x):
        one, other = x.split(self.sizes, 1)
        return torch.cat([self.small(one), self.large(other)], 1)


class SizesBesideData(SizesAttribute):
    """What comes before the parts goes by the value of a tensor, as the anchors of a detector do."""

    def build(self):
        super().build()
        self.strides = torch.tensor([8.0, 16.0])

    def between(self, x):
        return super().between(x * float(self.strides[0]))


class WidthAttribute(Built):
    """Parts of one width, each convolved with the one before, as in Res2Net."""

    def build(self):
        self.part = 2
        self.convs = nn.ModuleList(conv(2, 2) for _ in range(3))

    def between(self, x):
        first, *others = x.split(self.part, 1)
        done = [first]
        for part, layer in zip(others, self.convs, strict=True):
            done.append(layer(part + done[-1]))
        return torch.cat(done, 1)


class HalvedAttribute(Built):
    """The width of a half is computed from an attribute, as in CSPNet."""

    def build(self):
        self.hidden, self.branch = 8, conv(4, 4)

    def between(self, x):
        one, other = x.split(self.hidden // 2, dim=1)
        return torch.cat([one, self.branch(other)], 1)


class RestAttribute(Built):
    """A part and the rest, as in FasterNet and SHViT."""

    def build(self):
        self.whole, self.part, self.partial = 8, 3, conv(3, 3)

    def between(self, x):
        one, other = torch.split(x, [self.part, self.whole - self.part], dim=1)
        return torch.cat([self.partial(one), other], 1)


class SliceAttribute(Built):
    """A shortcut is added to the first channels, as in ReXNet."""

    width = 11

    def build(self):
        self.given, self.wider = 8, conv(8, 11)

    def between(self, x):
        y = self.wider(x)
        return torch.cat([y[:, : self.given] + x, y[:, self.given :]], 1)


class NarrowAttribute(Built):
    def build(self):
        self.part, self.branch = 3, conv(3, 3)

    def between(self, x):
        part = x.narrow(1, 0, self.part)
        return torch.cat([self.branch(part), x[:, self.part :]], 1)


class SharedAttribute(Built):
    """One number for the parts of two runs."""

    def build(self):
        self.part, self.middle = 3, conv(8, 8)

    def between(self, x):
        one = torch.cat([x[:, : self.part] * 2, x[:, self.part :]], 1)
        two = self.middle(one)
        return torch.cat([two[:, : self.part].tanh(), two[:, self.part :]], 1)


class MultipleAttribute(Built):
    """Parts are multiples of a number, as in C2f and its kin."""

    def build(self):
        self.part, self.branch, self.last_part = 2, conv(4, 4), conv(2, 2)

    def between(self, x):
        one, other, rest = x[:, : 2 * self.part], x[:, 2 * self.part : self.part * 3], x[:, self.part * 3 :]
        return torch.cat([self.branch(one).relu(), other, self.last_part(rest)], 1)


class FractionAttribute(Built):
    """A part is half of a number that is no width itself."""

    def build(self):
        self.ratio, self.partial = 6, conv(3, 3)

    def between(self, x):
        return torch.cat([self.partial(x[:, : self.ratio // 2]), x[:, self.ratio // 2 :]], 1)


class Partial(nn.Module):
    def __init__(self, part):
        super().__init__()
        self.part, self.conv = part, conv(part, part)

    def forward(self, x, part):
        return torch.cat([self.conv(x[:, :part]), x[:, part:]], 1)


class ParentAttribute(Built):
    """The parent keeps the number, the child's code takes the channels apart."""

    def build(self):
        self.given, self.child = 3, Partial(3)
        del self.child.part

    def between(self, x):
        return self.child(x, self.given)


class ChildAttribute(Built):
    """The child keeps the number, the parent's code takes the channels apart."""

    def build(self):
        self.child = Partial(3)

    def between(self, x):
        one, other = x[:, : self.child.part], x[:, self.child.part :]
        return torch.cat([self.child.conv(one), other], 1)


class ViewAttribute(FlattenCHW):
    """The number of features is an attribute."""

    def build(self):
        super().build()
        self.features = 288

    def forward(self, image):
        return self.classify(self.squash(self.wide(self.first(image).view(-1, self.features)).relu()))


class GridAttribute(Built):
    """The width of a group in a grid is an attribute."""

    def build(self):
        self.heads, self.each = 2, 4

    def between(self, x):
        grid = x.reshape(x.shape[0], self.heads, self.each, *x.shape[2:])
        return (grid * grid.softmax(1)).flatten(1, 2)


class Unflattened(Built):
    width = 4

    def build(self):
        self.unflatten = nn.Unflatten(1, (2, 4))

    def between(self, x):
        return self.unflatten(x).amax(1)


class Coincidence(Built):
    """The number in the code happens to be that of an attribute, which has to do with something else."""

    def build(self):
        self.repeats, self.sizes = 4, [4, 4]

    def between(self, x):
        one, other = x.split((4, 4), 1)
        for _ in range(self.repeats):
            one = one * 1.5
        return torch.cat([one, other], 1)


class CoincidenceBesideData(Coincidence):
    """What comes before the parts goes by the value of a tensor."""

    def build(self):
        super().build()
        self.strides = torch.tensor([8.0, 16.0])

    def between(self, x):
        return super().between(x * float(self.strides[0]))


class LiteralView(Built):
    def between(self, x):
        return x.view(-1, 8, 36).mul(2).view(-1, 8, 6, 6)


class EveryOther(Built):
    width = 4

    def between(self, x):
        return x[:, ::2] - x[:, 1::2]


class List(Built):
    def between(self, x):
        return x[:, [7, 1, 2, 3, 4, 5, 6, 0]]


class Buffered(Built):
    width = 3

    def build(self):
        self.register_buffer("order", torch.tensor([5, 2, 0]))

    def between(self, x):
        return x.index_select(1, self.order)


class Shuffle(Built):
    def between(self, x):
        b, c, h, w = x.shape
        return x.view(b, 2, c // 2, h, w).transpose(1, 2).reshape(b, c, h, w)


class NativeShuffle(Built):
    def build(self):
        self.shuffle = nn.ChannelShuffle(4)

    def between(self, x):
        return self.shuffle(x)


class ShuffleUnit(Built):
    """ShuffleNet V2: split, convolve one half, concatenate, shuffle."""

    def build(self):
        self.branch = nn.Sequential(conv(4, 4, 1), conv(4, 4, groups=4), conv(4, 4, 1), nn.BatchNorm2d(4))

    def between(self, x):
        one, other = x.chunk(2, 1)
        return shuffled(torch.cat([one, self.branch(other).relu()], 1))


def shuffled(x: Tensor) -> Tensor:
    b, c, h, w = x.shape
    return x.view(b, 2, c // 2, h, w).transpose(1, 2).contiguous().view(b, -1, h, w)


class PixelShuffle(Built):
    width = 2

    def build(self):
        self.shuffle = nn.PixelShuffle(2)

    def between(self, x):
        return self.shuffle(x)


class PixelUnshuffle(Built):
    width = 32

    def build(self):
        self.shuffle = nn.PixelUnshuffle(2)

    def between(self, x):
        return self.shuffle(x)


class Maxout(Built):
    width = 4

    def between(self, x):
        b, c, h, w = x.shape
        return x.view(b, c // 2, 2, h, w).amax(2)


class MaxoutOuter(Built):
    width = 4

    def between(self, x):
        b, c, h, w = x.shape
        return x.view(b, 2, c // 2, h, w).max(1).values


class BareColon(Built):
    """``x[:, :, ::2]`` with its bare colons, as PyTorch has executed it up to 2.8."""

    def between(self, x):
        return torch.ops.aten.slice.Tensor(x, 1, 0, sys.maxsize)[..., ::2]


class PadChannels(Built):
    width = 12

    def between(self, x):
        return F.pad(x, (0, 0, 0, 0, 2, 2))


class OptionA(Built):
    width = 12

    def build(self):
        self.wider = conv(8, 12)

    def between(self, x):
        return F.relu(self.wider(x) + F.pad(x, (0, 0, 0, 0, 2, 2)))


class SharedNorm(Built):
    def build(self):
        self.one, self.two, self.shared = conv(8, 8), conv(8, 8), nn.BatchNorm2d(8)

    def between(self, x):
        return self.shared(self.one(x)) + self.shared(self.two(x)).relu()


class UsedTwice(Built):
    def build(self):
        self.again = conv(8, 8)

    def between(self, x):
        return self.again(self.again(x).relu())


class SharedHead(Built):
    """One head over two scales."""

    def build(self):
        self.down, self.head = conv(8, 8, stride=2), conv(8, 5)

    width = 5

    def between(self, x):
        small = self.head(self.down(x))
        return self.head(x) + F.interpolate(small, scale_factor=2.0)


class InstanceNorm(Built):
    def build(self):
        self.inner = nn.InstanceNorm2d(8, affine=True)

    def between(self, x):
        return self.inner(x)


class PlainInstanceNorm(Built):
    def build(self):
        self.inner = nn.InstanceNorm2d(8)

    def between(self, x):
        return self.inner(x)


class GroupNorm(Built):
    def build(self):
        self.inner = nn.GroupNorm(4, 8)

    def between(self, x):
        return self.inner(x)


class WholeGroupNorm(Built):
    def build(self):
        self.inner = nn.GroupNorm(1, 8)

    def between(self, x):
        return self.inner(x)


class LiteralGroupNorm(Built):
    def between(self, x):
        return F.group_norm(x, 4)


class LayerNormCHW(Built):
    def build(self):
        self.inner = nn.LayerNorm((8, 6, 6))

    def between(self, x):
        return self.inner(x)


class LayerNormHW(Built):
    def build(self):
        self.inner = nn.LayerNorm((6, 6))

    def between(self, x):
        return self.inner(x)


class LayerNormTokens(Built):
    """A ConvNeXt block: the stream is normalised over its channels, the hidden width is free."""

    def build(self):
        self.inner, self.up, self.down = nn.LayerNorm(8), nn.Linear(8, 9), nn.Linear(9, 8)
        self.scale = nn.Parameter(torch.rand(8))

    def between(self, x):
        y = self.down(F.gelu(self.up(self.inner(x.permute(0, 2, 3, 1)))))
        return x + (self.scale * y).permute(0, 3, 1, 2)


class FrozenNorm(Built):
    def build(self):
        self.one, self.inner = conv(8, 8), FrozenBatchNorm2d(8)

    def between(self, x):
        return self.inner(self.one(x)).relu()


class WeightNorm(Built):
    def build(self):
        self.normed = nn.utils.parametrizations.weight_norm(conv(8, 8))

    def between(self, x):
        return self.normed(x).relu()


class OldWeightNorm(Built):
    def build(self):
        self.normed = nn.utils.weight_norm(conv(8, 8))

    def between(self, x):
        return self.normed(x).relu()


class SpectralNorm(Built):
    def build(self):
        self.normed = nn.utils.parametrizations.spectral_norm(conv(8, 8))

    def between(self, x):
        return self.normed(x).relu()


class PReLU(Built):
    def build(self):
        self.act = nn.PReLU(8)

    def between(self, x):
        return self.act(x - 0.5)


class FreeVectors(Built):
    """Scales and shifts of every shape, as parameters and as buffers."""

    def build(self):
        self.scale = nn.Parameter(torch.rand(1, 8, 1, 1) + 0.5)
        self.shift = nn.Parameter(torch.randn(8))
        self.register_buffer("offset", torch.randn(8, 1, 1))

    def between(self, x):
        return x * self.scale + self.shift[:, None, None] - self.offset


class FreeMap(Built):
    """A position embedding of shape (1, C, H, W)."""

    def build(self):
        self.position = nn.Parameter(torch.randn(1, 8, 6, 6))

    def between(self, x):
        return x + self.position


class FixedVector(Built):
    """A plain attribute: nobody can find it in the state."""

    def build(self):
        self.fixed = torch.rand(8, 1, 1, dtype=torch.float64)

    def between(self, x):
        return x * self.fixed.to(x)


class OwnWeight(Built):
    width = 5

    def build(self):
        self.kernel = nn.Parameter(torch.randn(5, 8, 3, 3))

    def between(self, x):
        return F.conv2d(x, self.kernel, padding=1).relu()


class ScaledWeight(Built):
    width = 5

    def build(self):
        self.kernel = nn.Parameter(torch.randn(5, 8, 3, 3))

    def between(self, x):
        return F.conv2d(x, self.kernel * 0.5, padding=1).relu()


class Einsum(Built):
    width = 5

    def build(self):
        self.kernel = nn.Parameter(torch.randn(5, 8))

    def between(self, x):
        return torch.einsum("bchw,oc->bohw", x, self.kernel).relu()


class Matmul(Built):
    width = 5

    def build(self):
        self.kernel = nn.Parameter(torch.randn(8, 5))

    def between(self, x):
        return (x.permute(0, 2, 3, 1) @ self.kernel).permute(0, 3, 1, 2)


class Gram(Built):
    def forward(self, image):
        x = self.first(image).flatten(2)
        gram = x @ x.transpose(1, 2)
        return self.classify(self.last(gram[:, :, :, None].expand(-1, -1, -1, 4)).mean((2, 3)))


class SoftmaxChannels(Built):
    def between(self, x):
        return x * x.softmax(1)


class MeanChannels(Built):
    def between(self, x):
        return x - x.mean(1, keepdim=True)


class NormChannels(Built):
    """Every pixel has length one: what is removed adds nothing to the length."""

    def between(self, x):
        return F.normalize(x, dim=1)


class MaxChannels(Built):
    def between(self, x):
        return x - x.amax(1, keepdim=True)


class SpatialAttention(Built):
    def build(self):
        self.attend = conv(2, 1, 7)

    def between(self, x):
        summary = torch.cat([x.mean(1, keepdim=True), x.amax(1, keepdim=True)], 1)
        return x * self.attend(summary).sigmoid()


class ConvAttention(Built):
    """A map of shape (N, 1, H, W) by a convolution."""

    def build(self):
        self.attend = conv(8, 1, 1)

    def between(self, x):
        return x * self.attend(x).sigmoid()


class NonLocal(Built):
    def build(self):
        self.theta, self.phi, self.g, self.out = conv(8, 4, 1), conv(8, 4, 1), conv(8, 5, 1), conv(5, 8, 1)

    def between(self, x):
        b, _, h, w = x.shape
        query, key, value = (layer(x).flatten(2) for layer in (self.theta, self.phi, self.g))
        weights = (query.transpose(1, 2) @ key).softmax(-1)
        return x + self.out((value @ weights.transpose(1, 2)).view(b, -1, h, w))


class ScaledNonLocal(NonLocal):
    """The product is divided by a number that depends on the width."""

    def between(self, x):
        b, _, h, w = x.shape
        query, key, value = (layer(x).flatten(2) for layer in (self.theta, self.phi, self.g))
        weights = (query.transpose(1, 2) @ key / math.sqrt(query.shape[1])).softmax(-1)
        return x + self.out((value @ weights.transpose(1, 2)).view(b, -1, h, w))


class FixedScaleNonLocal(NonLocal):
    """The number that the product is divided by was computed when the network was built."""

    def build(self):
        super().build()
        self.scale = 4**-0.5

    def between(self, x):
        b, _, h, w = x.shape
        query, key, value = (layer(x).flatten(2).transpose(1, 2) for layer in (self.theta, self.phi, self.g))
        dropped = 0.5 if self.training else 0.0
        mixed = F.scaled_dot_product_attention(query, key, value, dropout_p=dropped, scale=self.scale)
        return x + self.out(mixed.transpose(1, 2).view(b, -1, h, w))


class ContextBlock(Built):
    """A sum over all pixels, weighed by a map of one channel, is added to each."""

    def build(self):
        self.weigh, self.change = conv(8, 1, 1), conv(8, 8, 1)

    def between(self, x):
        b, c, _, _ = x.shape
        weights = self.weigh(x).view(b, 1, -1).softmax(2).unsqueeze(3)
        context = x.view(b, 1, c, -1) @ weights
        return x + self.change(context.view(b, c, 1, 1))


class MultiHead(Built):
    def build(self):
        self.attention = nn.MultiheadAttention(8, 2, batch_first=True)

    def between(self, x):
        b, c, h, w = x.shape
        tokens = x.flatten(2).transpose(1, 2)
        tokens = tokens + self.attention(tokens, tokens, tokens, need_weights=False)[0]
        return tokens.transpose(1, 2).reshape(b, c, h, w)


class OwnAttention(Built):
    def build(self):
        self.qkv, self.project = nn.Linear(8, 24), nn.Linear(8, 8)

    def between(self, x):
        b, c, h, w = x.shape
        tokens = x.flatten(2).transpose(1, 2)
        q, k, v = self.qkv(tokens).reshape(b, h * w, 3, 2, -1).permute(2, 0, 3, 1, 4)
        mixed = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(b, h * w, -1)
        return x + self.project(mixed).transpose(1, 2).view(b, c, h, w)


class Unfold(Built):
    width = 72

    def between(self, x):
        b, _, h, w = x.shape
        return F.unfold(x, 3, padding=1).view(b, -1, h, w)


class LSTM(Built):
    def build(self):
        self.lstm = nn.LSTM(8, 5, batch_first=True, bidirectional=True)

    width = 10

    def between(self, x):
        b, _, h, w = x.shape
        return self.lstm(x.flatten(2).transpose(1, 2))[0].transpose(1, 2).reshape(b, -1, h, w)


class FiLM(Built):
    def build(self):
        self.modulate = nn.Linear(8, 16)

    def between(self, x):
        scale, shift = self.modulate(x.mean((2, 3))).chunk(2, 1)
        return (1 + scale[:, :, None, None]) * x + shift[:, :, None, None]


class StackMean(Built):
    def build(self):
        self.one, self.two = conv(8, 8), conv(8, 8)

    def between(self, x):
        return torch.stack([self.one(x), self.two(x), x]).mean(0)


class Resized(Built):
    def build(self):
        self.down = conv(8, 8, stride=2)

    def between(self, x):
        return x + F.interpolate(self.down(x), size=x.shape[2:], mode="bilinear")


class Detached(Built):
    def build(self):
        self.branch = conv(8, 8)

    def between(self, x):
        with torch.no_grad():
            still = self.branch(x)
        return x.detach() + still


class Frozen(Built):
    def build(self):
        self.branch = conv(8, 8)
        self.branch.requires_grad_(False)

    def between(self, x):
        return self.branch(x).relu()


class Checkpointed(Built):
    def build(self):
        self.branch = nn.Sequential(conv(8, 5), nn.ReLU(), conv(5, 8))

    def between(self, x):
        return x + checkpoint(self.branch, x, use_reentrant=False)


class TwoOutputs(Built):
    def build(self):
        self.head = conv(8, 3)

    def forward(self, image):
        inner = self.norm(self.first(image)).relu()
        return self.classify(self.last(inner).mean((2, 3))), self.head(inner)


class DictOutput(Built):
    """A feature map that is also an output."""

    def forward(self, image):
        inner = self.norm(self.first(image)).relu()
        last = self.last(inner)
        return {"classes": self.classify(last.mean((2, 3))), "map": inner}


class WidthScale(Built):
    """A number that is computed from the width."""

    def between(self, x):
        return x * x.shape[1] ** -0.5


class TensorScale(Built):
    """The same, hidden in a tensor."""

    def between(self, x):
        return x * torch.tensor(float(x.shape[1])).rsqrt()


class WidthBranch(Built):
    """Another course for another width."""

    def between(self, x):
        return x.relu() if x.shape[1] == 8 else x.tanh()


class Asserted(Built):
    def between(self, x):
        assert x.shape[1] == 8, f"expected 8 channels, got {x.shape[1]}"
        return x


class Written(Built):
    """Two maps are written into one tensor made for them."""

    width = 16

    def between(self, x):
        both = x.new_zeros(x.shape[0], 16, *x.shape[2:])
        both[:, :8] = x
        both[:, 8:] = -x
        return both


class Roi(Built):
    """Rows of a tensor are filled one level after the other, as detectors do."""

    def between(self, x):
        result = torch.zeros(x.shape[0], x.shape[1], 6, 6, dtype=x.dtype, device=x.device)
        result[torch.arange(x.shape[0], device=x.device)] = x * 2
        return result


class Summed(Built):
    """One sum over all channels beside the map."""

    width = 9

    def between(self, x):
        return torch.cat([x, x.sum(1, keepdim=True)], 1)


class Masked(Built):
    """Removed channels are not zero any more when they are summed."""

    width = 9

    def between(self, x):
        return torch.cat([x, x.sigmoid().sum(1, keepdim=True)], 1)


class SplitAttention(Built):
    """ResNeSt: two sets of channels, weighed against each other."""

    def build(self):
        self.pair, self.weigh = conv(8, 16), nn.Linear(8, 16)

    def between(self, x):
        y = self.pair(x)
        b, _, h, w = y.shape
        sets = y.view(b, 2, -1, h, w)
        weights = self.weigh(sets.sum(1).mean((2, 3))).view(b, 2, -1).softmax(1)
        return (sets * weights[:, :, :, None, None]).sum(1)


class Standardised(Built):
    """The kernel that is used is computed from the stored one."""

    def build(self):
        self.standard = conv(8, 8)

    def between(self, x):
        weight = self.standard.weight
        weight = (weight - weight.mean((1, 2, 3), keepdim=True)) / weight.std((1, 2, 3), keepdim=True)
        return F.conv2d(x, weight, self.standard.bias, padding=1)


class Dynamic(Built):
    """The kernel is predicted."""

    def build(self):
        self.predict = nn.Linear(8, 64)

    def between(self, x):
        return F.conv2d(x, self.predict(x.mean((0, 2, 3))).view(8, 8, 1, 1))


class Ghost(Built):
    """The literal width of the whole cuts nothing off."""

    def build(self):
        self.primary, self.cheap = conv(8, 4, 1), conv(4, 4, groups=4)

    def between(self, x):
        x = self.primary(x)
        return torch.cat([x, self.cheap(x)], 1)[:, :8]


class Focus(Built):
    width = 32

    def between(self, x):
        return torch.cat([x[..., i::2, j::2] for i in (0, 1) for j in (0, 1)], 1)


class TemporalShift(Built):
    """A quarter of the channels moves on by one row."""

    def between(self, x):
        part = x.shape[1] // 4
        shifted = torch.zeros_like(x)
        shifted[:, :part, 1:] = x[:, :part, :-1]
        shifted[:, part:] = x[:, part:]
        return shifted


class Tiled(Built):
    width = 16

    def between(self, x):
        return x.repeat(1, 2, 1, 1)


class Addmm(Built):
    def build(self):
        self.kernel, self.bias = nn.Parameter(torch.randn(8, 8)), nn.Parameter(torch.randn(8))

    def between(self, x):
        b, c, h, w = x.shape
        tokens = torch.addmm(self.bias, x.permute(0, 2, 3, 1).reshape(-1, c), self.kernel)
        return tokens.view(b, h, w, -1).permute(0, 3, 1, 2)


class Zeroed(Built):
    def between(self, x):
        x = x.clone()
        x[:, :, 0] = 0
        return x


class TopChannels(Built):
    def between(self, x):
        return x.topk(8, dim=1).values


class SortedPixels(Built):
    def between(self, x):
        return x.flatten(2).sort(-1).values.view_as(x)


class TopPixels(Built):
    def between(self, x):
        return x.flatten(2).topk(5).values[..., None].expand(-1, -1, -1, 6)


class OrderStatistics(Built):
    """Median, mode, quantile and the extremes of every map."""

    def between(self, x):
        pixels = x.flatten(2)
        low, high = torch.aminmax(pixels, dim=-1)
        middle = pixels.median(-1).values + pixels.kthvalue(3, -1).values + pixels.quantile(0.3, -1)
        return x - (middle + low + high)[..., None, None]


class RunningPixels(Built):
    def between(self, x):
        return x.cummax(-1).values + x.cumprod(2) + x.logcumsumexp(-1)


class GatheredPixels(Built):
    def between(self, x):
        pixels = x.flatten(2)
        ordered = pixels.gather(2, pixels.argsort(-1)).view_as(x)
        order = torch.tensor([3, 2, 1, 0, 4, 5], device=x.device).view(1, 1, 1, 6)
        return ordered.take_along_dim(order, -1)


class GatheredChannels(Built):
    width = 2

    def between(self, x):
        order = torch.tensor([3, 2], device=x.device).view(1, 2, 1, 1)
        return x.gather(1, order.expand(x.shape[0], -1, *x.shape[2:]))


class ScatteredPixels(Built):
    """The largest pixels stay where they are, and sums over rows take the place of others."""

    def between(self, x):
        pixels = x.flatten(2)
        values, places = pixels.topk(9)
        largest = torch.zeros_like(pixels).scatter_(2, places, values).view_as(x)
        rows = (torch.arange(36, device=x.device) // 6).expand_as(pixels)
        sums = x.new_zeros(*x.shape[:2], 6).scatter_add(2, rows, pixels)
        return largest + sums[..., None] + x.new_zeros(x.shape).index_add(2, rows[0, 0, ::6], x)


class PickedPoints(Built):
    """Neighbours of every point, by two lists, as in networks for point clouds; and by a mask."""

    def between(self, x):
        points = x.flatten(2).transpose(1, 2)
        batch = torch.arange(len(points), device=x.device)[:, None, None]
        near = (torch.arange(36 * 3, device=x.device) % 36).view(1, 36, 3)
        largest = points[batch, near].amax(2).transpose(1, 2).unflatten(2, (6, 6))
        return largest + x[:, :, torch.ones(6, 6, dtype=torch.bool, device=x.device)].unflatten(2, (6, 6))


class LargerOf(Built):
    def build(self):
        self.one, self.two = conv(8, 8), conv(8, 8)

    def between(self, x):
        return torch.min(torch.max(self.one(x), self.two(x)), x)


class PaddedByOthers(Built):
    """Zeros are not the only thing that people pad with."""

    width = 5

    def build(self):
        modes = ("circular", "reflect", "replicate")
        self.inner = nn.ModuleList(nn.Conv2d(8, 5, 3, padding=1, padding_mode=mode) for mode in modes)

    def between(self, x):
        return sum(layer(x) for layer in self.inner)


class Volumes(Built):
    """Padding, pooling, resizing and sampling in three dimensions."""

    def build(self):
        self.deep = nn.Conv3d(8, 8, 3, padding=1)

    def between(self, x):
        x = self.deep(torch.stack([x, x * 2, x.sin(), x.cos()], 2))
        for mode in ("circular", "reflect", "replicate"):
            x = F.pad(x, (1, 1, 1, 1, 1, 1), mode=mode)
        x = F.interpolate(F.max_pool3d(x, 2) + F.avg_pool3d(x, 2), scale_factor=2.0, mode="nearest-exact")
        grid = torch.linspace(-0.5, 0.5, 432, device=x.device, dtype=x.dtype).view(1, 4, 6, 6, 3)
        seen = F.grid_sample(x, grid.expand(len(x), -1, -1, -1, -1), align_corners=False)
        return (seen + F.adaptive_max_pool3d(x, 1) + F.adaptive_avg_pool3d(x, 1)).mean(2)


class Unpooled(Built):
    """SegNet: maxima go back to where they came from."""

    def build(self):
        self.inner = conv(8, 8)

    def between(self, x):
        pooled, places = F.max_pool2d(x, 2, return_indices=True)
        return F.max_unpool2d(self.inner(pooled), places, 2)


class Deformable(Built):
    width = 5

    def build(self):
        self.offset, self.inner = conv(8, 18), DeformConv2d(8, 5, 3, padding=1)

    def between(self, x):
        return self.inner(x, self.offset(x) / 9).relu()


class ModulatedDeformable(Built):
    """With a mask, two sets of offsets, and no bias."""

    width = 5

    def build(self):
        self.offset, self.mask, self.inner = conv(8, 36), conv(8, 18), DeformConv2d(8, 5, 3, padding=1, bias=False)

    def between(self, x):
        return self.inner(x, self.offset(x) / 9, self.mask(x).sigmoid())


class GroupedDeformable(Built):
    def build(self):
        self.offset, self.inner = conv(8, 18), DeformConv2d(8, 8, 3, padding=1, groups=4)

    def between(self, x):
        return self.inner(x, self.offset(x) / 9)


class Blur(Built):
    """A fixed filter for each channel, in a buffer."""

    def build(self):
        self.register_buffer("blur", torch.rand(8, 1, 3, 3))

    def between(self, x):
        return F.conv2d(x, self.blur, padding=1, groups=x.shape[1])


class OneBlur(Built):
    """The same fixed filter for all channels."""

    def build(self):
        self.register_buffer("blur", torch.rand(3, 3))

    def between(self, x):
        return F.conv2d(x, self.blur.expand(x.shape[1], 1, 3, 3), padding=1, groups=x.shape[1])


class RepeatedBlur(Built):
    def build(self):
        self.register_buffer("blur", torch.rand(1, 1, 3, 3))

    def between(self, x):
        return F.conv2d(x, self.blur.repeat(x.shape[1], 1, 1, 1), padding=1, groups=x.shape[1])


class FixedProjection(Built):
    width = 5

    def build(self):
        self.register_buffer("kernel", torch.randn(8, 5))

    def between(self, x):
        return (x.permute(0, 2, 3, 1) @ self.kernel).permute(0, 3, 1, 2)


class Codebook(Built):
    """Every pixel becomes the nearest row of a buffer."""

    def build(self):
        self.register_buffer("book", torch.randn(5, 8))

    def between(self, x):
        pixels = x.movedim(1, -1)
        distance = (self.book**2).sum(1) - 2 * pixels @ self.book.t()
        return F.embedding(distance.argmin(-1), self.book).movedim(-1, 1)


class Conditional(Built):
    """A row of an embedding, and one of a matrix, is added to the channels."""

    def build(self):
        self.embed, self.table = nn.Embedding(5, 8), nn.Parameter(torch.randn(4, 8))

    def between(self, x):
        rows = torch.arange(len(x), device=x.device) % 3
        return x + (self.embed(rows) + self.table[rows])[:, :, None, None]


class WeightStatistics(Built):
    """Numbers made of weights: what is removed has a part in them."""

    def build(self):
        self.inner, self.scale = conv(8, 8), nn.Parameter(torch.rand(8, 1, 1, 1))

    def between(self, x):
        weight = self.inner.weight * self.scale
        return self.inner(x) * weight.mean() + self.first.weight.exp().amax()


class WeightLength(Built):
    """What is removed adds nothing to the length of a weight."""

    def between(self, x):
        return x / (1 + self.last.weight.square().sum() + self.first.weight.norm())


class MovedInPlace(Built):
    def between(self, x):
        moved = x.neg().flatten(2).unsqueeze_(-1).squeeze_(-1).transpose_(1, 2) * 2
        return moved.transpose(1, 2).unflatten(2, (6, 6)).abs_().rot90(1, (2, 3))


#: What may be cut: the layers that write prunable channels, as ``first``; the rest must be protected, with a reason.
PRUNABLE: dict[type[Built], str] = {
    Residual: "first one two last",
    BareColon: "first last",
    Concat: "first branch last",
    Twice: "first last",
    Mirrored: "first last",
    WithImage: "first last",
    UNet: "first down up last",
    FlattenCHW: "first wide last",
    FlattenHWC: "first wide last",
    ViewCHW: "first wide last",
    LeNetView: "wide last",
    Depthwise: "first deep last",
    Multiplied: "first deep last",
    Grouped: "first grouped last",
    Transposed: "first up last",
    GroupedTransposed: "first up last",
    SqueezeExcite: "first down up last",
    GLU: "first gate last",
    HandGLU: "first gate last",
    C2f: "first branch last",
    C2fAttribute: "branch last",
    CSP: "first left right inner last",
    Halves: "first last",
    Quarters: "first last",
    Unequal: "first partial last",
    LiteralSlice: "first last",
    LiteralTail: "first last",
    LiteralTreatment: "first last",
    LiteralInPlace: "first last",
    LiteralSplit: "last",
    SizesAttribute: "first small large last",
    SizesBesideData: "first small large last",
    WidthAttribute: "first convs.0 convs.1 convs.2 last",
    HalvedAttribute: "first branch last",
    RestAttribute: "first partial last",
    SliceAttribute: "first wider last",
    NarrowAttribute: "first branch last",
    SharedAttribute: "first middle last",
    MultipleAttribute: "first branch last_part last",
    FractionAttribute: "first partial last",
    ParentAttribute: "first child.conv last",
    ChildAttribute: "first child.conv last",
    ViewAttribute: "first wide last",
    GridAttribute: "first last",
    Unflattened: "first last",
    Coincidence: "last",
    CoincidenceBesideData: "last",
    LiteralView: "last",
    EveryOther: "first last",
    List: "last",
    Buffered: "last",
    Shuffle: "first last",
    NativeShuffle: "first last",
    ShuffleUnit: "first branch.0 branch.1 branch.2 last",
    PixelShuffle: "first last",
    PixelUnshuffle: "first last",
    Maxout: "first last",
    MaxoutOuter: "first last",
    PadChannels: "first last",
    OptionA: "first wider last",
    SharedNorm: "first one two last",
    UsedTwice: "first again last",
    SharedHead: "first down head last",
    InstanceNorm: "first last",
    PlainInstanceNorm: "first last",
    GroupNorm: "first last",
    WholeGroupNorm: "last",
    LiteralGroupNorm: "last",
    LayerNormCHW: "last",
    LayerNormHW: "first last",
    LayerNormTokens: "up last",
    FrozenNorm: "first one last",
    WeightNorm: "normed last",
    OldWeightNorm: "normed last",
    SpectralNorm: "last",
    PReLU: "first last",
    FreeVectors: "first last",
    FreeMap: "first last",
    FixedVector: "last",
    OwnWeight: "first kernel last",
    ScaledWeight: "first kernel last",
    Einsum: "first kernel last",
    Matmul: "first kernel last",
    Gram: "last",
    SoftmaxChannels: "last",
    MeanChannels: "last",
    NormChannels: "first last",
    MaxChannels: "last",
    SpatialAttention: "last",
    ConvAttention: "first last",
    NonLocal: "first theta phi g out last",
    ScaledNonLocal: "first g out last",
    FixedScaleNonLocal: "first theta phi g out last",
    ContextBlock: "first change last",
    MultiHead: "last",
    OwnAttention: "first project last",
    Unfold: "first last",
    LSTM: "first last",
    FiLM: "first modulate last",
    StackMean: "first one two last",
    Resized: "first down last",
    Detached: "first branch last",
    Frozen: "first branch last",
    Checkpointed: "first branch.0 branch.2 last",
    TwoOutputs: "first last",
    DictOutput: "last",
    WidthScale: "last",
    TensorScale: "last",
    WidthBranch: "last",
    Asserted: "last",
    Written: "last",
    Roi: "first last",
    Summed: "first last",
    Masked: "last",
    SplitAttention: "first pair weigh last",
    Standardised: "last",
    Dynamic: "last",
    Ghost: "first primary cheap last",
    Focus: "first last",
    TemporalShift: "first last",
    Tiled: "first last",
    Addmm: "first kernel last",
    Zeroed: "first last",
    TopChannels: "last",
    SortedPixels: "first last",
    TopPixels: "first last",
    OrderStatistics: "first last",
    RunningPixels: "first last",
    GatheredPixels: "first last",
    GatheredChannels: "last",
    ScatteredPixels: "first last",
    PickedPoints: "first last",
    LargerOf: "first one two last",
    PaddedByOthers: "first inner.0 inner.1 inner.2 last",
    Volumes: "first deep last",
    Unpooled: "first inner last",
    Deformable: "first inner last",
    ModulatedDeformable: "first inner last",
    GroupedDeformable: "first inner last",
    Blur: "first blur last",
    OneBlur: "first last",
    RepeatedBlur: "first last",
    FixedProjection: "first kernel last",
    Codebook: "first last",
    Conditional: "first last",
    WeightStatistics: "last",
    WeightLength: "first last",
    MovedInPlace: "first last",
}
