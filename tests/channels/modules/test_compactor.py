"""Compactors begin by changing nothing, stay where they are put, and leave no trace when they are taken out."""

import copy

import pytest
import torch
from torch import Tensor, nn

from pruning_lit.channels import Compactor, Placement, attach_compactors, compactors, insert_compactors
from pruning_lit.channels.modules.attached import apply_behind
from pruning_lit.channels.modules.compactor import COMPACTOR, remove_compactors
from pruning_lit.models import cifar_resnet
from pruning_lit.phases.sync_batch_norm import GpuSyncBatchNorm, SyncBatchNorm
from tests.methods.resrep.resrep_golden import half_dead, placements_of, with_statistics

IMAGES = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def net() -> nn.Module:
    torch.manual_seed(0)
    return with_statistics(cifar_resnet(8, stem="tied", shortcut="option_b"))


@pytest.fixture
def placements(net) -> list[Placement]:
    """Of three inner layers and of three streams, which two or more layers make."""
    return placements_of(net, IMAGES[:1], "coupled")


def hooks(net: nn.Module) -> int:
    return sum(hook is apply_behind for module in net.modules() for hook in module._forward_hooks.values())


# --- one compactor ---


@pytest.mark.parametrize("dims", [1, 2, 3])
def test_a_new_compactor_changes_no_bit(dims):
    x = torch.randn(2, 5, *[4] * dims)
    assert torch.equal(Compactor(5)(x), x)


@pytest.mark.parametrize("dims", [1, 2, 3])
def test_row_j_of_its_matrix_makes_channel_j(dims):
    compactor, x = Compactor(5).double(), torch.randn(2, 5, *[4] * dims, dtype=torch.float64)
    torch.manual_seed(0)
    compactor.weight.data.copy_(torch.randn(5, 5))
    torch.testing.assert_close(compactor(x), torch.einsum("ji,ni...->nj...", compactor.weight, x))
    compactor.weight.data[3] = 0
    assert compactor(x)[:, 3].abs().max() == 0


def test_masks_take_no_part_in_the_forward_pass():
    compactor, x = Compactor(5), torch.randn(2, 5, 4, 4)
    compactor.mask.zero_()
    compactor.regularised.zero_()
    assert torch.equal(compactor(x), x)


def test_its_lengths_are_those_of_its_rows_in_double():
    compactor = Compactor(2).half()
    compactor.weight.data.copy_(torch.tensor([[3.0, 4.0], [0.0, 2e-5]]))
    assert compactor.norms().dtype == torch.float64
    assert compactor.norms().tolist() == pytest.approx([5.0, 2e-5], rel=1e-2)  # half precision is coarse there


def test_the_list_of_what_is_regularised_is_not_saved():
    assert sorted(Compactor(3).state_dict()) == ["mask", "weight"]


# --- in a network ---


@pytest.mark.parametrize("training", [False, True], ids=["eval", "train"])
def test_new_compactors_change_no_bit_of_what_a_network_computes(net, placements, training):
    wide = copy.deepcopy(net)
    insert_compactors(wide, placements)
    assert torch.equal(wide.train(training)(IMAGES), net.train(training)(IMAGES))


def test_new_compactors_change_no_bit_in_channels_last(net, placements):
    net, images = net.to(memory_format=torch.channels_last), IMAGES.to(memory_format=torch.channels_last)
    wide = copy.deepcopy(net)
    insert_compactors(wide, placements)
    assert torch.equal(wide(images), net(images))
    inner = wide.bn1(wide.conv1(images))
    assert inner.is_contiguous(memory_format=torch.channels_last)
    assert torch.equal(wide.to(memory_format=torch.channels_last)(images), net(images))


def test_names_in_the_state_dict_only_come_on_top(net, placements):
    before = net.state_dict()
    insert_compactors(net, placements)
    after = net.state_dict()
    sites = {site for placement in placements for site in placement.behind}
    assert after.keys() - before.keys() == {f"{site}.compactor.{name}" for site in sites for name in ("weight", "mask")}
    assert [name for name in after if name in before] == list(before)
    assert all(after[name] is tensor or torch.equal(after[name], tensor) for name, tensor in before.items())


def test_a_compactor_is_of_the_kind_of_its_layer(net, placements):
    insert_compactors(net.double(), placements)
    assert {each.weight.dtype for each in compactors(net).values()} == {torch.float64}
    with torch.device("meta"):
        other = cifar_resnet(8, stem="tied", shortcut="option_b")
    insert_compactors(other, placements)
    assert {each.weight.device.type for each in compactors(other).values()} == {"meta"}


def test_inserting_twice_keeps_the_first(net, placements):
    first = insert_compactors(net, placements)
    first["bn1"].weight.data.mul_(2)
    second = insert_compactors(net, placements)
    assert first.keys() == second.keys()
    assert all(second[site] is compactor for site, compactor in first.items())
    assert hooks(net) == sum(len(placement.behind) for placement in placements)
    assert float(second["bn1"].norms().max()) == 2.0


def test_the_layers_of_a_stream_share_one_compactor(net, placements):
    stream = next(placement for placement in placements if "conv1" in placement.layers)
    assert stream.behind == ("bn1", "layer1.0.bn2")
    there = insert_compactors(net, placements)
    assert net.bn1.compactor is net.layer1[0].bn2.compactor is there["bn1"]
    assert (
        len({id(each) for each in there.values()})
        == len(placements)
        < sum(len(placement.behind) for placement in placements)
    )
    names = [name for name, _ in net.named_parameters() if "compactor" in name]
    assert len(names) == len(placements)  # an optimizer sees each once


