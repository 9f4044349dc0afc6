"""Norm recalibration: the statistics of the golden vectors, and nothing else changed."""

import copy

import numpy as np
import pytest
import torch
from torch import nn
from torchvision.ops import FrozenBatchNorm2d

from pruning_lit.channels import narrow, recalibrate, trace
from tests.places import VECTORS

GOLDEN = np.load(VECTORS / "around_pruning" / "recalibration.npz")


def network() -> nn.Sequential:
    """That of the golden vectors, in float64."""
    net = nn.Sequential(
        nn.Conv2d(3, 6, 3, padding=1, bias=False), nn.BatchNorm2d(6), nn.ReLU(),
        nn.Conv2d(6, 5, 3, padding=1, bias=False), nn.BatchNorm2d(5), nn.ReLU(),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(5, 4),
    ).double()  # fmt: skip
    stored = [name for name in GOLDEN.files if name.startswith("state.")]
    state = {name.removeprefix("state."): torch.from_numpy(GOLDEN[name]) for name in stored}
    net.load_state_dict(state, strict=False)
    assert {name for name in net.state_dict() if "num_batches" not in name} <= state.keys()
    return net


BATCHES = [torch.from_numpy(batch) for batch in GOLDEN["x"]]


def test_the_statistics_are_those_of_the_golden_vectors():
    net = network().eval()
    assert recalibrate(net, BATCHES) == 2
    norms = [module for module in net.modules() if isinstance(module, nn.BatchNorm2d)]
    for number, norm in enumerate(norms):
        torch.testing.assert_close(norm.running_mean, torch.from_numpy(GOLDEN[f"mean{number}"]), rtol=0, atol=1e-12)
        torch.testing.assert_close(norm.running_var, torch.from_numpy(GOLDEN[f"var{number}"]), rtol=0, atol=1e-12)
    logits = torch.from_numpy(GOLDEN["logits_after"])
    torch.testing.assert_close(net(BATCHES[0]), logits, rtol=0, atol=1e-12)


@pytest.mark.parametrize("training", [True, False])
def test_parameters_modes_and_momenta_stay_and_twice_is_as_once(training):
    net = nn.Sequential(network(), nn.Dropout(0.5)).train(training)
    net[0][4].eval()
    before = copy.deepcopy(net)
    torch.manual_seed(0)
    state = torch.get_rng_state()
    recalibrate(net, BATCHES)
    once = copy.deepcopy(net.state_dict())
    recalibrate(net, BATCHES)
    assert torch.equal(torch.get_rng_state(), state)  # dropout has drawn nothing
    for (name, value), again in zip(once.items(), net.state_dict().values(), strict=True):
        assert torch.equal(value, again), name
    for (name, value), was in zip(net.named_parameters(), before.parameters(), strict=True):
        assert torch.equal(value, was), name
    for module, was in zip(net.modules(), before.modules(), strict=True):
        assert (type(module), module.training) == (type(was), was.training)
        assert getattr(module, "momentum", None) == getattr(was, "momentum", None)


def test_an_error_leaves_modes_and_kinds_as_they_were():
    net = network().train()
    with pytest.raises(RuntimeError):
        recalibrate(net, [torch.zeros(2, 5, 4, 4).double()])
    assert all(module.training for module in net.modules())
    assert type(net[1]) is nn.BatchNorm2d
    assert net[1].momentum == 0.1


def test_norms_without_running_statistics_are_left_alone():
    net = nn.Sequential(nn.Conv2d(3, 4, 1), nn.GroupNorm(2, 4), nn.BatchNorm2d(4, track_running_stats=False))
    assert recalibrate(net, [torch.randn(4, 3, 5, 5)]) == 0
    frozen = nn.Sequential(nn.Conv2d(3, 4, 1), FrozenBatchNorm2d(4))
    before = copy.deepcopy(frozen.state_dict())
    assert recalibrate(frozen, [torch.randn(4, 3, 5, 5)]) == 0
    assert all(torch.equal(value, before[name]) for name, value in frozen.state_dict().items())


def test_without_batches_it_is_refused():
    with pytest.raises(ValueError, match="there are no batches"):
        recalibrate(network(), [])


def test_a_cut_network_is_nearer_to_what_it_was():
    torch.manual_seed(0)
    net = network().float()
    for norm in (net[1], net[4]):
        nn.init.uniform_(norm.weight, 0.5, 1.5)
    images = torch.randn(64, 3, 6, 6)
    recalibrate(net, [images])
    wanted = net.eval()(images)
    graph = trace(net, images[:1])
    narrow(net, graph, {graph.prunable[0].name: [0, 2, 5]})
    with torch.no_grad():
        right_after = (net(images) - wanted).norm()
        recalibrate(net, [images])
        renewed = (net(images) - wanted).norm()
    assert renewed < right_after


def test_norms_that_do_not_learn_have_new_statistics_behind_a_cut():
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(3, 6, 1), nn.ReLU(), nn.Conv2d(6, 4, 1), nn.BatchNorm2d(4)).requires_grad_(False)
    net[0].requires_grad_(True)
    images = torch.randn(8, 3, 5, 5)
    graph = trace(net.eval(), images[:1])
    narrow(net, graph, {graph.prunable[0].name: [0, 2, 5]})
    assert recalibrate(net, [images]) == 1
    torch.testing.assert_close(net[3].running_mean, net[:3](images).mean((0, 2, 3)))
