"""Widths that modules keep as numbers: rewritten by surgery, saved, loaded and undone with the layers."""

import copy

import pytest
import torch
from torch import nn

from pruning_lit.channels import adopt_on_load, carry_average, load, narrow, save, trace, widen
from pruning_lit.reports.groups import rewritten_numbers
from tests.channels.chance import random_kept, randomise
from tests.channels.constructions import (
    Built,
    ChildAttribute,
    Coincidence,
    FractionAttribute,
    GridAttribute,
    HalvedAttribute,
    MultipleAttribute,
    ParentAttribute,
    RestAttribute,
    SharedAttribute,
    SizesAttribute,
    Unflattened,
    ViewAttribute,
    WidthAttribute,
)

IMAGES = torch.rand(2, 3, 6, 6, generator=torch.Generator().manual_seed(0))
KEPT = {"first#1": [0, 2], "first#2": [1, 3, 4]}  # of the parts of three and five channels


def fresh(construction: type[Built]) -> Built:
    torch.manual_seed(0)
    return randomise(construction())


def narrowed(construction: type[Built], seed: int = 1) -> Built:
    net = fresh(construction)
    graph = trace(net, IMAGES)
    narrow(net, graph, random_kept(graph, seed))
    return net


def test_a_list_of_widths_says_what_is_left_of_each_part():
    net = fresh(SizesAttribute)
    narrow(net, trace(net, IMAGES), KEPT)
    assert net.sizes == [2, 3]
    assert (net.small.in_channels, net.large.in_channels) == (2, 3)


@pytest.mark.parametrize("construction", [SizesAttribute, HalvedAttribute, Unflattened, ViewAttribute, GridAttribute])
def test_a_network_comes_back_from_its_file_with_its_numbers(construction, tmp_path):
    net = narrowed(construction)
    save(net, tmp_path / "net.safetensors")
    assert torch.equal(load(tmp_path / "net.safetensors", construction())(IMAGES), net(IMAGES))


def test_a_checkpoint_brings_the_numbers_to_a_dense_network():
    net, other = narrowed(SizesAttribute), SizesAttribute().eval()
    adopt_on_load(other)
    other.load_state_dict(net.state_dict())
    assert other.sizes == net.sizes
    assert torch.equal(other(IMAGES), net(IMAGES))


def test_a_second_cut_goes_on_from_the_numbers_of_the_first():
    net = fresh(SizesAttribute)
    narrow(net, trace(net, IMAGES), KEPT)
    narrow(net, trace(net, IMAGES), {"first#2": [2]})
    assert net.sizes == [2, 1]
    net(IMAGES)


@pytest.mark.parametrize("construction", [RestAttribute, WidthAttribute])
def test_widening_brings_the_numbers_back(construction):
    net = fresh(construction)
    before = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    numbers, expected = (net.part, vars(net).get("whole")), net(IMAGES)
    graph = trace(net, IMAGES)
    moves = narrow(net, graph, {group.name: [0] for group in graph.prunable})
    assert (net.part, vars(net).get("whole")) != numbers
    widen(net, moves)
    assert (net.part, vars(net).get("whole")) == numbers
    assert net.state_dict().keys() == before.keys()
    assert torch.equal(net(IMAGES), expected)


def test_averaged_weights_follow():
    net = fresh(SizesAttribute)
    average = copy.deepcopy(net)
    carry_average(average, narrow(net, trace(net, IMAGES), KEPT))
    assert average.sizes == net.sizes
    assert torch.equal(average(IMAGES), net(IMAGES))


def test_a_number_that_only_happens_to_be_a_width_is_left_alone():
    net = narrowed(Coincidence)
    assert (net.repeats, net.sizes) == (4, [4, 4])


@pytest.mark.parametrize(
    ("construction", "names"),
    [
        (Coincidence, set()),
        (RestAttribute, {"part", "whole"}),
        (SharedAttribute, {"part"}),
        (MultipleAttribute, {"part"}),
        (FractionAttribute, {"ratio"}),
        (ParentAttribute, {"given"}),
        (ChildAttribute, {"child.part"}),
    ],
)
def test_all_numbers_that_are_widths_are_found_and_no_others(construction, names):
    assert {f"{each.module}.{each.name}".lstrip(".") for each in trace(fresh(construction), IMAGES).numbers} == names


@pytest.mark.parametrize("saved", [[2, 9], [0, 3], [-1, 3], [2], [2, 3, 1]])
def test_a_file_may_not_set_other_numbers_than_smaller_widths(saved):
    net = SizesAttribute()
    adopt_on_load(net)
    state = net.state_dict() | {"width_of_sizes": torch.tensor(saved)}
    with pytest.raises(RuntimeError, match="width_of_sizes"):
        net.load_state_dict(state)
    assert net.sizes == [3, 5]


def test_training_is_no_width():
    net = nn.Sequential(nn.Linear(2, 2))
    adopt_on_load(net)
    with pytest.raises(RuntimeError, match="width_of_training"):
        net.load_state_dict(net.state_dict() | {"width_of_training": torch.tensor([1])})


def test_the_numbers_are_told():
    told = rewritten_numbers(trace(fresh(SizesAttribute), IMAGES))
    assert told == "Numbers of modules that are rewritten with their widths: sizes."
    assert not rewritten_numbers(trace(fresh(Coincidence), IMAGES))
