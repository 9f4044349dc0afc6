"""Budgets of the whole network: the share of channels, and the multiply-accumulates."""

import math
from collections import Counter
from fractions import Fraction

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pruning_lit.channels import cost_of_widths, narrow, trace
from pruning_lit.models import cifar_resnet
from pruning_lit.sparsity import DenseCost, Global, Macs
from pruning_lit.sparsity.global_budgets import STREAMS_START
from pruning_lit.sparsity.layout import is_stream
from tests.sparsity.networks import noise, plain, traced

everything = Fraction(1)


def widths(sparsity, graph, scores, progress=everything):
    return sparsity.widths(graph, scores, DenseCost.of(graph), progress)


def scores_of(graph, *values):
    """Scores layer by layer."""
    return {g.name: torch.tensor(v, dtype=torch.float64) for g, v in zip(graph.groups, values, strict=False)}


@settings(max_examples=60, deadline=None, derandomize=True)
@given(percent=st.integers(0, 80), seed=st.integers(0, 1000), normalise=st.booleans())
def test_the_share_of_channels_asked_is_the_share_got(percent, seed, normalise):
    graph = traced("resnet_8")
    sparsity = Global(f"{percent / 100}", normalise)
    sparsity.check(graph)
    total = sum(group.size for group in graph.prunable)
    chosen = widths(sparsity, graph, noise(graph, seed))
    assert total - sum(chosen.values()) == total * percent // 100
    assert min(chosen.values()) >= 1


def test_raw_scores_are_compared_as_they_are():
    graph = plain(4, 4, 2)
    scores = scores_of(graph, [1, 2, 3, 4], [10, 20, 30, 40], [100, 200])
    assert widths(Global(0.3, normalise=False), graph, scores) == {"0": 1, "1": 4, "2": 2}


def test_normalised_scores_are_shares_of_their_mean():
    graph = plain(4, 4, 2)
    scores = scores_of(
        graph, [1, 2, 3, 4], [10, 20, 30, 40], [100, 200]
    )  # of their means: .4 .8 1.2 1.6 twice, .67 1.33
    assert widths(Global(0.3), graph, scores) == {"0": 3, "1": 3, "2": 1}


def test_the_unit_of_a_layer_does_not_matter_once_normalised():
    graph = plain(8, 8, 8)
    scores = noise(graph)
    rescaled = {name: values * 3.0 ** (-number) for number, (name, values) in enumerate(scores.items())}
    assert Global(0.4).kept(graph, scores) == Global(0.4).kept(graph, rescaled)


def test_scores_that_are_all_zero_are_compared_as_they_are():
    graph = plain(4, 4, 2)
    assert widths(Global(0.2), graph, scores_of(graph, [0, 0, 0, 0], [1, 1, 1, 1], [1, 1])) == {"0": 2, "1": 4, "2": 2}


@pytest.mark.parametrize("sparsity", [Global(0.5, min_channels=3), Macs(0.8, "global", min_channels=3)])
def test_the_floor_holds_whatever_the_scores(sparsity):
    graph = plain(12, 12, 2)
    scores = scores_of(graph, [1e-9] * 12, range(1, 13), [5, 5])
    sparsity.normalise = False
    chosen = widths(sparsity, graph, scores)
    assert chosen["0"] == 3
    assert chosen["1"] >= 3
    assert chosen["2"] == 2  # has less than the floor from the beginning


def test_an_unreachable_share_is_refused_with_what_can_be_reached():
    graph = plain(4, 4, 2)
    Global(0.7).check(graph)  # 7 of 10, one is left in each of the three
    with pytest.raises(ValueError, match=r"sparsity.rate=0.8 cannot be met: of 10 channels at most 7 can go.*0\.700"):
        Global(0.8).check(graph)
    with pytest.raises(ValueError, match=r"at most 4 can go, a share of 0.400, with min_channels=2"):
        Global(0.5, min_channels=2).check(graph)


def test_excluded_groups_are_no_part_of_the_share():
    graph = plain(10, 10, 10)
    chosen = widths(Global(0.5, exclude=["0"]), graph, noise(graph))
    assert chosen.keys() == {"1", "2"}
    assert sum(chosen.values()) == 10


