"""A budget for a part of the network: other channels stay, other multiply-accumulates do not count."""

from fractions import Fraction

import pytest
import torch
from torch import nn

from pruning_lit.channels import cost, cost_of_widths, trace
from pruning_lit.criteria import Magnitude
from pruning_lit.criteria.base import Scoring
from pruning_lit.sparsity import DenseCost, Macs, Uniform


def detector() -> nn.Module:
    torch.manual_seed(0)
    backbone = nn.Sequential(nn.Conv2d(3, 16, 3), nn.ReLU(), nn.Conv2d(16, 24, 3), nn.ReLU())
    return nn.Sequential(backbone, nn.Sequential(nn.Conv2d(24, 40, 3), nn.ReLU(), nn.Conv2d(40, 5, 1)))


GRAPH = trace(detector(), torch.zeros(1, 3, 16, 16))
SCORES = Magnitude().scores(Scoring(detector(), GRAPH, list(GRAPH.prunable)))


@pytest.mark.parametrize("reduction", [0.3, 0.5, 0.7])
def test_the_multiply_accumulates_of_the_part_go(reduction):
    budget = Macs(reduction, "layer", part="0")
    budget.check(GRAPH)
    plan = budget.plan(GRAPH, SCORES)
    assert plan.kept.keys() == {"0.0", "0.2"}
    part = GRAPH.within("0")
    left = cost(part, plan.kept).macs
    assert left <= (1 - reduction) * cost(part).macs
    wider = {name: len(positions) + 1 for name, positions in plan.kept.items()}
    assert cost_of_widths(part, wider).macs > (1 - reduction) * cost(part).macs  # no more went than had to
    assert plan.cost == cost(GRAPH, plan.kept)
    assert any(f"In `0` {left:,} of {cost(part).macs:,} MACs stay" in note for note in plan.notes)


def test_in_several_cuts_the_part_is_held_against_what_it_was_at_first():
    dense, budget = DenseCost.of(GRAPH), Macs(0.6, "layer", part="0")
    whole = cost(GRAPH.within("0")).macs
    half = budget.plan(GRAPH, SCORES, dense, Fraction(1, 2))
    assert 0.55 * whole < cost(GRAPH.within("0"), half.kept).macs <= 0.7 * whole


def test_a_share_of_channels_is_one_of_the_part():
    plan = Uniform(0.5, part="0").plan(GRAPH, SCORES)
    assert {name: len(positions) for name, positions in plan.kept.items()} == {"0.0": 8, "0.2": 12}


def test_what_cannot_be_is_told():
    with pytest.raises(ValueError, match=r"nothing can be pruned.*outside of sparsity.part=neck"):
        Macs(0.5, part="neck").check(GRAPH)
    with pytest.raises(ValueError, match=r"at most 0\.9\d* can go"):
        Macs(0.999, "layer", part="0").check(GRAPH)
    with pytest.raises(ValueError, match=r"leave out sparsity\.part"):
        Macs(0.5, part="0", macs_convention="published")
    with pytest.raises(ValueError, match="path of a module"):
        Macs(0.5, part=3)
