"""Asked is got: what a plan promises is what the cut network has, and what limits every budget holds in it."""

import copy
from fractions import Fraction
from functools import cache
from itertools import pairwise

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pruning_lit.channels import cost, narrow, trace
from pruning_lit.models import cifar_resnet
from pruning_lit.sparsity import DenseCost, Global, Layerwise, Macs, Uniform
from tests.sparsity.networks import noise, plain, traced

ARCH = "resnet_8"
IMAGE = torch.zeros(1, 3, 32, 32)
PER_GROUP = {
    "uniform": lambda rate, **limits: Uniform(rate, **limits),
    "layerwise": lambda rate, **limits: Layerwise([rate, "0.3", rate, rate, "0.6", "0.1"], **limits),
}
SHARE = {"global": lambda rate, **limits: Global(rate, **limits)}
MACS = {
    "macs_layer": lambda rate, **limits: Macs(rate, "layer", **limits),
    "macs_global": lambda rate, **limits: Macs(rate, "global", **limits),
}
ALL = PER_GROUP | SHARE | MACS
OVERRIDES = [None, {"layer1.*": "0.2"}, {"conv1": 0.7, "layer3.0.conv1": 0.05}]

rates = st.integers(1, 60).map(lambda percent: f"{percent / 100}")
limits = st.fixed_dictionaries(
    {
        "min_channels": st.sampled_from([1, 1, 3, 9]),
        "min_share": st.sampled_from(["0", "0.1", "0.23"]),
        "round_to": st.sampled_from([1, 2, 3, 8, 24]),
        "overrides": st.sampled_from(OVERRIDES),
        "exclude": st.sampled_from([[], ["layer2.0.conv1"]]),
    }
)
seeds = st.integers(0, 1000)
quick = settings(max_examples=40, deadline=None, derandomize=True)
every = pytest.mark.parametrize("make", ALL.values(), ids=ALL)


@cache
def network() -> torch.nn.Module:
    return cifar_resnet(8)


def reachable(sparsity, graph) -> bool:
    try:
        sparsity.check(graph)
    except ValueError:
        return False
    return True


@pytest.mark.slow
@pytest.mark.at_once(1)
@every
@settings(max_examples=8, deadline=None, derandomize=True)
@given(rate=rates, limits=limits, seed=seeds)
def test_the_cut_network_costs_what_was_planned(make, rate, limits, seed):
    graph, net = traced(ARCH), copy.deepcopy(network())
    plan = make(rate, **limits).plan(graph, noise(graph, seed))
    narrow(net, graph, plan.kept, rehearse=False)
    narrowed = trace(net, IMAGE)
    assert plan.cost == cost(narrowed)
    assert plan.widths == {name: narrowed[name].size for name in plan.kept}
    assert plan.reduction["params"] == 1 - sum(p.numel() for p in net.parameters()) / cost(graph).params


