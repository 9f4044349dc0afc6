"""Option-A shortcuts keep original identities; a selection takes only what there is."""

import copy

import pytest
import torch
from torch import nn

from pruning_lit.channels import ChannelScatter, ChannelSelect, mask, narrow, trace, verify
from pruning_lit.models import cifar_resnet


def test_a_shortcut_carries_each_kept_channel_to_its_original_place():
    """Target channel t takes source channel t - offset if that was kept, else zero (CHIP's description, section 7)."""
    net = cifar_resnet(8)
    graph = trace(net, torch.zeros(1, 3, 32, 32))
    sources, targets = [0, 3, 4, 9, 15], [0, 2, 7, 8, 11, 12, 13, 23, 24, 31]
    narrow(net, graph, {"layer1.0.conv2": sources, "layer2.0.conv2": targets})
    x = torch.arange(1.0, 6.0).view(1, 5, 1, 1)
    arrived = net.layer2[0].shortcut(x).flatten().tolist()
    assert arrived == [float(sources.index(t - 8) + 1) if t - 8 in sources else 0.0 for t in targets]


def test_a_whole_stem_feeds_a_narrower_stage():
    net = cifar_resnet(8)
    graph = trace(net, torch.zeros(1, 3, 32, 32))
    narrow(net, graph, {"layer1.0.conv2": [1, 5, 6]})
    assert net.conv1.out_channels == 16
    assert net.layer1[0].shortcut.source.tolist() == [1, 5, 6]


def test_a_full_selection_is_the_identity():
    x = torch.randn(2, 7, 3, 3)
    assert torch.equal(ChannelSelect(7)(x), x)


@pytest.mark.parametrize("shape", [(2, 3), (2, 3, 5), (2, 3, 4, 4)])
def test_scattered_channels_arrive_where_told(shape):
    x = torch.randn(shape)
    y = ChannelScatter([-1, 2, 0, -1])(x)
    assert torch.equal(y[:, 1], x[:, 2])
    assert torch.equal(y[:, 2], x[:, 0])
    assert not y[:, [0, 3]].any()


class Stream(nn.Module):
    """A reader that takes part of a stream by a selection."""

    def __init__(self) -> None:
        super().__init__()
        self.writer, self.select = nn.Conv2d(3, 8, 1), ChannelSelect([0, 2, 5, 7])
        self.reader, self.other = nn.Conv2d(4, 6, 1), nn.Conv2d(8, 6, 1)

    def forward(self, x):
        x = self.writer(x)
        return (self.reader(self.select(x)) + self.other(x)).mean((2, 3))


def test_a_stream_cannot_lose_what_a_selection_takes():
    net = Stream()
    graph = trace(net, torch.zeros(1, 3, 4, 4))
    stream = graph["writer#1"] if "#" in graph.groups[0].name else graph["writer"]
    before = copy.deepcopy(net.state_dict())
    with pytest.raises(ValueError, match=r"takes channels \[\d\] that the stream would not keep"):
        narrow(net, graph, {stream.name: [position for position in range(stream.size) if position != 2]})
    assert all(torch.equal(tensor, before[name]) for name, tensor in net.state_dict().items())


def test_a_stream_may_lose_what_no_selection_takes():
    net = Stream()
    graph = trace(net, torch.zeros(1, 3, 4, 4))
    stream = graph["writer"]
    kept = {stream.name: [0, 2, 3, 5, 7]}
    masked = copy.deepcopy(net)
    mask(masked, graph, kept)
    narrow(net, graph, kept)
    assert net.select.source.tolist() == [0, 1, 3, 4]
    assert verify(net, masked, torch.randn(2, 3, 4, 4)) < 1e-5
