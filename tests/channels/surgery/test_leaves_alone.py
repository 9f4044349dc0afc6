"""A trace leaves the model, its surroundings and random numbers as they were, and finds the same again."""

import copy
import random
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from pruning_lit.channels import ChannelGraph, observe, trace
from pruning_lit.channels.tracing.reach import EXITS, Exits
from pruning_lit.models import cifar_resnet
from tests.channels import constructions, modes
from tests.channels.chance import randomise
from tests.channels.constructions import Built

CONSTRUCTIONS = [*constructions.PRUNABLE, *modes.PRUNABLE]


def picture(value: Any) -> Any:
    """Plain data that is equal for equal states, of attributes, containers and tensors."""
    if isinstance(value, Tensor):
        kind = value.dtype, tuple(value.shape), value.requires_grad, value.is_inference(), type(value)
        return id(value), kind, value.detach().numpy().tobytes()
    if isinstance(value, nn.Module):
        return {name: picture(one) for name, one in vars(value).items()}
    if isinstance(value, dict):
        return [(key, picture(one)) for key, one in value.items()]
    if isinstance(value, list | tuple | set):
        return [picture(one) for one in value]
    return value if isinstance(value, int | float | str | None) else id(value)


def surroundings() -> Any:
    return (
        random.getstate(),
        np.random.get_state()[1].tobytes(),
        torch.get_rng_state().tolist(),
        torch.is_grad_enabled(),
    )


def found(graph: ChannelGraph) -> Any:
    return [
        (group.name, group.size, group.protected, [(p.tensor, p.dim, p.positions.tolist()) for p in group.slices])
        for group in graph.groups
    ]


@settings(max_examples=25, deadline=None, derandomize=True)
@given(
    st.sampled_from(CONSTRUCTIONS),
    st.sampled_from([True, False]),
    st.integers(0, 2),
    st.integers(0, 2**31),
)
def test_a_trace_changes_nothing_and_finds_the_same_again(construction, training, passes, seed):
    net, images = randomise(construction(), seed).train(training), torch.rand(2, 3, 6, 6)
    net.last.eval()
    for _ in range(passes):
        net(images)
    before, around, given = picture(net), surroundings(), images.clone()
    graph = trace(net, images)
    assert picture(net) == before
    assert surroundings() == around
    assert torch.equal(images, given)
    assert found(trace(net, images)) == found(graph)


@pytest.mark.slow
@pytest.mark.parametrize("construction", CONSTRUCTIONS, ids=lambda kind: kind.__name__)
def test_a_trace_changes_nothing_of_any_construction(construction):
    test_a_trace_changes_nothing_and_finds_the_same_again.hypothesis.inner_test(construction, True, 1, 0)


@pytest.mark.parametrize("network", [modes.Remembers, modes.RemembersGrid])
def test_what_a_network_remembers_does_not_change_what_may_be_cut(network):
    net = network().eval()
    fresh = found(trace(net, torch.zeros(1, 3, 6, 6)))
    for size in (6, 8):
        net(torch.zeros(1, 3, size, size))
        before = picture(net)
        assert found(trace(net, torch.zeros(1, 3, 6, 6))) == fresh
        assert found(trace(net, torch.zeros(1, 3, 8, 8))) == fresh
        assert picture(net) == before
    net.train()(torch.zeros(2, 3, 8, 8)).sum().backward()


@pytest.mark.parametrize("passes", [0, 1])
def test_the_maps_of_a_network_that_remembers_are_those_of_its_trace(passes):
    net, images = randomise(modes.RemembersGrid()), torch.rand(2, 3, 6, 6)
    for _ in range(passes):
        net(images)
    (feature_map,) = trace(net, images)["last"].feature_maps
    seen: list[Tensor] = []
    for _ in range(2):
        observe(net, (images,), {feature_map.operation: lambda maps: seen.append(maps.clone())})
    assert seen[0].shape == (2, 6, 6, 6)
    assert torch.equal(*seen)
    assert torch.allclose(net.classify(seen[0].mean((2, 3))), net(images))


class Merging(Built):
    """Changes its own weights when its mode is set, and in every pass, as some adapters do."""

    def train(self, mode=True):
        self.first.weight.data *= 0.5 if mode else 2.0
        return super().train(mode)

    def forward(self, image):
        self.last.weight.data.clamp_(-0.01, 0.01)
        return super().forward(image)


class Shut(Built):
    """Works through a function that knows the model itself, not a copy."""

    def build(self):
        self.inner = nn.Sequential(constructions.conv(8, 8), nn.BatchNorm2d(8))
        self.apply_inner = lambda x: self.inner(x)

    def between(self, x):
        return self.apply_inner(x) if self.training else self.apply_inner(x).relu()


class Autoregressive(Built):
    """Puts masked weights in the place of its own in every pass, as PixelCNN does, and decides by a value."""

    def forward(self, image):
        self.last.weight.data = self.last.weight.data * (torch.arange(self.last.weight.shape[1]) % 2)[:, None, None]
        result = super().forward(image)
        return result, result[result > 0].sum()


@pytest.mark.parametrize("network", [Merging, Autoregressive, Shut])
def test_weights_that_a_model_changes_by_itself_and_statistics_out_of_reach_are_as_before(network):
    net = network().train()
    before = picture(net)
    trace(net, torch.rand(2, 3, 6, 6))
    assert picture(net) == before


def test_no_picture_is_refused():
    with pytest.raises(ValueError, match=r"example_input has no pictures, its shape is \(0, 3, 6, 6\)"):
        trace(cifar_resnet(8), torch.zeros(0, 3, 6, 6))


def test_a_model_that_has_run_with_gradients_is_traced_as_it_is():
    net = modes.Kept().train()
    net(torch.rand(2, 3, 6, 6))
    kept = net.kept["maps"][0]
    assert kept.grad_fn is not None
    trace(net, torch.rand(2, 3, 6, 6))
    assert net.kept["maps"][0] is kept
    with pytest.raises(RuntimeError, match="graph leaves"):
        copy.deepcopy(net)


def test_ways_out_of_a_tensor_are_watched_in_a_pass_only():
    before = [getattr(Tensor, name) for name in EXITS]
    with pytest.raises(ZeroDivisionError), Exits(lambda _tensor, _way: 1 // 0):
        torch.zeros(2).tolist()
    assert [getattr(Tensor, name) for name in EXITS] == before