def test_the_second_of_two_cuts_makes_up_the_share_of_the_dense_network():
    dense = DenseCost.of(plain(10, 10, 10))
    sparsity = Global(0.4)
    first = sparsity.widths(plain(10, 10, 10), noise(plain(10, 10, 10)), dense, Fraction(1, 2))
    assert sum(first.values()) == 24
    between = plain(*first.values())
    assert sum(sparsity.widths(between, noise(between), dense, everything).values()) == 18


@settings(max_examples=40, deadline=None, derandomize=True)
@given(
    percent=st.integers(0, 90),
    scope=st.sampled_from(["layer", "global"]),
    normalise=st.booleans(),
    seed=st.integers(0, 1000),
)
def test_the_target_is_met_and_one_channel_more_would_miss_it(percent, scope, normalise, seed):
    graph, reduction = traced("resnet_8"), f"{percent / 100}"
    scores, sparsity = noise(graph, seed), Macs(reduction, scope, normalise)
    target = DenseCost.of(graph).macs * (1 - Fraction(reduction))
    chosen = widths(sparsity, graph, scores)
    assert cost_of_widths(graph, chosen).macs <= target
    lost: Counter[str] = Counter()
    for name in sparsity.removal_order(graph, scores):
        one_more = {group.name: max(1, group.size - lost[group.name]) for group in graph.prunable}
        if one_more == chosen:
            break
        assert cost_of_widths(graph, one_more).macs > target
        lost[name] += 1
    assert one_more == chosen


@pytest.mark.parametrize("arch", ["resnet_56", "vgg_16_bn"])
@pytest.mark.parametrize("percent", [30, 50, 70])
def test_large_networks_land_just_below_the_target(arch, percent):
    graph = traced(arch)
    ratio = cost_of_widths(graph, widths(Macs(percent / 100), graph, noise(graph))).macs / DenseCost.of(graph).macs
    assert 1 - percent / 100 - 0.01 < ratio <= 1 - percent / 100  # a channel of a stream is up to 1 % of ResNet-56


def test_in_scope_layer_all_layers_lose_the_same_share_to_within_a_channel():
    graph = traced("resnet_56")
    chosen = widths(Macs(0.5, streams="alike"), graph, noise(graph))
    gone = [(graph[name].size - width, graph[name].size) for name, width in chosen.items()]
    highest = max(count / size for count, size in gone)
    assert all(math.isclose(count / size, highest, abs_tol=1 / size) for count, size in gone)


def shares_gone(graph, chosen):
    """Largest share that streams have lost, and that any group has."""
    gone = {name: 1 - width / graph[name].size for name, width in chosen.items()}
    of_streams = [share for name, share in gone.items() if is_stream(graph, graph[name])]
    return max(of_streams), max(gone.values())


def test_streams_stay_whole_until_the_others_have_lost_most():
    graph = traced("resnet_56")
    stream, others = shares_gone(graph, widths(Macs(0.5), graph, noise(graph)))
    assert (stream, 0.3 < others < STREAMS_START) == (0, True)
    stream, others = shares_gone(graph, widths(Macs(0.9), graph, noise(graph)))
    assert others > STREAMS_START
    assert stream == pytest.approx((others - STREAMS_START) / (1 - STREAMS_START), abs=0.1)


@pytest.mark.parametrize("scope", ["layer", "global"])
def test_what_streams_have_lost_after_two_cuts_is_what_they_lose_in_one(scope):
    graph = traced("resnet_8")
    dense, budget = DenseCost.of(graph), Macs(0.9, scope, normalise=scope == "layer")
    scores, net = noise(graph), cifar_resnet(8)
    at_once = widths(budget, graph, scores)
    kept = budget.kept(graph, scores, dense, Fraction(1, 2))
    narrow(net, trace(net, torch.zeros(1, 3, 32, 32)), kept)
    between = trace(net, torch.zeros(1, 3, 32, 32))
    left = {name: each[kept.get(name, list(range(len(each))))] for name, each in scores.items()}
    after = budget.widths(between, left, dense, everything)
    assert all(abs(after[name] - width) <= 1 for name, width in at_once.items())


