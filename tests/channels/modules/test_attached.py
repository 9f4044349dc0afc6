"""Attached children: one of a kind that nobody has heard of is adopted, attached again, handed over and removed."""

import copy

import pytest
import torch
from torch import Tensor, nn

from pruning_lit.channels import Attached, adopt, attach, load, save
from pruning_lit.channels.modules import attached
from pruning_lit.channels.modules.bn_folding import FoldedBatchNorm, fold
from pruning_lit.phases.sync_batch_norm import GpuSyncBatchNorm, SyncBatchNorm

IMAGES = torch.randn(2, 3, 4, 4, generator=torch.Generator().manual_seed(0))


class Offset(nn.Module):
    """Adds a number to each channel."""

    def __init__(self, offsets: Tensor) -> None:
        super().__init__()
        self.offsets = nn.Parameter(offsets)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.offsets[:, None, None]


def kind(name: str, in_front: bool = False, first: bool = False) -> Attached:
    hosts = (nn.modules.batchnorm._BatchNorm, FoldedBatchNorm)
    toy = Attached(name, hosts, in_front, "offsets", 1, lambda offsets: Offset(torch.zeros_like(offsets)))
    return attached.register(toy, first)


@pytest.fixture(autouse=True)
def known(monkeypatch):
    monkeypatch.setattr(attached, "KINDS", attached.KINDS[:])  # what a test registers is forgotten after it
    monkeypatch.setattr("pruning_lit.channels.surgery.widths.KINDS", attached.KINDS)
    monkeypatch.setattr("pruning_lit.channels.artefact.KINDS", attached.KINDS)


def plain() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, 2, 1)).eval()


@pytest.mark.parametrize("in_front", [False, True])
def test_a_child_acts_on_what_its_layer_makes_or_reads(in_front):
    net, offsets = plain(), torch.arange(4.0)
    read = net[0](IMAGES)
    kind("offset", in_front).put(net[1], Offset(offsets))
    shift = offsets[:, None, None]
    expected = plain()[1](read + shift) if in_front else plain()[1](read) + shift
    torch.testing.assert_close(net[1](read), expected)


def with_offsets(in_front: bool = False) -> tuple[nn.Module, Attached]:
    net, toy = plain(), kind("offset", in_front)
    toy.put(net[1], Offset(torch.arange(4.0)))
    return net, toy


@pytest.mark.parametrize("in_front", [False, True])
def test_loading_adopts_a_child_of_any_kind(in_front, tmp_path):
    net, toy = with_offsets(in_front)
    other = plain()
    adopt(other, net.state_dict())
    assert toy.found(other) == ["1"]
    other.load_state_dict(net.state_dict())
    assert torch.equal(other(IMAGES), net(IMAGES))
    save(net, tmp_path / "net.safetensors")
    assert torch.equal(load(tmp_path / "net.safetensors", plain())(IMAGES), net(IMAGES))


@pytest.mark.parametrize("in_front", [False, True])
def test_a_child_that_layers_share_is_saved_and_adopted_at_each_of_them(in_front, tmp_path):
    toy, net = kind("offset", in_front), nn.Sequential(nn.BatchNorm2d(3), nn.BatchNorm2d(3)).eval()
    shared = Offset(torch.arange(3.0))
    for norm in net:
        toy.put(norm, shared)
    save(net, tmp_path / "net.safetensors")
    twin = load(tmp_path / "net.safetensors", nn.Sequential(nn.BatchNorm2d(3), nn.BatchNorm2d(3)))
    assert toy.found(twin) == ["0", "1"]
    assert torch.equal(twin(IMAGES), net(IMAGES))


@pytest.mark.parametrize("in_front", [False, True])
def test_torchs_conversion_of_norms_loses_a_child_and_attaching_restores_it(in_front):
    net, _ = with_offsets(in_front)
    expected = net(IMAGES)
    switched = nn.SyncBatchNorm.convert_sync_batchnorm(net)
    assert not torch.equal(switched(IMAGES), expected)
    for _ in range(2):  # the second time there is nothing left to do
        attach(switched)
        assert torch.equal(switched(IMAGES), expected)


@pytest.mark.parametrize("in_front", [False, True])
@pytest.mark.parametrize("plugin", [SyncBatchNorm(), GpuSyncBatchNorm()], ids=lambda plugin: type(plugin).__name__)
def test_a_child_stays_when_norms_are_switched_over_and_back(plugin, in_front):
    net, _ = with_offsets(in_front)
    expected, names = net(IMAGES), list(net.state_dict())
    switched = plugin.apply(copy.deepcopy(net))
    assert torch.equal(switched.eval()(IMAGES), expected)
    back = plugin.revert(switched)
    assert torch.equal(back.eval()(IMAGES), expected)
    assert list(back.state_dict()) == names


def test_a_child_behind_a_norm_that_is_folded_goes_on():
    net, toy = with_offsets()
    fold(net, "1")
    assert toy.found(net) == ["1"]
    torch.testing.assert_close(net[1](net[0](IMAGES)), net[0](IMAGES) + torch.arange(4.0)[:, None, None])


@pytest.mark.parametrize("in_front", [False, True])
def test_removing_leaves_the_network_as_it_was(in_front):
    net, toy = with_offsets(in_front)
    toy.remove(net[1])
    assert torch.equal(net(IMAGES), plain()(IMAGES))
    assert list(net.state_dict()) == list(plain().state_dict())
    assert not net[1]._forward_hooks
    assert not net[1]._forward_pre_hooks


def test_children_on_one_side_act_in_the_order_of_their_kinds():
    class Double(Offset):
        def forward(self, x: Tensor) -> Tensor:
            return 2 * x

    net, offset = plain(), kind("offset")
    doubled = attached.register(Attached("twice", (nn.BatchNorm2d,), False, "offsets", 1, Double), first=True)
    offset.put(net[1], Offset(torch.ones(4)))
    doubled.put(net[1], Double(torch.zeros(4)))
    read = net[0](IMAGES)
    torch.testing.assert_close(net[1](read), 2 * plain()[1](read) + 1)
    offset.remove(net[1])
    torch.testing.assert_close(net[1](read), 2 * plain()[1](read))


class Own(nn.BatchNorm2d):
    """A norm that calls a child of that name itself."""

    def __init__(self) -> None:
        super().__init__(4)
        self.offset = Offset(torch.ones(4))

    def forward(self, x: Tensor) -> Tensor:
        return self.offset(super().forward(x))


def test_what_a_layer_of_the_architecture_calls_by_that_name_itself_is_left_alone():
    net, toy = nn.Sequential(nn.Conv2d(3, 4, 1), Own()).eval(), kind("offset")
    expected = net(IMAGES)
    attach(net)
    adopt(net, net.state_dict())
    assert torch.equal(net(IMAGES), expected)
    assert toy.found(net) == []