@pytest.mark.at_once(2)
@every
@quick
@given(rate=rates, limits=limits, seed=seeds)
def test_every_width_is_within_the_limits_and_a_multiple_or_reported(make, rate, limits, seed):
    graph = traced(ARCH)
    plan = make(rate, **limits).plan(graph, noise(graph, seed))
    assert not set(plan.kept) & set(limits["exclude"])
    for name, width in plan.widths.items():
        size = graph[name].size
        floor = min(size, max(limits["min_channels"], -(-size * Fraction(limits["min_share"]) // 1)))
        assert floor <= plan.target[name] <= width <= size
        assert (width % limits["round_to"] != 0) == (name in plan.unrounded)
        assert name not in plan.unrounded or width == size
        assert name in plan.unrounded or width - plan.target[name] < limits["round_to"]
        assert name not in plan.floors or plan.target[name] == floor


@pytest.mark.at_once(1)
@pytest.mark.parametrize("make", (PER_GROUP | SHARE).values(), ids=PER_GROUP | SHARE)
@quick
@given(rate=rates, limits=limits, seed=seeds)
def test_rounding_takes_no_channel_away_that_would_have_stayed_without_it(make, rate, limits, seed):
    graph = traced(ARCH)
    scores = noise(graph, seed)
    rounded, unrounded = (make(rate, **limits | each).plan(graph, scores).kept for each in ({}, {"round_to": 1}))
    assert all(set(unrounded[name]) <= set(rounded[name]) for name in unrounded)


@pytest.mark.parametrize("make", MACS.values(), ids=MACS)
@quick
@given(rate=rates, limits=limits, seed=seeds)
def test_the_target_is_met_by_the_rounded_network_or_refused_beforehand(make, rate, limits, seed):
    graph = traced(ARCH)
    sparsity, dense = make(rate, **limits), cost(graph)
    plan = sparsity.plan(graph, noise(graph, seed))
    assert reachable(sparsity, graph) == (plan.cost.macs <= dense.macs * (1 - Fraction(rate)))
    assert plan.dense == dense


@quick
@given(rate=rates, limits=limits, seed=seeds)
def test_the_share_is_met_whatever_floors_and_overrides_keep_or_refused_beforehand(rate, limits, seed):
    graph = traced(ARCH)
    sparsity = Global(rate, **limits | {"round_to": 1})
    plan = sparsity.plan(graph, noise(graph, seed))
    total = sum(graph[name].size for name in plan.kept)
    gone, asked = total - sum(plan.widths.values()), total * Fraction(rate) // 1
    overridden = sum(graph[name].size - plan.widths[name] for name in sparsity.limits.rates(graph))
    if reachable(sparsity, graph):
        assert gone == max(asked, overridden)
    else:
        assert gone < asked


@pytest.mark.at_once(2)
@every
@quick
@given(rate=rates, limits=limits, seed=seeds)
def test_the_further_on_the_way_the_narrower(make, rate, limits, seed):
    graph = traced(ARCH)
    scores, dense = noise(graph, seed), DenseCost.of(graph)
    if make not in PER_GROUP.values():
        limits = limits | {"overrides": None}  # what these take in a jump of a multiple, the others need not give
    sparsity = make(rate, **limits)
    plans = [sparsity.plan(graph, scores, dense, Fraction(step, 4)) for step in (1, 2, 3, 4)]
    for earlier, later in pairwise(plans):
        assert all(set(later.kept[name]) <= set(earlier.kept[name]) for name in earlier.kept)


@pytest.mark.at_once(2)
@every
def test_several_cuts_hold_the_limits_of_the_dense_network(make):
    net, graph = copy.deepcopy(network()), traced(ARCH)
    sparsity = make("0.5", min_share=0.25, round_to=4, overrides={"layer1.*": 0.25})
    dense = DenseCost.of(graph)
    for step in (1, 2, 3):
        plan = sparsity.plan(graph, noise(graph, step), dense, Fraction(step, 3))
        narrow(net, graph, plan.kept, rehearse=False)
        graph = trace(net, IMAGE)
        assert cost(graph) == plan.cost
    assert all(graph[name].size >= dense.sizes[name] / 4 and graph[name].size % 4 == 0 for name in plan.kept)
    assert make not in MACS.values() or plan.cost.macs <= dense.macs / 2
    assert make in PER_GROUP.values() or graph["layer1.0.conv1"].size == 12


@pytest.mark.parametrize("make", MACS.values(), ids=MACS)
def test_the_others_give_what_an_overridden_group_does_not(make):
    graph = traced(ARCH)
    free = make("0.5").plan(graph, noise(graph))
    held = make("0.5", overrides={"layer1.*": 0}).plan(graph, noise(graph))
    assert held.widths["layer1.0.conv1"] == 16 > free.widths["layer1.0.conv1"]
    others = [name for name in free.widths if not name.startswith("layer1.")]
    assert all(held.widths[name] <= free.widths[name] for name in others)
    assert held.cost.macs <= held.dense.macs / 2


def test_an_unreachable_target_is_refused_with_the_limits_and_the_numbers():
    graph = traced(ARCH)
    whole = Macs(0.5, min_share=0.8, round_to=8, overrides={"layer1.*": 0})
    told = r"min_channels=1, min_share=0\.8, round_to=8, overrides=\{layer1\.\*: 0\}, so at most 0\.\d+ can go"
    with pytest.raises(ValueError, match=rf"sparsity.reduction=0\.5 cannot be met: .* MACs remain in .*{told}"):
        whole.check(graph)


def test_a_plan_tells_in_words_why_more_stays_than_was_asked_for():
    graph = plain(20, 16, 12)
    plan = Uniform(0.9, min_share=0.25, round_to=8, overrides={"0": 0.1}).plan(graph, noise(graph))
    assert plan.widths == {"0": 20, "1": 8, "2": 8}
    assert plan.unrounded == {"0": "has 20 channels, of which at least 18 were to stay"}
    assert plan.floors == {"1": "min_share=0.25", "2": "min_share=0.25"}
    assert plan.notes == [
        "Floors keep channels that the budget would remove: min_share=0.25 in `1`, `2`.",
        "Whole, because it cannot be rounded up to a multiple of 8: `0` (has 20 channels, of which at least 18 were "
        "to stay).",
        "Rounding up to multiples of 8 keeps 11 channel(s) more.",
    ]


def test_of_a_plan_that_gives_what_was_asked_there_is_nothing_to_tell():
    graph = plain(16, 16, 16)
    plan = Uniform(0.5, round_to=8, min_share=0.5).plan(graph, noise(graph))
    assert plan.notes == []
    text = f"{plan.cost.macs:,} of {plan.dense.macs:,} MACs stay ({100 * plan.reduction['macs']:.1f} % gone), "
    assert str(plan).startswith(text)
