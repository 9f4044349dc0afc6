"""``widen`` is the inverse of ``narrow``: the same network, or what was trained meanwhile in its former place."""

import copy
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from pruning_lit.channels import Moves, narrow, trace, widen
from pruning_lit.models import cifar_resnet, torchvision_model
from tests.channels.chance import random_kept, randomise

NETWORKS: dict[str, Callable[[], nn.Module]] = {
    "resnet56, select": lambda: cifar_resnet(56, stem="select"),
    "resnet56, tied": lambda: cifar_resnet(56, stem="tied"),
    "densenet121": lambda: torchvision_model("densenet121", 10),
    "mobilenet_v2": lambda: torchvision_model("mobilenet_v2", 10),
    "resnext50": lambda: torchvision_model("resnext50_32x4d", 10),
}

every_network = pytest.mark.parametrize("build", NETWORKS.values(), ids=NETWORKS.keys())


def cut(net: nn.Module, seed: int = 1) -> Moves:
    graph = trace(net, torch.zeros(1, 3, 32, 32))
    return narrow(net, graph, random_kept(graph, seed), rehearse=False)


def state(net: nn.Module) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in net.state_dict().items()}


def numbers(net: nn.Module) -> dict[str, dict[str, int]]:
    """What every module says about itself: ``in_channels``, ``groups`` and their like."""
    return {
        name: {key: value for key, value in vars(module).items() if isinstance(value, int)}
        for name, module in net.named_modules()
    }


def assert_same(net: nn.Module, expected: dict[str, Tensor]) -> None:
    present = net.state_dict()
    assert present.keys() == expected.keys()
    assert [name for name, tensor in present.items() if not torch.equal(tensor, expected[name])] == []


def train(net: nn.Module, seed: int = 5) -> None:
    """Stands for training: every floating-point tensor becomes another one."""
    random = torch.Generator().manual_seed(seed)
    for tensor in net.state_dict().values():
        if tensor.is_floating_point():
            tensor.add_(torch.randn(tensor.shape, generator=random))


@pytest.mark.slow
@pytest.mark.at_once(1)
@every_network
def test_narrow_then_widen_is_the_same_network_bit_for_bit(build):
    net = randomise(build())
    for parameter in list(net.parameters())[::3]:
        parameter.requires_grad_(False)
    before, said, frozen = state(net), numbers(net), [p.requires_grad for p in net.parameters()]
    moves = cut(net)
    assert numbers(net) != said
    widen(net, moves)
    assert_same(net, before)
    assert numbers(net) == said
    assert [p.requires_grad for p in net.parameters()] == frozen


@pytest.mark.at_once(2)
@every_network
def test_what_was_kept_is_as_trained_and_what_came_back_is_as_it_was(build):
    net = randomise(build())
    before = state(net)
    moves = cut(net)
    train(net)
    trained = state(net)
    widen(net, moves)
    for name, present in net.state_dict().items():
        if name not in moves or name.endswith("shortcut.source"):
            assert torch.equal(present, (before if name.endswith("source") else trained)[name]), name
            continue
        assert torch.equal(moves[name].gather(present), trained[name]), name
        came_back = torch.ones_like(present)
        for dim, kept in moves[name].index.items():
            others = torch.ones(present.shape[dim]).index_fill(0, kept, 0)
            came_back = came_back * (1 - others).view([-1 if d == dim else 1 for d in range(present.ndim)])
        assert torch.equal(present[came_back == 0], before[name][came_back == 0]), name


@pytest.mark.parametrize("stem", ["select", "tied"])
def test_several_cuts_are_undone_in_reverse(stem):
    net = randomise(cifar_resnet(8, stem=stem))
    states, cuts = [], []
    for seed in range(3):
        states.append((state(net), numbers(net)))
        cuts.append(cut(net, seed))
    for moves, (before, said) in zip(reversed(cuts), reversed(states), strict=True):
        widen(net, moves)
        assert_same(net, before)
        assert numbers(net) == said


def test_a_relabelling_comes_back_of_which_only_the_input_was_cut():
    net = cifar_resnet(8)
    before = state(net)
    moves = narrow(net, trace(net, torch.zeros(1, 3, 32, 32)), {"conv1": [1, 5, 6], "layer1.0.conv2": [0, 9]})
    assert net.layer2[0].shortcut.source.tolist().count(-1) == 30  # only two still arrive, all 32 are still there
    widen(net, moves)
    assert_same(net, before)


def test_a_cut_before_the_last_one_is_not_undone():
    net = cifar_resnet(8)
    graph = trace(net, torch.zeros(1, 3, 32, 32))
    first = narrow(net, graph, {"layer1.0.conv1": [0, 2, 4, 6]})
    narrow(net, trace(net, torch.zeros(1, 3, 32, 32)), {"layer1.0.conv1": [1, 2]})
    before = state(net)
    with pytest.raises(ValueError, match=r"layer1.0.conv1.weight.*undo the last cut first"):
        widen(net, first)
    assert_same(net, before)


