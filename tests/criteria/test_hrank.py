"""Ranks of feature maps: golden numbers, and how equal ranks are told apart."""

import pytest
import torch
from torch import nn

from pruning_lit.criteria import HRank, Magnitude
from pruning_lit.criteria.hrank import feature_map_rank
from tests.criteria.given import given, golden, golden_scoring, scoring


def ranks(scores: torch.Tensor, num_images: int) -> torch.Tensor:
    """Mean ranks without what decides between equal ones."""
    return (scores * num_images + 1e-9).floor() / num_images


def test_ranks_are_the_golden_ones():
    case, batch_size = golden_scoring()
    found = HRank(num_images=batch_size, batch_size=3).scores(case)
    assert {name: ranks(each, batch_size).tolist() for name, each in found.items()} == {
        name: each.tolist() for name, each in golden("hrank").items()
    }


def test_the_rank_is_that_of_each_map():
    rows, columns = torch.randn(2, 3, 5, 2), torch.randn(2, 3, 2, 4)
    maps = torch.cat([rows @ columns, torch.zeros(2, 1, 5, 4), torch.ones(2, 1, 5, 4)], dim=1)
    assert feature_map_rank(maps).tolist() == [[2, 2, 2, 0, 1]] * 2
    assert feature_map_rank(maps.half()).dtype == torch.float64


def test_of_equal_ranks_the_larger_filters_stay():
    torch.manual_seed(0)
    net = nn.Sequential(
        nn.Flatten(), nn.Linear(12, 6), nn.Softplus(), nn.Linear(6, 4)
    ).double()  # all maps are of rank 1
    case = scoring(net, given(5, 2))
    scores = HRank(num_images=5).scores(case)
    sizes = Magnitude().scores(case)["1"]
    assert torch.equal(scores["1"].argsort(), sizes.argsort())
    assert ranks(scores["1"], 5).tolist() == [1.0] * 6
    (note,) = HRank(num_images=5).notes(case, scores)
    assert "told apart by magnitude: 6 of 6 in 1." in note


def test_magnitude_never_outweighs_a_rank():
    case, batch_size = golden_scoring()
    with torch.no_grad():
        case.net[0].weight[5] *= 1000  # whose rank is the lowest: norms behind it undo the scale only in part
    criterion = HRank(num_images=batch_size)
    found = criterion.scores(case)["0"]
    plain = ranks(found, batch_size)
    assert bool((plain[found.argsort()].diff() >= 0).all())


def test_ranks_that_differ_need_no_note():
    scores = {"a": torch.tensor([1.0, 1.125, 1.25]).double()}
    assert HRank(num_images=8).notes(golden_scoring()[0], scores) == []


def test_other_maps_are_refused():
    with pytest.raises(ValueError, match=r"expected floating maps \(N, C, H, W\), got torch.int64 of shape \(3, 4\)"):
        feature_map_rank(torch.zeros(3, 4, dtype=torch.int64))
    with pytest.raises(ValueError, match="feature maps are not finite"):
        feature_map_rank(torch.full((1, 1, 2, 2), torch.nan))
