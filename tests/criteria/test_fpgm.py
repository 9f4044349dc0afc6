"""Distances between filters: golden numbers, and what follows from the geometric median."""

import pytest
import torch
from torch import nn

from pruning_lit.criteria import FPGM
from pruning_lit.criteria.fpgm import total_distances
from tests.criteria.given import given, golden, golden_scoring, resnet, scoring


@pytest.mark.parametrize(("distance", "name"), [("l2", "fpgm_l2"), ("cosine", "fpgm_cos")])
def test_scores_are_the_golden_ones(distance, name):
    case, _ = golden_scoring()
    torch.testing.assert_close(FPGM(distance).scores(case), golden(name), rtol=0, atol=1e-10)


@pytest.mark.parametrize("distance", ["l2", "cosine"])
def test_permuted_filters_have_permuted_scores(distance):
    filters, order = torch.randn(9, 4, generator=torch.Generator().manual_seed(0)), torch.arange(9).flip(0)
    found, expected = total_distances(filters[order], distance), total_distances(filters, distance)[order]
    torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("distance", ["l2", "cosine"])
def test_a_duplicated_filter_is_the_first_to_go(distance):
    filters = torch.eye(6, 8)
    filters[4] = filters[1]
    lowest = total_distances(filters, distance).argsort(stable=True)[:2]
    assert set(lowest.tolist()) == {1, 4}


def test_equal_filters_are_at_no_distance():
    assert total_distances(torch.full((40, 100), 1 / 3)).tolist() == [0.0] * 40


def test_distances_in_the_layers_of_a_stream_are_added():
    net = resnet()
    stem, branch = (total_distances(each.weight.detach().flatten(1)) for each in (net.conv1, net.layer1[0].conv2))
    expected = {"sum": stem + branch, "mean": (stem + branch) / 2, "max": torch.maximum(stem, branch), "first": stem}
    for reduction, scores in expected.items():
        found = FPGM(reduction=reduction).scores(scoring(net, given(1)))
        torch.testing.assert_close(found["conv1"], scores)


def test_linear_layers_are_judged_too():
    net = nn.Sequential(nn.Flatten(), nn.Linear(12, 5), nn.ReLU(), nn.Linear(5, 4)).double()
    found = FPGM().scores(scoring(net, given(1, 2)))
    torch.testing.assert_close(found["1"], total_distances(net[1].weight.detach()))


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"distance": "l1"}, "criterion.distance must be one of .*'cosine'.*, got 'l1'"),
        ({"reduction": "median"}, "criterion.reduction must be one of .*'sum'.*, got 'median'"),
    ],
)
def test_settings_out_of_range_are_refused_by_name(settings, told):
    with pytest.raises(ValueError, match=told):
        FPGM(**settings)