def test_streams_stay_whole_until_the_others_have_lost_most_also_where_the_lowest_scores_go():
    graph = traced("resnet_56")
    scores = noise(graph) | {g.name: torch.zeros(g.size).double() for g in graph.prunable if is_stream(graph, g)}
    ranked = {"scope": "global", "normalise": False}
    assert shares_gone(graph, widths(Macs(0.3, streams="alike", **ranked), graph, scores))[0] > 0.5
    assert shares_gone(graph, widths(Macs(0.5, **ranked), graph, scores))[0] == 0
    late = widths(Macs(0.9, **ranked), graph, scores)
    others = [group for group in graph.prunable if not is_stream(graph, group)]
    kept = sum(late[group.name] for group in others) / sum(group.size for group in others)
    assert kept == pytest.approx(1 - STREAMS_START, abs=0.02)  # one channel of each stays
    assert shares_gone(graph, late)[0] > 0


def test_streams_are_last_or_like_the_others():
    with pytest.raises(ValueError, match=r"sparsity\.streams must be 'last' or 'alike', got 'whole'"):
        Macs(0.5, streams="whole")


def test_in_scope_global_the_layer_with_low_scores_loses_most():
    graph = plain(16, 16, 16)
    scores = {group.name: torch.rand(group.size).double() + 1 for group in graph.groups}
    scores["1"] -= 1
    chosen = widths(Macs(0.3, "global", normalise=False), graph, scores)
    assert chosen["1"] < 16 == chosen["0"] == chosen["2"]


@pytest.mark.parametrize("scope", ["layer", "global"])
def test_nothing_to_remove_removes_nothing(scope):
    graph = traced("resnet_8")
    assert all(width == graph[name].size for name, width in widths(Macs(0, scope), graph, noise(graph)).items())


def test_an_unreachable_target_is_refused_with_the_floor():
    graph = traced("resnet_8")
    least = cost_of_widths(graph, {group.name: 1 for group in graph.prunable}).macs
    reachable = 1 - least / DenseCost.of(graph).macs
    Macs(math.floor(1000 * reachable) / 1000).check(graph)
    with pytest.raises(ValueError, match=r"sparsity.reduction=0.999 cannot be met") as refusal:
        Macs(0.999).check(graph)
    assert f"{least:,} of {DenseCost.of(graph).macs:,} MACs remain" in str(refusal.value)
    assert f"at most {math.floor(1000 * reachable) / 1000} can go" in str(refusal.value)


def test_a_target_may_be_unreachable_because_of_what_is_excluded():
    graph = traced("resnet_8")
    Macs(0.5).check(graph)
    with pytest.raises(ValueError, match="cannot be met"):
        Macs(0.5, exclude=["layer1.*", "layer2.*", "conv1"]).check(graph)


@pytest.mark.parametrize("scope", ["layer", "global"])
def test_halfway_is_half_of_the_reduction(scope):
    graph = traced("resnet_8")
    scores = noise(graph)
    halfway = widths(Macs("0.6", scope), graph, scores, Fraction(1, 2))
    assert halfway == widths(Macs("0.3", scope), graph, scores)


def test_the_second_of_two_cuts_meets_the_target_of_the_dense_network():
    graph = plain(32, 32, 32)
    dense, sparsity = DenseCost.of(graph), Macs(0.6)
    first = sparsity.widths(graph, noise(graph), dense, Fraction(1, 2))
    between = plain(*first.values())
    second = sparsity.widths(between, noise(between), dense, everything)
    assert 0.35 * dense.macs < cost_of_widths(between, second).macs <= 0.4 * dense.macs


@pytest.mark.parametrize(
    ("make", "told"),
    [
        (lambda: Macs(0.5, scope="network"), r"sparsity.scope must be one of .*'knapsack'\], got 'network'"),
        (lambda: Macs(0.5, min_channels=0), r"sparsity.min_channels must be a whole number of at least 1, got 0"),
        (lambda: Macs(1.0), r"sparsity.reduction 1.0 lies outside \[0, 1\)"),
        (lambda: Global(-0.1), r"sparsity.rate -0.1 lies outside \[0, 1\)"),
    ],
)
def test_settings_out_of_range_are_refused_by_name(make, told):
    with pytest.raises(ValueError, match=told):
        make()
