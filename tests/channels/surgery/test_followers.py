"""Optimizers that are handed to ``narrow``; the course of their state is held in ``test_optimizer_trajectories``."""

import pytest
import torch
from torch import Tensor, nn

from pruning_lit.channels import narrow, trace

EXAMPLE = torch.zeros(1, 3, 8, 8)
KEPT = {"0": [0, 2, 5], "3": [1, 2]}


def network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 6, 3), nn.BatchNorm2d(6), nn.ReLU(), nn.Conv2d(6, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(64, 2)
    )


def trained(net: nn.Module, make=torch.optim.Adam) -> torch.optim.Optimizer:
    optimizer = make(net.parameters(), lr=0.1)
    net(torch.rand(2, 3, 8, 8)).square().sum().backward()
    optimizer.step()
    return optimizer


def shapes(net: nn.Module) -> dict[str, torch.Size]:
    return {name: tensor.shape for name, tensor in net.state_dict().items()}


def test_the_optimizer_steps_what_is_left_with_its_moments():
    net = network()
    optimizer = trained(net)
    moments = optimizer.state[net[0].weight]["exp_avg"].clone()
    moves = narrow(net, trace(net, EXAMPLE), KEPT, optimizer=optimizer)
    assert set(optimizer.param_groups[0]["params"]) == set(net.parameters()) == set(optimizer.state)
    assert torch.equal(optimizer.state[net[0].weight]["exp_avg"], moments[[0, 2, 5]])
    assert "0.weight" in moves


def test_several_optimizers_follow_each_its_own_part():
    net = network()
    body, head = torch.optim.SGD(net[:4].parameters(), lr=0.1), torch.optim.SGD(net[6].parameters(), lr=0.1)
    narrow(net, trace(net, EXAMPLE), KEPT, optimizer=[body, head])
    assert set(body.param_groups[0]["params"]) == set(net[:4].parameters())
    assert set(head.param_groups[0]["params"]) == set(net[6].parameters())


def test_an_optimizer_of_another_network_is_refused_before_anything_is_cut():
    net, before = network(), shapes(network())
    optimizer = torch.optim.SGD(network().parameters(), lr=0.1)
    with pytest.raises(ValueError, match="the SGD holds no parameter of the Sequential: hand over the optimizer"):
        narrow(net, trace(net, EXAMPLE), KEPT, optimizer=optimizer)
    assert shapes(net) == before


def test_a_state_that_cannot_follow_is_refused_before_anything_is_cut():
    net, before = network(), shapes(network())
    follows, cannot = trained(net), trained(net, torch.optim.Adafactor)
    held: list[Tensor] = list(follows.param_groups[0]["params"])
    with pytest.raises(ValueError, match=r"of Adafactor has the shape .*; it cannot follow a cut"):
        narrow(net, trace(net, EXAMPLE), KEPT, optimizer=[follows, cannot])
    assert shapes(net) == before
    assert all(one is other for one, other in zip(follows.param_groups[0]["params"], held, strict=True))
