"""Small networks with constructions that were once cut wrongly, refused, or left whole without need."""

import copy
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pruning_lit.callbacks.masking import Masking
from pruning_lit.channels import ChannelGraph, adopt_on_load, cost, load, mask, narrow, recalibrate, save, trace, verify
from pruning_lit.channels.insertion.norm_inputs import own_norms
from pruning_lit.models import start_afresh
from pruning_lit.phases.distillation.base import weights_digest

IMAGES = torch.randn(2, 3, 8, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(0))


class Plain(nn.Module):
    """Two convolutions, between which ``between`` does something."""

    width = 6

    def __init__(self) -> None:
        super().__init__()
        self.f, self.h = nn.Conv2d(3, self.width, 1), nn.Conv2d(self.width, 4, 1)
        self.more()

    def more(self) -> None:
        """Further layers."""

    def between(self, y: Tensor, x: Tensor) -> Tensor:
        return y

    def forward(self, x: Tensor) -> Tensor:
        return self.h(self.between(self.f(x).relu(), x)).mean((2, 3))


class PlacedRows(Plain):
    """Its result is written row by row."""

    def forward(self, x: Tensor) -> Tensor:
        y = super().forward(x)
        out = torch.zeros_like(y[:, :1]).repeat(1, y.shape[1])
        for i in range(len(y)):
            out[i] = y[i]
        return out


class WrittenThroughAView(Plain):
    def between(self, y, x):
        out = torch.zeros(y.shape, dtype=y.dtype)
        out.permute(0, 2, 3, 1).copy_(y.permute(0, 2, 3, 1))
        return y * out.mean(1, keepdim=True)


class TimesAMapOfPlaces(Plain):
    """The map has no channels, and is not zero where one is removed."""

    def more(self):
        self.pos = nn.Parameter(torch.randn(8, 8))

    def between(self, y, x):
        return y * (y.sigmoid() * self.pos).sum(1, keepdim=True)


class Thresholded(Plain):
    def between(self, y, x):
        return y * F.threshold(y, 0.1, 20.0).sum(1, keepdim=True)


class MeanByAFilledTensor(Plain):
    """A number that depends on the width lies in a tensor."""

    def between(self, y, x):
        return y * (y * torch.full_like(y, 1 / y.shape[1])).sum(1, keepdim=True)


class RolledByAWidth(Plain):
    def between(self, y, x):
        return y.roll(y.shape[1] - 4, 2)


class Blurred(Plain):
    """The kernel is one, seen several times."""

    def more(self):
        self.register_buffer("k", torch.rand(1, 1, 3, 3).expand(self.width, 1, 3, 3))

    def between(self, y, x):
        return F.conv2d(y, self.k, padding=1, groups=y.shape[1])


class Beside(Plain):
    """Something without channels goes the way of the features, just before them."""

    def between(self, y, x):
        weights = x.mean(1).flatten(1).softmax(1)
        y = y.flatten(2) * weights[:, None]
        return y.unflatten(2, (8, 8))


class CroppedBeside(Plain):
    def between(self, y, x):
        image = x.mean(1, keepdim=True)[:, :, :4, :4]
        return y[:, :, :4, :4] * image


class WithProjections(Plain):
    def more(self):
        self.rnn = nn.LSTM(self.width, 4, bidirectional=True, proj_size=3, batch_first=True)

    def forward(self, x):
        return self.rnn(self.f(x).relu().flatten(2).mT)[0].mean(1)


class WithExtraState(Plain):
    def get_extra_state(self):
        return {"version": 2}

    def set_extra_state(self, state):
        pass


class LastDimension(Plain):
    """Channels lie in the last of three dimensions."""

    def more(self):
        self.scale = nn.Parameter(torch.rand(1, 1, self.width))

    def between(self, y, x):
        return (y.movedim(1, -1) * self.scale[:, None]).movedim(-1, 1)


class Scaled(Plain):
    """Weights are multiplied by a number before each use, as in StyleGAN."""

    def more(self):
        self.gain, self.learned = 0.5, nn.Parameter(torch.tensor(1.7))

    def forward(self, x):
        y = F.conv2d(x, self.f.weight * self.gain, self.f.bias).relu()
        return F.conv2d(y, self.h.weight / self.learned).mean((2, 3))


class ScaledByItself(Plain):
    """Weights are divided by what is made of all of them."""

    def forward(self, x):
        y = F.conv2d(x, self.f.weight / self.f.weight.norm(), self.f.bias).relu()
        return F.conv2d(y, self.h.weight * self.h.weight.abs().max()).mean((2, 3))


class JoinedAndPadded(Plain):
    """Two layers side by side in channels, padded in space."""

    def more(self):
        self.g, self.h = nn.Conv2d(3, self.width, 1), nn.Conv2d(2 * self.width, 4, 2)

    def between(self, y, x):
        return F.pad(torch.cat([y, self.g(x)], 1), (0, 1, 0, 1))


class DividedByScales(Plain):
    """Each channel by a scale of its own, which a mask would make zero."""

    def more(self):
        self.scale = nn.Parameter(torch.rand(self.width) + 0.5)

    def between(self, y, x):
        return y / self.scale.view(1, -1, 1, 1) + y * self.scale[:, None, None].rsqrt()


