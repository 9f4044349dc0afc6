"""One rate for all layers, and the patterns of what is left whole."""

from fractions import Fraction

import pytest

from pruning_lit.sparsity import DenseCost, Global, Macs, Uniform
from tests.sparsity.networks import noise, plain, traced


def test_every_group_loses_the_same_share():
    graph = traced("resnet_8")
    kept = Uniform("0.25").kept(graph, noise(graph))
    assert {name: len(positions) for name, positions in kept.items()} == {
        group.name: group.size * 3 // 4 for group in graph.prunable
    }


def test_one_channel_stays_in_every_group():
    graph = plain(8, 2, 1)
    assert {name: len(positions) for name, positions in Uniform(0.999).kept(graph, noise(graph)).items()} == {
        "0": 1,
        "1": 1,
        "2": 1,
    }


def test_excluded_groups_are_not_in_the_choice():
    graph = traced("resnet_8")
    kept = Uniform(0.5, exclude=["layer1.*", "conv1"]).kept(graph, noise(graph))
    assert sorted(kept) == ["layer2.0.conv1", "layer2.0.conv2", "layer3.0.conv1", "layer3.0.conv2"]


@pytest.mark.parametrize("sparsity", [Uniform, Global, Macs])
def test_a_pattern_that_matches_nothing_is_refused_with_the_names(sparsity):
    with pytest.raises(
        ValueError, match=r"sparsity.exclude: no group is called 'layer9\.\*'.*'conv1', 'layer1.0.conv1'"
    ):
        sparsity(0.5, exclude=["layer9.*"]).check(traced("resnet_8"))


def test_excluding_what_is_protected_anyway_is_allowed():
    graph = traced("resnet_8")
    assert Uniform(0.5, exclude=["linear"]).kept(graph, noise(graph)).keys() == {g.name for g in graph.prunable}


def test_cuts_in_several_steps_are_shares_of_the_dense_network():
    dense = DenseCost.of(plain(10, 10, 10))
    halfway = Uniform(0.4).widths(plain(10, 10, 10), {}, dense, Fraction(1, 2))
    assert halfway == {"0": 8, "1": 8, "2": 8}
    assert Uniform(0.4).widths(plain(8, 8, 8), {}, dense, Fraction(1)) == {"0": 6, "1": 6, "2": 6}


@pytest.mark.parametrize("rate", [1.0, -0.1, "x"])
def test_a_bad_rate_is_refused_by_name(rate):
    with pytest.raises(ValueError, match=r"sparsity\.rate"):
        Uniform(rate)
