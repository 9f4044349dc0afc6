"""The relabelling modules: what they compute, and what surgery makes of them."""

import copy

import pytest
import torch
import torch.fx.experimental.optimization
from torch import Tensor, nn

from pruning_lit.channels import ChannelScatter, ChannelSelect, mask, narrow, trace, verify
from pruning_lit.models import cifar_resnet
from tests.channels.chance import randomise

IMAGE = torch.zeros(1, 3, 32, 32)


@pytest.mark.parametrize("shape", [(2, 3), (2, 3, 5), (2, 3, 4, 4)])
def test_scattered_channels_arrive_where_told_and_the_rest_is_zero(shape):
    x = torch.randn(shape)
    expected = torch.zeros(2, 5, *shape[2:])
    expected[:, [1, 4, 2]] = x
    assert torch.equal(ChannelScatter([-1, 0, 2, -1, 1])(x), expected)


def test_a_scatter_that_is_full_is_the_identity_also_of_flat_and_long_tensors():
    for shape in [(2, 4), (2, 4, 3), (2, 4, 3, 3), (2, 4, 2, 2, 2)]:
        x = torch.randn(shape)
        assert torch.equal(ChannelScatter(range(4))(x), x)
        assert torch.equal(ChannelSelect(4)(x), x)


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("relabel", [ChannelSelect([0, 2]), ChannelSelect(3), ChannelScatter([-1, 2, 0, 1])])
def test_relabelled_networks_can_be_traced_by_fx_and_fused(relabel, layout):
    width = len(relabel.source)
    net = nn.Sequential(nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3), relabel, nn.Conv2d(width, 2, 1)).eval()
    randomise(net)
    images = torch.randn(2, 3, 4, 4).contiguous(memory_format=layout)
    traced = torch.fx.symbolic_trace(net)
    assert torch.equal(traced(images), net(images))
    fused = torch.fx.experimental.optimization.fuse(net)
    torch.testing.assert_close(fused(images), net(images))


@pytest.mark.parametrize("module", [ChannelScatter, ChannelSelect])
@pytest.mark.parametrize("source", [[], [[0, 1]], [-2, 0]])
def test_a_source_that_is_no_list_of_positions_is_refused(module, source):
    with pytest.raises(ValueError, match=r"source channels"):
        module(source)


def test_a_selection_cannot_provide_zeros():
    with pytest.raises(ValueError, match="use ChannelScatter"):
        ChannelSelect([-1, 0])


@pytest.mark.at_once(1)
@pytest.mark.parametrize(
    ("shortcut", "source_group", "target_group", "offset"),
    [
        ("layer1.0.shortcut", "conv1", "layer1.0.conv2", 0),
        ("layer2.0.shortcut", "layer1.0.conv2", "layer2.0.conv2", 8),
        ("layer3.0.shortcut", "layer2.0.conv2", "layer3.0.conv2", 16),
    ],
)
def test_a_narrowed_shortcut_takes_each_target_from_the_same_original_source(
    shortcut, source_group, target_group, offset
):
    """CHIP's description, section 7: target t takes source t - offset if that was kept, otherwise zero."""
    random = torch.Generator().manual_seed(0)
    for _ in range(10):
        net = cifar_resnet(8)
        graph = trace(net, IMAGE)
        kept = {}
        for name in (source_group, target_group):
            stays = torch.rand(graph[name].size, generator=random) < 0.6
            stays[int(torch.randint(graph[name].size, (), generator=random))] = True
            kept[name] = stays.nonzero().flatten().tolist()
        narrow(net, graph, kept)
        sources, targets = kept[source_group], kept[target_group]
        expected = [sources.index(t - offset) if t - offset in sources else -1 for t in targets]
        module = net.get_submodule(shortcut)
        assert module.source.tolist() == expected

        x = torch.randn(2, len(sources), 3, 3, generator=random)
        by_original_id = torch.zeros(2, 128, 3, 3)
        by_original_id[:, [s + offset for s in sources]] = x
        assert torch.equal(module(x), by_original_id[:, targets])


def test_a_shortcut_of_which_nothing_arrives_any_more_gives_zeros():
    net = randomise(cifar_resnet(8)).double()
    graph = trace(net, IMAGE.double())
    kept = {"conv1": [0, 1], "layer1.0.conv2": [7, 8, 9]}
    narrowed, masked = copy.deepcopy(net), copy.deepcopy(net)
    narrow(narrowed, graph, kept)
    mask(masked, graph, kept)
    assert narrowed.layer1[0].shortcut.source.tolist() == [-1, -1, -1]
    assert verify(narrowed, masked, torch.randn(2, 3, 32, 32, dtype=torch.float64)) < 1e-10
    again = trace(narrowed, IMAGE.double())  # and can be narrowed once more
    narrow(narrowed, again, {"layer1.0.conv2": [1]})
    assert narrowed.layer1[0].shortcut.source.tolist() == [-1]


def test_a_whole_stem_feeds_a_narrower_stage():
    net = cifar_resnet(8)
    narrow(net, trace(net, IMAGE), {"layer1.0.conv2": [1, 5, 6]})
    assert net.conv1.out_channels == 16
    assert net.layer1[0].shortcut.source.tolist() == [1, 5, 6]


class Chosen(nn.Module):
    """A stream with two readers, one of them behind a selection."""

    def __init__(self, taken: list[int]) -> None:
        super().__init__()
        self.writer = nn.Conv2d(3, 6, 1)
        self.whole = nn.Conv2d(6, 4, 1)
        self.select = ChannelSelect(taken)
        self.norm = nn.BatchNorm2d(len(taken))
        self.part = nn.Conv2d(len(taken), 4, 1)

    def forward(self, x: Tensor) -> Tensor:
        stream = self.writer(x)
        return (self.whole(stream) + self.part(self.norm(self.select(stream)).relu())).mean((2, 3))


def test_a_stream_behind_a_selection_may_lose_what_is_not_taken_and_nothing_else():
    net = randomise(Chosen([0, 2, 5])).double()
    x = torch.randn(2, 3, 4, 4, dtype=torch.float64)
    graph = trace(net, x)
    narrowed, masked = copy.deepcopy(net), copy.deepcopy(net)
    taken, free = [group for group in graph.groups if "writer" in group.writers]
    assert taken.protected == "'select' takes it: its reader has to let go of it first"
    assert (taken.size, free.size, free.protected) == (3, 3, None)
    narrow(narrowed, graph, {free.name: [1]})
    mask(masked, graph, {free.name: [1]})
    assert narrowed.select.source.tolist() == [0, 1, 3]
    assert verify(narrowed, masked, x) < 1e-10


@pytest.mark.parametrize("cut", [narrow, mask])
def test_a_stream_loses_what_a_selection_takes_once_the_reader_has_let_go_of_it(cut):
    net = randomise(Chosen([0, 1, 2, 4]))
    image = torch.randn(1, 3, 4, 4)
    graph = trace(net, image)
    before = copy.deepcopy(net.state_dict())
    with pytest.raises(ValueError, match=r"'writer#1' is protected: 'select' takes it"):
        cut(net, graph, {"writer#1": [0, 2, 3]})
    assert all(torch.equal(tensor, before[name]) for name, tensor in net.state_dict().items())
