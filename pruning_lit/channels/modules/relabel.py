"""Selection and scatter: two small modules that let a stream stay whole while a reader or writer of it is narrowed."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.conv import _ConvNd

from pruning_lit.channels.modules.attached import Attached, register
from pruning_lit.channels.modules.bn_folding import FoldedBatchNorm


class ChannelRelabel(nn.Module):
    """Give every output channel one input channel, or zeros, by a buffer.

    The buffer ``source`` has one entry per output channel: the position of the input channel that arrives there, or -1
    where nothing arrives. It is all the state there is, so surgery on either side is a rewriting of that one tensor.
    """

    source: Tensor

    def __init__(self, source: Sequence[int] | Tensor) -> None:
        super().__init__()
        source = torch.as_tensor(source, dtype=torch.int64)
        if source.ndim != 1 or source.numel() == 0:
            raise ValueError(f"expected a flat, non-empty list of source channels, got shape {tuple(source.shape)}")
        if int(source.min()) < -1:
            raise ValueError(f"source channels are positions from 0, or -1 for zeros; got {source.tolist()}")
        self.register_buffer("source", source)

    def arrivals(self, inputs_stay: Tensor) -> Tensor:
        """Output channels that still get an input channel once only some inputs stay; both one boolean per channel."""
        source = self.source.cpu()
        return (source >= 0) & inputs_stay[source.clamp(min=0)]

    def narrowed(self, inputs_stay: Tensor, outputs_stay: Tensor) -> Tensor:
        """The ``source`` of the module between a narrower input and a narrower output.

        Args:
            inputs_stay: one boolean per input channel.
            outputs_stay: one boolean per output channel.
        """
        number = inputs_stay.cumsum(0) - 1
        source = torch.where(self.arrivals(inputs_stay), number[self.source.cpu().clamp(min=0)], -1)
        return source[outputs_stay]

    def masked(self, inputs_stay: Tensor, outputs_stay: Tensor) -> Tensor:
        """The ``source`` that gives the same result at full width, with zeros for what is gone."""
        return torch.where(self.arrivals(inputs_stay) & outputs_stay, self.source.cpu(), -1)

    def extra_repr(self) -> str:
        """The width provided, shown by ``print(model)``."""
        return f"num_channels={self.source.numel()}"


class ChannelSelect(ChannelRelabel):
    """Let one reader of a stream take only some of its channels; the stream itself stays whole.

    Taking all channels costs nothing: the result is a view of the input then.

    Args:
        source: positions of the channels taken, ascending, or how many there are to take them all.

    Shape: ``(N, C, *)`` to ``(N, len(source), *)``.

    Raises:
        ValueError: the positions are not those of channels, or not ascending, each once.

    Source: Liu et al. 2017, "Learning Efficient Convolutional Networks through Network Slimming", section 4.4.
    """

    def __init__(self, source: Sequence[int] | Tensor | int) -> None:
        super().__init__(range(source) if isinstance(source, int) else source)
        if int(self.source.min()) < 0:
            raise ValueError("a selection takes existing channels only; use ChannelScatter to provide zeros")
        if bool((self.source.diff() <= 0).any()):  # so many of them as there are channels: then these are all, in order
            raise ValueError(f"a selection takes channels in ascending order, each once; got {self.source.tolist()}")

    def narrowed(self, inputs_stay: Tensor, outputs_stay: Tensor) -> Tensor:
        """The positions of the taken channels among those that stay; ValueError where one of them does not."""
        self._require(inputs_stay, outputs_stay)
        return super().narrowed(inputs_stay, outputs_stay)

    def masked(self, inputs_stay: Tensor, outputs_stay: Tensor) -> Tensor:
        """Unchanged: what is not taken any more is ignored by the reader, whose weights for it are zero."""
        self._require(inputs_stay, outputs_stay)
        return self.source.cpu()

    def _require(self, inputs_stay: Tensor, outputs_stay: Tensor) -> None:
        lost = outputs_stay & ~self.arrivals(inputs_stay)
        if bool(lost.any()):
            raise ValueError(
                f"a ChannelSelect takes channels {self.source.cpu()[lost].tolist()} that the stream would not keep; "
                "remove them at the reader as well, or use a ChannelScatter"
            )

    def forward(self, x: Tensor) -> Tensor:
        """Take the selected channels of ``x``, shape ``(N, C, *)``."""
        return select_channels(x, self.source)


class ChannelScatter(ChannelRelabel):
    """Let one writer of a stream provide only some of its channels; the others are zero.

    Args:
        source: one entry per channel of the stream: the input channel that arrives there, or -1 for zeros.

    Shape: ``(N, C, *)`` to ``(N, len(source), *)``.

    With ``source = [-1] * 8 + [0 … 15] + [-1] * 8`` this is the zero-padded (option A) shortcut of the CIFAR ResNets
    (He et al. 2016, "Deep Residual Learning for Image Recognition", section 4.2).
    """

    def forward(self, x: Tensor) -> Tensor:
        """Place the channels of ``x``, shape ``(N, C, *)``, into a stream of zeros."""
        return scatter_channels(x, self.source)


# Functions, so that ``torch.fx`` can take them as they are: which way they go depends on widths and strides.
torch.fx.wrap("select_channels")
torch.fx.wrap("scatter_channels")


def select_channels(x: Tensor, source: Tensor) -> Tensor:
    """The channels ``source`` of ``x``, shape ``(N, C, *)``."""
    # One operation in either case, so that those of the model keep their numbers, and always a tensor of its own.
    return x.view_as(x) if len(source) == x.shape[1] else x.index_select(1, source)


def scatter_channels(x: Tensor, source: Tensor) -> Tensor:
    """A stream to which ``x``, shape ``(N, C, *)``, gives its channel ``source[i]`` at ``i``, or zeros for -1."""
    # Channels that are innermost (channels_last) stay so: in another layout, later kernels would round otherwise. They
    # are gathered, the others selected, each up to three times as fast as the other way. Either takes the same number
    # of operations, so that those of the model keep their numbers.
    innermost = x.stride(1) == 1
    dim = x.ndim - 1 if innermost else 1
    moved, index = x.movedim(1, dim), source + 1
    zero_in_front = F.pad(moved, (0, 0) * (x.ndim - 1 - dim) + (1, 0))
    index = index.expand(*moved.shape[:-1], -1) if innermost else index.expand(-1)
    taken = zero_in_front.gather(dim, index) if innermost else zero_in_front.index_select(dim, index)
    return taken.movedim(dim, 1)


SELECT = register(
    Attached(
        name="select",
        hosts=(_BatchNorm,),
        in_front=True,
        saved="source",
        ndim=1,
        build=lambda source: ChannelSelect(len(source)),
    )
)
SCATTER = register(
    Attached(
        name="scatter",
        hosts=(_BatchNorm, _ConvNd, FoldedBatchNorm),
        in_front=False,
        saved="source",
        ndim=1,
        build=lambda source: ChannelScatter(range(len(source))),
    )
)
