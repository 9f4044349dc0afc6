"""Widths that keep the largest sum of scores for what the network may cost."""

import itertools
import json
from fractions import Fraction

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pruning_lit.channels import cost_of_widths, narrow, trace
from pruning_lit.criteria import LAMP, GroupNorm, Hessian, Magnitude, Taylor
from pruning_lit.models import cifar_resnet
from pruning_lit.sparsity import DenseCost, Macs, Params
from pruning_lit.sparsity.global_budgets import STREAMS_START
from pruning_lit.sparsity.knapsack import Choice, Knapsack, Packing
from pruning_lit.sparsity.layout import is_stream
from tests.places import ROOT
from tests.sparsity.networks import noise, plain, traced

GOLDEN = json.loads((ROOT / "tests/golden/around_pruning/knapsack.json").read_text())
everything = Fraction(1)


def widths(sparsity, graph, scores, progress=everything):
    return sparsity.widths(graph, scores, DenseCost.of(graph), progress)


def kept_share(scores, chosen):
    """The share of the sum of scores that stays in groups of these widths."""
    total = sum(float(each.sum()) for each in scores.values())
    return sum(float(scores[name].sort(descending=True).values[:width].sum()) for name, width in chosen.items()) / total


@pytest.mark.parametrize("share", list(GOLDEN["best"]))
def test_layers_with_known_latencies_get_the_best_widths(share):
    expected = GOLDEN["best"][share]
    choices = {}
    for number, (importance, latency) in enumerate(zip(GOLDEN["importance"], GOLDEN["latency"], strict=True)):
        ascending = list(range(1, len(importance) + 1))
        choices[str(number)] = Choice(ascending, np.cumsum(importance), np.array(latency))
    found = Packing(choices, expected["budget"]).widths()
    assert list(found.values()) == expected["widths"]
    value = sum(choices[name].values[width - 1] for name, width in found.items())
    assert value == pytest.approx(expected["importance"], abs=1e-12)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(
    layers=st.lists(
        st.lists(st.tuples(st.integers(0, 50), st.integers(1, 20)), min_size=1, max_size=4), min_size=1, max_size=4
    ),
    share=st.integers(0, 100),
)
def test_no_other_widths_within_the_budget_are_worth_more(layers, share):
    choices = {
        str(number): Choice(
            list(range(1, len(layer) + 1)),
            np.cumsum([float(value) for value, _ in layer]),
            np.cumsum([float(cost) for _, cost in layer]),
        )
        for number, layer in enumerate(layers)
    }
    least, most = (sum(each.costs[end] for each in choices.values()) for end in (0, -1))
    budget = float(least + (most - least) * share // 100)  # whole numbers: units of the budget round none of them up
    worth = lambda places: sum(c.values[at] for c, at in zip(choices.values(), places, strict=True))  # noqa: E731
    costs = lambda places: sum(c.costs[at] for c, at in zip(choices.values(), places, strict=True))  # noqa: E731
    everywhere = itertools.product(*(range(len(each.widths)) for each in choices.values()))
    best = max(worth(places) for places in everywhere if costs(places) <= budget)
    found = [width - 1 for width in Packing(choices, budget).widths().values()]
    assert costs(found) <= budget
    assert worth(found) == best


@settings(max_examples=15, deadline=None, derandomize=True)
@given(percent=st.integers(0, 80), seed=st.integers(0, 1000), round_to=st.sampled_from([1, 4]))
@pytest.mark.parametrize("kind", [Macs, Params])
def test_the_target_is_met_with_no_less_of_the_scores_than_by_their_order(kind, percent, seed, round_to):
    graph, options = traced("resnet_8"), {"normalise": False, "streams": "alike", "round_to": round_to}
    scores, dense = noise(graph, seed), DenseCost.of(graph)
    chosen, ranked, even = (
        widths(kind(f"{percent / 100}", scope, **options), graph, scores) for scope in ("knapsack", "global", "layer")
    )
    cost, total = (each.macs if kind is Macs else each.params for each in (cost_of_widths(graph, chosen), dense))
    assert cost <= total * (1 - Fraction(percent, 100))
    assert all(width % round_to == 0 or width == graph[name].size for name, width in chosen.items())
    least = max(kept_share(scores, each) for each in (ranked, even))
    assert kept_share(scores, chosen) >= least - 0.01  # costs of single groups do not add up exactly


def test_channels_that_cost_more_go_where_all_score_the_same():
    graph = traced("resnet_8")
    scores = {group.name: torch.ones(group.size, dtype=torch.float64) for group in graph.groups}
    by_macs, by_params = (widths(kind(0.3, "knapsack"), graph, scores) for kind in (Macs, Params))
    early, late = ("layer1.0.conv1", "layer3.0.conv1")
    assert by_macs[early] < graph[early].size
    assert by_params[early] == graph[early].size
    assert by_params[late] < by_macs[late]


def test_a_group_whose_scores_are_nothing_goes_first_and_one_that_is_excluded_or_overridden_as_told():
    graph = plain(16, 16, 16)
    scores = {group.name: torch.rand(group.size).double() + 1 for group in graph.groups} | {"1": torch.zeros(16)}
    assert widths(Macs(0.3, "knapsack"), graph, scores) == {"0": 16, "1": 8, "2": 16}
    assert widths(Macs(0.3, "knapsack", exclude=["1"]), graph, scores).keys() == {"0", "2"}
    assert widths(Macs(0.3, "knapsack", overrides={"1": 0.25}), graph, scores)["1"] == 12
    assert widths(Macs(0.3, "knapsack", min_share=0.5), graph, scores)["1"] == 8


def test_channels_that_score_nothing_stay_where_the_budget_has_room():
    graph = traced("resnet_8")
    nothing = {group.name: torch.zeros(group.size, dtype=torch.float64) for group in graph.groups}
    left = cost_of_widths(graph, widths(Macs(0.3, "knapsack"), graph, nothing)).macs / DenseCost.of(graph).macs
    assert 0.68 < left <= 0.7


def test_streams_stay_whole_until_the_others_have_lost_most():
    graph = traced("resnet_56")
    scores = noise(graph) | {g.name: torch.zeros(g.size).double() for g in graph.prunable if is_stream(graph, g)}
    streams = [group.name for group in graph.prunable if is_stream(graph, group)]
    early, late = (widths(Macs(each, "knapsack"), graph, scores) for each in (0.5, 0.93))
    assert all(early[name] == graph[name].size for name in streams)
    assert any(late[name] < graph[name].size for name in streams)
    others = [group for group in graph.prunable if group.name not in streams]
    left = sum(late[group.name] for group in others) / sum(group.size for group in others)
    assert left == pytest.approx(1 - STREAMS_START, abs=0.1)


def test_the_second_of_two_cuts_meets_the_target_of_the_dense_network():
    net = cifar_resnet(8)
    graph = trace(net, torch.zeros(1, 3, 32, 32))
    dense, budget = DenseCost.of(graph), Macs(0.6, "knapsack", normalise=False)
    narrow(net, graph, budget.kept(graph, noise(graph), dense, Fraction(1, 2)))
    between = trace(net, torch.zeros(1, 3, 32, 32))
    assert cost_of_widths(between, {}).macs <= 0.7 * dense.macs
    chosen = budget.widths(between, noise(between), dense, everything)
    assert 0.37 * dense.macs < cost_of_widths(between, chosen).macs <= 0.4 * dense.macs


def test_a_target_below_the_narrowest_network_is_none():
    packed = Knapsack({"a": [1.0, 2.0]}, {"a": [1, 2]}, lambda widths: float(widths["a"]))
    assert packed.narrowed({"a": 2}, 1.0) == {"a": 1}
    assert packed.narrowed({"a": 2}, 0.5) is None
    assert packed.narrowed({"a": 2}, 1.0, whole=["a"]) is None


def test_criteria_whose_scores_add_up_are_packed_and_others_not():
    expected = {Taylor: "knapsack", Hessian: "knapsack", LAMP: "knapsack", GroupNorm: "global", Magnitude: "layer"}
    assert {criterion: Macs(0.5).bind(criterion()).scope for criterion in expected} == expected
    assert Macs(0.5).bind(Taylor()).normalise is False
    with pytest.raises(ValueError, match=r"sparsity\.scope=knapsack adds scores up, and those of Magnitude do not"):
        Macs(0.5, "knapsack").bind(Magnitude())


def test_the_report_tells_how_widths_were_found():
    graph, told = traced("resnet_8"), "Those channels stay whose scores add up to most"
    for budget in (Macs(0.5), Params(0.5)):
        assert any(note.startswith(told) for note in budget.bind(Taylor()).plan(graph, noise(graph)).notes)
        assert "(sparsity.scope=layer)." in " ".join(budget.bind(Magnitude()).plan(graph, noise(graph)).notes)


def test_costs_that_fall_only_together_are_met_as_far_as_they_can_be():
    scores, allowed = {"a": [1.0] * 8, "b": [1.0] * 8}, {"a": [4, 8], "b": [4, 8]}
    cost = lambda widths: 2.0 if widths["a"] == widths["b"] == 4 else 6.0  # noqa: E731 (as a step of latency)
    packed = Knapsack(scores, allowed, cost)
    assert packed.within({"a": 8, "b": 8}, 3.0, [], 0) == {"a": 4, "b": 4}
    assert packed.narrowed({"a": 8, "b": 8}, 3.0) == {"a": 4, "b": 4}
    assert packed.narrowed({"a": 8, "b": 8}, 1.0) is None
