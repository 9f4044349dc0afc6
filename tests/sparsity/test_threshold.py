"""One threshold for all channels: who goes, what keeps a layer from being emptied, and what is refused."""

from fractions import Fraction

import pytest
import torch
from torch import Tensor

from pruning_lit.channels import ChannelGraph, trace
from pruning_lit.criteria import global_threshold
from pruning_lit.models import preresnet
from pruning_lit.sparsity import DenseCost, Global
from tests.sparsity.networks import plain, traced


def reference(rate: float, **options) -> Global:
    return Global(rate, rule="slimming", **options)


def scored(graph: ChannelGraph, sparsity: Global, seed: int = 0) -> dict[str, Tensor]:
    random = torch.Generator().manual_seed(seed)
    return {g.name: torch.rand(g.size, dtype=torch.float64, generator=random) for g in sparsity.prunable_groups(graph)}


def in_order(graph: ChannelGraph) -> dict[str, Tensor]:
    """Scores 1, 2, 3 … from the first group's first channel on."""
    scores, start = {}, 1
    for group in Global(0.5).prunable_groups(graph):
        scores[group.name] = torch.arange(start, start + group.size, dtype=torch.float64)
        start += group.size
    return scores


@pytest.mark.parametrize("rate", [0.1, 0.29, 0.5, 0.9])
@pytest.mark.parametrize("arch", ["resnet_8", "vgg_16_bn"])
def test_what_stays_is_what_the_pure_rule_keeps(arch, rate):
    graph, sparsity = traced(arch), reference(rate)
    scores = scored(graph, sparsity)
    threshold, masks = global_threshold(list(scores.values()), rate)
    plan = sparsity.plan(graph, scores)
    for (name, kept), mask in zip(plan.kept.items(), masks, strict=True):
        assert kept == (mask.nonzero().flatten().tolist() or [int(scores[name].argmax())]), name
    assert plan.threshold == pytest.approx(float(threshold), abs=1e-7)


def test_a_rate_of_zero_prunes_nothing():
    graph = plain(8, 6, 4)
    assert reference(0).plan(graph, in_order(graph)).widths == {"0": 8, "1": 6, "2": 4}


def test_equal_scores_at_the_threshold_go_together():
    graph = plain(8, 6, 4)
    scores = {"0": torch.full((8,), 1.0), "1": torch.tensor([1.0, 2, 2, 2, 2, 2]), "2": torch.ones(4) * 3}
    scores["0"][0] = 5.0
    plan = reference(0.1).plan(graph, {name: each.double() for name, each in scores.items()})
    assert plan.kept == {"0": [0], "1": [1, 2, 3, 4, 5], "2": [0, 1, 2, 3]}


def test_a_floor_keeps_the_best_of_an_emptied_layer_and_says_so():
    graph = plain(8, 6, 4)
    plan = reference(0.5).plan(graph, in_order(graph))  # threshold 10: all of the first layer, 2 of the second
    assert plan.kept == {"0": [7], "1": [2, 3, 4, 5], "2": [0, 1, 2, 3]}
    assert "All channels of `0` (8) would go, the largest score is 8; the best 1 stay." in plan.notes
    plan = reference(0.5, min_channels=3).plan(graph, in_order(graph))
    assert plan.kept["0"] == [5, 6, 7]


def test_at_most_half_of_a_layer_goes_with_a_cap():
    graph = plain(8, 6, 4)
    plan = reference(0.5, min_share=0.5).plan(graph, in_order(graph))
    assert plan.widths == {"0": 4, "1": 4, "2": 4}  # nothing is made up for elsewhere


def test_every_group_has_a_threshold_of_its_own_with_scope_layer():
    graph = plain(8, 6, 4)
    plan = reference(0.5, scope="layer").plan(graph, in_order(graph))
    assert plan.kept == {"0": [5, 6, 7], "1": [4, 5], "2": [3]}  # trunc(n / 2) + 1 go
    assert plan.threshold is None