def small() -> nn.Sequential:
    net = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, 5, 1), nn.ReLU())
    return randomise(net.append(nn.Conv2d(5, 2, 1)))


def test_positions_that_come_back_take_the_values_given():
    net = small()
    moves = narrow(net, trace(net, torch.zeros(1, 3, 2, 2)), {"0": [0, 3], "3": [1]})
    trained = state(net)
    stored = {"0.weight": torch.full((4, 3, 1, 1), 7.0), "3.weight": torch.zeros(5, 4, 1, 1)}
    widen(net, moves, stored)
    assert torch.equal(net[0].weight[[0, 3]], trained["0.weight"])
    assert (net[0].weight[[1, 2]] == 7).all()
    assert torch.equal(net[3].weight[1, [0, 3]], trained["3.weight"][0])
    assert net[3].weight.count_nonzero() == 2
    assert torch.equal(net[1].running_mean, moves["1.running_mean"].old)  # not given: as before the cut
    assert (stored["0.weight"] == 7).all()  # what was given stays as it is


def test_values_of_other_shapes_and_other_networks_are_refused():
    net = small()
    moves = narrow(net, trace(net, torch.zeros(1, 3, 2, 2)), {"0": [0, 3]})
    before = state(net)
    with pytest.raises(ValueError, match=r"'0.weight' have the shape \(4,\), but it was \(4, 3, 1, 1\) before"):
        widen(net, moves, {"0.weight": torch.zeros(4)})
    assert_same(net, before)
    with pytest.raises(ValueError, match="widen the model that was narrowed"):
        widen(nn.ModuleDict({"other": nn.Linear(1, 1)}), moves)


@pytest.mark.parametrize("kind", [nn.Conv2d, nn.ConvTranspose2d])
@pytest.mark.parametrize("per_group", [1, 2])
def test_a_grouped_convolution_gets_its_groups_back_also_when_a_single_one_was_left(kind, per_group):
    width = 6 * per_group
    grouped = kind(width, width, 3, padding=1, groups=6)
    net = randomise(nn.Sequential(nn.Conv2d(3, width, 1), grouped, nn.ReLU(), nn.Conv2d(width, 2, 1)))
    x = torch.randn(1, 3, 5, 5)
    before, expected = copy.deepcopy(net), net(x)
    graph = trace(net, x)
    kept = {group.name: list(range(group.size // 6)) for group in graph.prunable}
    first = narrow(net, graph, kept, rehearse=False)
    assert grouped.groups == 1
    copied = copy.deepcopy(net)
    widen(copied, first)
    assert torch.equal(copied(x), expected)
    widen(net, first)
    assert repr(net) == repr(before)
    assert torch.equal(net(x), expected)


def test_a_single_group_that_was_cut_again_as_an_ordinary_convolution_comes_back_too():
    net = randomise(nn.Sequential(nn.Conv2d(3, 8, 1), nn.Conv2d(8, 8, 1, groups=2), nn.ReLU(), nn.Conv2d(8, 2, 1)))
    x = torch.randn(1, 3, 5, 5)
    expected, said = net(x), repr(net)
    cuts = []
    for width in (4, 2):
        graph = trace(net, x)
        kept = {group.name: list(range(min(width, group.size))) for group in graph.prunable}
        cuts.append(narrow(net, graph, kept, rehearse=False))
    for moves in reversed(cuts):
        widen(net, moves)
    assert repr(net) == said
    assert torch.equal(net(x), expected)


def test_a_network_that_changed_its_precision_keeps_it():
    net = small()
    moves = narrow(net, trace(net, torch.zeros(1, 3, 2, 2)), {"0": [0, 3]})
    widen(net.double(), moves)
    assert {tensor.dtype for tensor in net.state_dict().values() if tensor.is_floating_point()} == {torch.float64}


def test_tied_weights_stay_tied():
    net = nn.Sequential(nn.Conv2d(3, 6, 1), nn.Conv2d(6, 6, 1), nn.ReLU(), nn.Conv2d(6, 6, 1), nn.Conv2d(6, 2, 1))
    net[3].weight = net[1].weight
    before = state(net)
    moves = narrow(net, trace(net, torch.zeros(1, 3, 4, 4)), {"0": [0, 2, 5]})
    widen(net, moves)
    assert_same(net, before)
    assert net[3].weight is net[1].weight


def test_channels_that_leave_and_come_back_have_the_values_they_last_had():
    """Three stages of exploration: widen, choose anew, narrow."""
    net = small()
    example, moves, last = torch.zeros(1, 3, 2, 2), None, {}
    for stage, kept in enumerate([[0, 3], [1, 2, 3], [0, 1, 2]]):
        if moves is not None:
            widen(net, moves)
        weight = net[0].weight.detach().clone()
        assert all(torch.equal(weight[channel], row) for channel, row in last.items())
        moves = narrow(net, trace(net, example), {"0": kept})
        train(net, seed=stage)
        last |= dict(zip(kept, net[0].weight.detach().clone(), strict=True))
