"""What a budget of MACs leaves to the criterion: whether layers are compared, and in which unit."""

import pytest
import torch

from pruning_lit.criteria import BatchNormScale, ChannelIndependence, Magnitude, Random, RedundancyGraph
from pruning_lit.sparsity import Global, Macs, Uniform
from tests.sparsity.networks import noise, plain


class InOneUnit(Magnitude):
    """A criterion whose scores of different layers can be compared."""

    comparable = True


GRAPH = plain(16, 16, 16)
SCORES = {name: each.float() for name, each in noise(GRAPH).items()}


def kept_by(sparsity, criterion):
    return sparsity.bind(criterion).kept(GRAPH, SCORES)


@pytest.mark.parametrize("criterion", [BatchNormScale, ChannelIndependence, Magnitude, Random, RedundancyGraph])
def test_scores_that_were_never_comparable_are_not_compared(criterion):
    assert not criterion.comparable
    expected = Macs(0.5, "layer", normalise=True).kept(GRAPH, SCORES)
    if criterion is Magnitude:
        assert kept_by(Macs(0.5), criterion()) == expected
    assert Macs(0.5).kept(GRAPH, SCORES) == expected  # bound to none


def test_comparable_scores_are_compared_as_they_are():
    expected = Macs(0.5, "global", normalise=False).kept(GRAPH, SCORES)
    assert expected != Macs(0.5, "global", normalise=True).kept(GRAPH, SCORES)
    assert kept_by(Macs(0.5), InOneUnit()) == expected
    assert kept_by(Macs(0.5, "global"), InOneUnit()) == expected


@pytest.mark.parametrize("scope", ["layer", "global"])
@pytest.mark.parametrize("normalise", [True, False])
@pytest.mark.parametrize("criterion", [Magnitude, InOneUnit])
def test_what_is_set_holds_for_every_criterion(scope, normalise, criterion):
    sparsity = Macs(0.5, scope, normalise)
    bound = sparsity.bind(criterion())
    assert (bound.scope, bound.normalise) == (scope, normalise)


def test_a_bound_budget_is_another_one_and_the_last_criterion_counts():
    sparsity = bound = Macs(0.5)
    for criterion, expected in ((InOneUnit(), ("global", False)), (Magnitude(), ("layer", True))) * 2:
        bound = bound.bind(criterion)
        assert (bound.scope, bound.normalise) == expected
    assert (sparsity.scope, sparsity.normalise) == ("layer", True)


@pytest.mark.parametrize("sparsity", [Global(0.5), Global(0.5, rule="slimming"), Uniform(0.5)])
def test_other_budgets_do_not_depend_on_it(sparsity):
    before = sparsity.kept(GRAPH, SCORES)
    assert kept_by(sparsity, InOneUnit()) == before


def test_equal_shares_go_by_default_whatever_the_unit_of_a_layer():
    rescaled = {name: each * 10.0**number for number, (name, each) in enumerate(SCORES.items())}
    assert {name: len(stay) for name, stay in Macs(0.5).kept(GRAPH, rescaled).items()} == {
        name: len(stay) for name, stay in Macs(0.5).kept(GRAPH, SCORES).items()
    }
    assert torch.tensor([len(stay) for stay in Macs(0.5).kept(GRAPH, SCORES).values()]).diff().abs().max() <= 1
