"""Layer-adaptive magnitudes: golden numbers, and what makes them comparable."""

import pytest
import torch

from pruning_lit.criteria import LAMP
from pruning_lit.criteria.lamp import layer_adaptive
from pruning_lit.sparsity import Global
from tests.criteria.given import given, golden, golden_scoring, resnet, scoring


def test_scores_are_the_golden_ones():
    case, _ = golden_scoring()
    torch.testing.assert_close(LAMP().scores(case), golden("lamp"), rtol=0, atol=1e-10)


@pytest.mark.parametrize("reduction", ["sum", "mean", "max", "first"])
def test_the_largest_score_is_exactly_1_in_each_group(reduction):
    found = LAMP(reduction).scores(scoring(resnet(), given(1)))
    assert {float(scores.max()) for scores in found.values()} == {1.0}


def test_a_size_is_divided_by_all_that_are_not_smaller():
    assert layer_adaptive(torch.tensor([2.0, 4.0, 1.0, 1.0])).tolist() == [2 / 6, 1.0, 1 / 8, 1 / 7]


def test_filters_without_weights_are_worth_nothing():
    assert layer_adaptive(torch.tensor([0.0, 3.0, 0.0])).tolist() == [0.0, 1.0, 0.0]
    assert layer_adaptive(torch.zeros(3)).tolist() == [0.0, 0.0, 0.0]


def test_the_scale_of_a_layer_does_not_matter():
    net = resnet()
    before = LAMP().scores(scoring(net, given(1)))
    with torch.no_grad():
        net.layer1[0].conv1.weight.mul_(8)
    torch.testing.assert_close(LAMP().scores(scoring(net, given(1))), before)


def test_budgets_take_the_scores_of_all_groups_as_they_are():
    assert Global(0.5, scope="global").bind(LAMP()).scope == "global"
    assert LAMP.comparable