class InTwoParts(Plain):
    """Two parts of equal length, kept as numbers, that are joined again: neither may be emptied."""

    def more(self):
        self.lengths = (3, 3)

    def between(self, y, x):
        first, second = y.split(self.lengths, 1)
        return torch.cat([first.tanh(), second.sigmoid()], 1)


KINDS = [
    PlacedRows, WrittenThroughAView, TimesAMapOfPlaces, Thresholded, MeanByAFilledTensor, RolledByAWidth, Blurred,
    Beside, CroppedBeside, WithProjections, WithExtraState, LastDimension, DividedByScales, InTwoParts, Scaled,
    ScaledByItself, JoinedAndPadded,
]  # fmt: skip


def built(kind: type[Plain]) -> Plain:
    torch.manual_seed(0)
    return kind().double().eval()


def halves(graph: ChannelGraph) -> dict[str, list[int]]:
    return {group.name: list(range(0, group.size, 2)) for group in graph.prunable}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("size", [1, 2])
def test_what_can_be_cut_is_cut_exactly(kind, size):
    net = built(kind)
    graph = trace(net, IMAGES[:size])
    small, masked = copy.deepcopy(net), copy.deepcopy(net)
    kept = halves(graph)
    narrow(small, graph, kept)
    mask(masked, graph, kept)
    assert verify(small, masked, IMAGES[:size]) < 1e-10
    assert cost(graph, kept).params == sum(each.numel() for each in small.parameters())
    assert small(IMAGES[:size]).shape == net(IMAGES[:size]).shape  # results have no channels to spare


@pytest.mark.parametrize(
    "kind", [Blurred, Beside, CroppedBeside, WithProjections, WithExtraState, LastDimension, Scaled]
)
def test_nothing_is_left_whole_without_need(kind, tmp_path: Path):
    net = built(kind)
    graph = trace(net, IMAGES)
    assert [group.name for group in graph.prunable] == ["f"]
    narrow(net, graph, halves(graph))
    save(net, tmp_path / "net.safetensors")
    assert torch.equal(load(tmp_path / "net.safetensors", built(kind))(IMAGES), net(IMAGES))


def test_parts_whose_lengths_are_numbers_are_groups_of_their_own():
    net = built(InTwoParts)
    graph = trace(net, IMAGES)
    assert {group.name: group.size for group in graph.prunable} == {"f#1": 3, "f#2": 3}
    narrow(net, graph, {"f#1": [0, 1]})
    assert list(net.lengths) == [2, 3]


class ActivatedNorm(nn.BatchNorm2d):
    """A batch norm with an activation of its own, as timm has them."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x).relu()


def test_norms_with_an_activation_keep_it():
    nets = []
    for norms in ((ActivatedNorm,), (nn.BatchNorm2d, nn.ReLU)):
        torch.manual_seed(0)
        first = [norms[0](6), *(each() for each in norms[1:])]
        nets.append(nn.Sequential(nn.Conv2d(3, 6, 1), *first, nn.Conv2d(6, 5, 1), nn.BatchNorm2d(5)).double())
    for net in nets:
        assert recalibrate(net, [IMAGES]) == 2
    torch.testing.assert_close(nets[0][-1].running_var, nets[1][-1].running_var)
    assert own_norms(nets[1], IMAGES) == {"0": "1", "3": "4"}
    assert own_norms(nets[0], IMAGES) == {"2": "3"}  # the other is more than a norm


def test_without_batches_statistics_stay():
    net = nn.Sequential(nn.BatchNorm2d(3))
    net[0].running_mean.fill_(7)
    with pytest.raises(ValueError, match="there are no batches"):
        recalibrate(net, partial(iter, [])())
    assert net[0].running_mean.tolist() == [7, 7, 7]


def test_joined_and_padded_channels_are_all_prunable():
    assert [group.name for group in trace(built(JoinedAndPadded), IMAGES).prunable] == ["f", "g"]


class OwnConv(nn.Module):
    """A convolution that is no ``nn.Conv2d``."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.kernel = nn.Parameter(torch.randn(4, 3, size, size))

    def forward(self, x: Tensor) -> Tensor:
        return F.conv2d(x, self.kernel, padding="same")


class PlacesAndFeatures(nn.Module):
    """A map of positions beside channels."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.places = nn.Parameter(torch.randn(1, 4, size, size))


@pytest.mark.parametrize(
    "make",
    [OwnConv, PlacesAndFeatures, lambda size: nn.utils.parametrizations.weight_norm(nn.Conv2d(3, 4, size))],
)
def test_kernels_and_maps_of_other_sizes_are_no_widths(make):
    net = make(5)
    adopt_on_load(net)
    with pytest.raises(RuntimeError, match="size mismatch"):
        net.load_state_dict(make(3).state_dict())


def test_extra_state_is_no_hindrance_to_masks_fresh_weights_and_teachers():
    net = built(WithExtraState)
    graph = trace(net, IMAGES)
    masking = Masking()
    _, error = masking.cut(SimpleNamespace(optimizers=[]), net, graph, halves(graph), IMAGES)
    assert error < 1e-10
    start_afresh(net, built(WithExtraState))
    assert weights_digest(net) != weights_digest(built(WithExtraState).float())