def test_a_shared_compactor_learns_from_all_its_sites(net, placements):
    insert_compactors(net, placements)
    gradients = []
    for zeroed in (None, net.bn1, net.layer1[0].bn2):
        hook = zeroed.register_forward_hook(lambda _m, _i, output: output.detach()) if zeroed else None
        net.zero_grad()
        net(IMAGES).square().sum().backward()
        gradients.append(net.bn1.compactor.weight.grad.clone())
        if hook:
            hook.remove()
    assert all(bool(each.abs().sum() > 0) for each in gradients)
    assert not torch.allclose(gradients[0], gradients[1])
    assert not torch.allclose(gradients[0], gradients[2])


def test_compactors_are_found_each_once_by_their_first_site(net, placements):
    there = insert_compactors(net, placements)
    found = compactors(net)
    assert all(found[site] is compactor for site, compactor in there.items())
    assert len(found) == len(placements)
    assert compactors(Compactor(3)).keys() == {""}


def test_only_rows_of_channels_that_may_go_are_regularised(net):
    placements = [Placement(("conv1",), ("bn1",), 16, {"some": [1, 2], "others": [5]})]
    compactor = insert_compactors(net, placements)["bn1"]
    assert compactor.regularised.nonzero().flatten().tolist() == [1, 2, 5]
    insert_compactors(net, [Placement(("conv1",), ("bn1",), 16, {"some": [7]})])
    assert compactor.regularised.nonzero().flatten().tolist() == [7]


def test_placements_are_plain_data_and_back(placements):
    for placement in placements:
        state = placement.state_dict()
        assert Placement.from_state(state).state_dict() == state
        former = {"sites" if key == "behind" else key: value for key, value in state.items()}  # as it was once written
        assert Placement.from_state(former).state_dict() == state
        assert all(isinstance(value, list | dict | int) for value in state.values())


def test_a_copy_goes_through_its_own_compactors(net, placements):
    insert_compactors(net, placements)
    expected, other = net(IMAGES), copy.deepcopy(net)
    assert torch.equal(other(IMAGES), expected)
    other.bn1.compactor.weight.data.zero_()
    assert not torch.allclose(other(IMAGES), expected)
    assert torch.equal(net(IMAGES), expected)
    assert other.bn1.compactor is other.layer1[0].bn2.compactor  # still shared
    assert hooks(other) == hooks(net)


def test_torchs_conversion_to_synchronised_norms_loses_hooks_and_attaching_restores_them(net, placements):
    wide, _ = half_dead(net, placements)
    expected = wide(IMAGES)
    switched = nn.SyncBatchNorm.convert_sync_batchnorm(wide)
    assert hooks(switched) == 0
    attach_compactors(switched)
    attach_compactors(switched)  # once is enough, twice no harm
    assert hooks(switched) == sum(len(placement.behind) for placement in placements)
    assert torch.equal(switched(IMAGES), expected)


@pytest.mark.parametrize("plugin", [SyncBatchNorm(), GpuSyncBatchNorm()], ids=lambda plugin: type(plugin).__name__)
def test_compactors_stay_behind_norms_that_are_switched_over_and_back(net, placements, plugin):
    wide, _ = half_dead(net, placements)
    expected, names = wide(IMAGES), list(wide.state_dict())
    switched = plugin.apply(copy.deepcopy(wide))
    assert torch.equal(switched.eval()(IMAGES), expected)
    assert list(switched.state_dict()) == names
    back = plugin.revert(switched)
    assert torch.equal(back.eval()(IMAGES), expected)
    assert list(back.state_dict()) == names
    assert hooks(back) == hooks(wide)


def test_removing_leaves_the_network_as_it_was(net, placements):
    expected, names = net(IMAGES), list(net.state_dict())
    wide, _ = half_dead(net, placements)
    assert not torch.allclose(wide(IMAGES), expected)
    remove_compactors(wide)
    assert torch.equal(wide(IMAGES), expected)
    assert list(wide.state_dict()) == names
    assert (compactors(wide), hooks(wide)) == ({}, 0)


def test_other_hooks_stay_when_compactors_go(net, placements):
    seen = []
    net.bn1.register_forward_hook(lambda _m, _i, output: seen.append(output))
    insert_compactors(net, placements)
    remove_compactors(net)
    net(IMAGES)
    assert len(seen) == 1


class Squeezing(nn.Module):
    """Has a child that happens to be called ``compactor``, and calls it itself."""

    def __init__(self) -> None:
        super().__init__()
        self.compactor = nn.Conv2d(4, 4, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.compactor(x)


def test_children_of_that_name_that_are_none_are_left_alone():
    net, x = nn.Sequential(nn.Conv2d(3, 4, 1), Squeezing()), torch.randn(1, 3, 4, 4)
    expected = net(x)
    attach_compactors(net)
    assert torch.equal(net(x), expected)
    remove_compactors(net)
    assert isinstance(net[1].compactor, nn.Conv2d)
    assert compactors(net) == {}


def test_a_bare_convolution_can_be_a_site():
    net = nn.Sequential(nn.Conv2d(3, 4, 1), nn.ReLU(), nn.Conv2d(4, 2, 1))
    compactor = insert_compactors(net, [Placement(("0",), ("0",), 4, {"0": [0, 1, 2, 3]})])["0"]
    compactor.weight.data[2] = 0
    assert net[0](torch.randn(1, 3, 4, 4))[:, 2].abs().max() == 0


def test_adopted_compactors_are_those_that_a_state_has(net, placements):
    wide, _ = half_dead(net, placements[:1])
    COMPACTOR.adopt(net, {f"net.{name}": tensor for name, tensor in wide.state_dict().items()}, prefix="net.")
    assert compactors(net).keys() == {*placements[0].behind}  # not shared any more: each site has its own
    net.load_state_dict(wide.state_dict())
    assert torch.equal(net(IMAGES), wide(IMAGES))
