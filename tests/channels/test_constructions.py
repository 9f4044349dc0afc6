"""Whatever people build: cut exactly, or left alone with a true reason; never wrong, never broken."""

import functools

import pytest
import torch
from torch import Tensor

from pruning_lit.channels import ChannelGraph, cost, mask, narrow, trace, verify
from pruning_lit.channels.tracing.operations import tensors_of
from tests.channels import constructions, modes
from tests.channels.chance import random_kept, randomise
from tests.channels.constructions import Built

PRUNABLE = constructions.PRUNABLE | modes.PRUNABLE

DRAWS = 2


def build(construction: type[Built]) -> Built:
    torch.manual_seed(0)
    return randomise(construction()).double()


@functools.cache
def traced(construction: type[Built]) -> tuple[ChannelGraph, Tensor]:
    """Its graph, and images."""
    images = torch.randn(3, 3, 6, 6, dtype=torch.float64)
    return trace(build(construction), images[:2]), images


@pytest.fixture(params=PRUNABLE, ids=lambda construction: construction.__name__)
def construction(request) -> type[Built]:
    return request.param


def test_what_can_be_cut_is_cut_exactly(construction):
    graph, images = traced(construction)
    for seed in range(DRAWS):
        kept = random_kept(graph, seed)
        narrowed, masked = build(construction), build(construction)
        narrow(narrowed, graph, kept)
        mask(masked, graph, kept)
        assert verify(narrowed, masked, images) < 1e-10
        assert verify(narrowed, masked, images, training=True) < 1e-10
        assert cost(graph, kept).params == sum(parameter.numel() for parameter in narrowed.parameters())


def test_all_that_can_be_cut_is_offered_and_the_rest_has_a_reason(construction):
    graph, _ = traced(construction)
    writers = {writer for group in graph.prunable if group.size > 1 for writer in group.writers}
    assert writers == set(PRUNABLE[construction].split())
    assert all(group.protected for group in graph.groups if group not in graph.prunable)


@pytest.mark.at_once(15)
def test_the_narrowed_network_trains(construction):
    net, images = build(construction).train(), torch.randn(3, 3, 6, 6, dtype=torch.float64)
    graph = trace(net, images[:2])
    narrow(net, graph, random_kept(graph, 0))
    sum(tensor.square().sum() for tensor in tensors_of(net(images))).backward()
    assert all(bool(p.grad.isfinite().all()) for p in net.parameters() if p.grad is not None)
    assert net.classify.weight.grad is not None