def test_emptied_layers_are_all_named_where_that_is_an_error():
    graph = plain(8, 6, 4)
    sparsity = reference(0.8, on_empty="error")
    with pytest.raises(ValueError, match=r"all channels of '0', '1' would go, and sparsity.on_empty=error") as told:
        sparsity.plan(graph, in_order(graph))
    assert "the largest sparsity.rate that empties no group is 0.388" in str(told.value)  # 7 of 18
    reference(0.388, on_empty="error").plan(graph, in_order(graph))
    with pytest.raises(ValueError, match="'0'"):
        reference(0.39, on_empty="error").plan(graph, in_order(graph))


@pytest.mark.parametrize("on_empty", ["floor", "error", "remove"])
def test_a_threshold_that_takes_everything_is_refused_whatever_happens_to_single_layers(on_empty):
    graph = plain(8, 6, 4)
    equal = {
        name: torch.full((size,), 0.5, dtype=torch.float64)
        for name, size in zip(("0", "1", "2"), (8, 6, 4), strict=True)
    }
    with pytest.raises(ValueError, match=r"would take all 18 channels, none scores above 0.5.*never trained"):
        reference(0.1, on_empty=on_empty).plan(graph, equal)


def test_a_branch_that_would_add_nothing_is_taken_out_where_asked():
    graph = trace(preresnet(20), torch.zeros(1, 3, 32, 32))
    sparsity = reference(0.05, on_empty="remove")
    scores = {name: each + 1 for name, each in scored(graph, sparsity).items()}
    (branch,) = [branch for branch in graph.branches if branch.path == "layer2.1"]
    scores[branch.end] = torch.zeros_like(scores[branch.end])
    plan = sparsity.plan(graph, scores)
    assert plan.branches == ["layer2.1"]
    assert all(plan.kept[name] == [] for name in branch.groups)
    assert "Nothing is left that these residual branches would add, so they are taken out: `layer2.1`." in plan.notes
    floored = reference(0.05).plan(graph, scores)
    assert len(floored.kept[branch.end]) == 1
    assert plan.cost.macs < floored.cost.macs


def test_an_emptied_layer_whose_removal_is_not_exact_keeps_its_best_channel():
    graph = trace(preresnet(20), torch.zeros(1, 3, 32, 32))
    sparsity = reference(0.05, on_empty="remove")
    scores = {name: each + 1 for name, each in scored(graph, sparsity).items()}
    scores["layer2.1.conv1"] = torch.zeros(32, dtype=torch.float64)  # in front of the branch's second norm
    plan = sparsity.plan(graph, scores)
    assert plan.branches == []
    assert len(plan.kept["layer2.1.conv1"]) == 1


def test_a_branch_with_a_group_that_has_to_stay_is_not_taken_out():
    graph = trace(preresnet(20), torch.zeros(1, 3, 32, 32))
    sparsity = reference(0.05, on_empty="remove", exclude=["layer2.1.select"])
    scores = {name: each + 1 for name, each in scored(graph, sparsity).items()}
    scores["layer2.1.conv2"] = torch.zeros(32, dtype=torch.float64)
    assert sparsity.plan(graph, scores).branches == []


def test_the_second_of_two_cuts_goes_the_rest_of_the_way():
    dense = DenseCost.of(plain(8, 6, 4))
    graph = plain(5, 4, 4)  # 13 of 18 are left, at two thirds of the way to 9
    interleaved = {"0": torch.arange(0, 15, 3), "1": torch.arange(1, 13, 3), "2": torch.arange(2, 14, 3)}
    scores = {name: each.double() for name, each in interleaved.items()}
    plan = reference(0.5).plan(graph, scores, dense, Fraction(1))
    assert sum(plan.widths.values()) == 18 - 9 - 1  # the channel at the threshold goes, too


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"rule": "strict"}, r"sparsity.rule must be one of \['exact', 'slimming'\], got 'strict'"),
        ({"scope": "block"}, r"sparsity.scope must be one of \['layer', 'global'\], got 'block'"),
        ({"on_empty": "ignore"}, r"sparsity.on_empty must be one of \['floor', 'error', 'remove'\], got 'ignore'"),
    ],
)
def test_unknown_options_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        Global(0.5, **options)


@pytest.mark.parametrize("rate", [-0.1, 1.0, 2])
def test_a_rate_outside_its_range_is_refused(rate):
    with pytest.raises(ValueError, match=r"outside \[0, 1\)"):
        reference(rate)
