"""A channel number written into somebody's forward is found before anything is cut."""

import copy

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pruning_lit.channels import narrow, trace

PICTURE = torch.zeros(1, 3, 8, 8)


class Literal(nn.Module):
    """Two convolutions of eight channels with something in between, and a classifier."""

    def __init__(self, readers: int = 8) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 8, 3, padding=1)
        self.norm = nn.BatchNorm2d(8)
        self.second = nn.Conv2d(readers, 8, 3, padding=1)
        self.classify = nn.Linear(8, 5)

    def forward(self, x: Tensor) -> Tensor:
        inner = self.between(self.norm(self.first(x)).relu())
        return self.classify(self.second(inner).relu().mean((2, 3)))

    def between(self, inner: Tensor) -> Tensor:
        raise NotImplementedError


class Slice(Literal):
    def __init__(self) -> None:
        super().__init__(readers=6)

    def between(self, inner: Tensor) -> Tensor:
        return inner[:, :6]


class View(Literal):
    def between(self, inner: Tensor) -> Tensor:
        b, _, h, w = inner.shape
        return inner.view(b, 2, 4, h, w).mean(1, keepdim=True).expand(b, 2, 4, h, w).reshape(b, 8, h, w)


class Halved(Literal):
    """Two halves of four channels each."""

    def between(self, inner: Tensor) -> Tensor:
        b, _, h, w = inner.shape
        one, other = inner.view(b, 2, 4, h, w).unbind(1)
        return torch.cat([one, other], 1)


class Split(Literal):
    def between(self, inner: Tensor) -> Tensor:
        one, other = inner.split([3, 5], 1)
        return torch.cat([other, one], 1)


class Shuffle(Literal):
    """The channel shuffle of ShuffleNet, with its numbers taken from the tensor."""

    def between(self, inner: Tensor) -> Tensor:
        b, c, h, w = inner.shape
        return inner.view(b, 2, c // 2, h, w).transpose(1, 2).reshape(b, c, h, w)


class OptionA(Literal):
    """A zero-padded shortcut with the number of zeros written down."""

    def __init__(self) -> None:
        super().__init__(readers=12)

    def between(self, inner: Tensor) -> Tensor:
        return F.pad(inner[:, :4], (0, 0, 0, 0, 4, 4)) if inner.shape[1] < 8 else F.pad(inner, (0, 0, 0, 0, 2, 2))


class Permutation(Literal):
    """An order that is no buffer, so nobody can rewrite it."""

    def between(self, inner: Tensor) -> Tensor:
        return inner[:, [7, 1, 2, 3, 4, 5, 6, 0]]


class DataDependent(Literal):
    """Which channels are read depends on how many there are."""

    def between(self, inner: Tensor) -> Tensor:
        return inner.roll(1 if inner.shape[1] == 8 else 2, 1)


BAKED = [Slice, View, Halved, Split, Shuffle, OptionA, Permutation, DataDependent]


@pytest.mark.parametrize("network", BAKED)
def test_a_baked_in_channel_number_is_refused_and_the_model_untouched(network):
    net = network().eval()
    graph = trace(net, PICTURE)
    before, layers = copy.deepcopy(net.state_dict()), repr(net)
    objects = [id(tensor) for tensor in net.state_dict(keep_vars=True).values()]
    kept = {group.name: [i for i in range(group.size) if i != 1] for group in graph.groups if "first" in group.writers}
    with pytest.raises(ValueError, match=r"narrower|protected|no channel is kept") as refusal:
        narrow(net, graph, kept)
    assert "\n" not in str(refusal.value)
    assert objects == [id(tensor) for tensor in net.state_dict(keep_vars=True).values()]
    assert all(torch.equal(tensor, before[name]) for name, tensor in net.state_dict().items())
    assert repr(net) == layers


class Halves(Literal):
    """Halves by chunk, in the other order: fine as long as both lose equally much."""

    def between(self, inner: Tensor) -> Tensor:
        one, other = inner.chunk(2, 1)
        return torch.cat([other, one], 1)


def test_halves_by_chunk_are_cut_where_both_lose_equally_much_and_refused_elsewhere():
    net = Halves().eval()
    graph = trace(net, PICTURE)
    with pytest.raises(ValueError, match="hang together differently"):
        narrow(net, graph, {"first": [0, 1, 2, 3, 4]})
    narrow(net, graph, {"first": [0, 2, 3, 4, 5, 6]})
    assert net(PICTURE).shape == (1, 5)


def test_the_other_groups_of_such_a_network_can_be_cut():
    for network in BAKED:
        net = network().eval()
        graph = trace(net, PICTURE)
        (last,) = [group for group in graph.prunable if group.writers == ("second",)]
        narrow(net, graph, {last.name: [0, 3]})
        assert net(PICTURE).shape == (1, 5)


def test_a_refusal_names_the_groups():
    net = Shuffle().eval()
    graph = trace(net, PICTURE)
    with pytest.raises(ValueError, match=r"in groups .*'first'"):
        narrow(net, graph, {"first": [1, 2, 3, 4, 5, 6]})


def test_a_model_that_was_moved_after_its_trace_is_rehearsed_where_it_is():
    net = Halves().eval()
    graph = trace(net, PICTURE)
    net.double()
    narrow(net, graph, {"second": [0, 1]})
    assert net(PICTURE.double()).shape == (1, 5)
