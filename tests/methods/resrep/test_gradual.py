"""The list of channels that are to be forgotten: golden vectors of ResRep, the walk it stands for, other budgets."""

from fractions import Fraction

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pruning_lit.channels import cost_of_widths
from pruning_lit.methods.resrep.gradual import masked_for_budget, next_masked
from pruning_lit.sparsity import DenseCost, Global, Layerwise, Macs, Uniform
from tests.places import VECTORS
from tests.sparsity.listed import CONSTANT, Counts, walk
from tests.sparsity.networks import noise, plain, traced

#: Updates recorded from the release of Ding et al. 2021 (ResRep); where that stalls, keeps masks of before or raises,
#: from a reference without these defects.
GOLDEN = np.load(VECTORS / "resrep" / "masks.npz")
CASES = sorted({key.partition("/")[0] for key in GOLDEN})


def recorded(case: str) -> tuple[Counts, dict[str, np.ndarray]]:
    fields = {key.partition("/")[2]: GOLDEN[key] for key in GOLDEN if key.startswith(f"{case}/")}
    return Counts(
        widths=tuple(fields["origin_widths"].tolist()),
        prunable=tuple(fields["prunable_layers"].tolist()),
        terms=tuple(map(tuple, fields["flops_terms"].tolist())),
        constant=int(fields["flops_const"]),
        leaders=dict(fields["follower_of"].tolist()),
    ), fields


def macs(target: Fraction, min_channels: int) -> Macs:
    return Macs(str(1 - target), scope="global", normalise=False, min_channels=min_channels)


def widths_without(graph, listed) -> dict[str, int]:
    return {group.name: group.size - len(listed[group.name]) for group in graph.groups if group.name in listed}


def test_the_golden_vectors_are_there():
    assert CASES == ["budget", "chain_decay", "chain_random", "coupled", "stale", "ties", "unreachable"]


@pytest.mark.parametrize("case", CASES)
def test_updates_are_the_recorded_ones(case):
    counts, fields = recorded(case)
    graph = counts.graph()
    sparsity = macs(Fraction(str(fields["target"])), int(fields["min_channels"]))
    dense, granularity = DenseCost.of(graph), int(fields["granularity"])
    assert dense.macs == fields["origin_flops"]
    listed: dict[str, list[int]] = {}
    sizes = [group.size for group in graph.groups]
    for metrics, masks, flops in zip(
        fields["metrics"], fields["expected_masks"], fields["expected_flops"], strict=True
    ):
        parts = torch.from_numpy(metrics).split(sizes)
        scores = {group.name: part for group, part in zip(graph.groups, parts, strict=True)}
        listed = next_masked(sparsity, graph, scores, dense, listed, granularity)
        found = [int(row not in listed[group.name]) for group in graph.groups for row in range(group.size)]
        assert found == masks.tolist()
        assert cost_of_widths(graph, widths_without(graph, listed)).macs == flops


@st.composite
def updates(draw):
    """A network of counts, and what an update of its list depends on; few different scores, so that many are equal."""
    widths = tuple(draw(st.lists(st.integers(1, 6), min_size=1, max_size=5)))
    layers = range(len(widths))
    ends = st.integers(CONSTANT, len(widths) - 1)
    chain = [(layer - 1 if layer else CONSTANT, layer, draw(st.integers(1, 9)), 3) for layer in layers]
    more = draw(st.lists(st.tuples(ends, ends, st.integers(1, 9), st.just(5)), max_size=3))
    prunable = tuple(sorted(draw(st.sets(st.sampled_from(layers), min_size=1))))
    others = [layer for layer in layers if layer not in prunable]
    pairs = [(other, leader) for other in others for leader in prunable if widths[leader] == widths[other]]
    leaders = dict(draw(st.lists(st.sampled_from(pairs), max_size=2))) if pairs else {}
    counts = Counts(widths, prunable, (*chain, *more), draw(st.integers(0, 99)), leaders)
    scores = {
        layer: draw(st.lists(st.integers(0, 4), min_size=widths[layer], max_size=widths[layer])) for layer in prunable
    }
    listed = {layer: draw(st.sets(st.integers(0, widths[layer] - 1), max_size=widths[layer] - 1)) for layer in prunable}
    target = Fraction(draw(st.integers(1, 100)), 100)
    return counts, scores, listed, target, draw(st.integers(1, 5)), draw(st.integers(1, 3))


@settings(max_examples=300, deadline=None, derandomize=True)
@given(updates())
def test_an_update_is_the_walk_through_all_rows(update):
    counts, scores, listed, target, granularity, min_channels = update
    graph = counts.graph()
    found = next_masked(
        macs(target, min_channels),
        graph,
        {str(layer): torch.tensor(values, dtype=torch.float64) for layer, values in scores.items()},
        DenseCost.of(graph),
        {str(layer): sorted(rows) for layer, rows in listed.items()},
        granularity,
    )
    expected = walk(counts, scores, listed, target, granularity, min_channels)
    assert found == {str(layer): rows for layer, rows in expected.items()}


SPARSITIES = {
    "uniform": Uniform(0.5),
    "layerwise": Layerwise([0.5, 0.25]),
    "global": Global(0.5),
    "reference": Global(0.4, rule="slimming"),
    "macs": Macs(0.5),
    "macs, normalised": Macs(0.5, "global", normalise=True),
    "macs, as they are": Macs(0.5, "global", normalise=False),
    "rounded": Macs(0.5, "global", normalise=False, round_to=4),
    "overridden": Macs(0.5, overrides={"0": 0.25}),
    "excluded": Macs(0.5, exclude=["0"], min_share=0.2),
}


@pytest.mark.parametrize("sparsity", SPARSITIES.values(), ids=SPARSITIES)
def test_a_list_that_grows_ends_with_what_the_plan_would_take(sparsity):
    graph = plain(12, 9, 8)
    scores, dense = noise(graph), DenseCost.of(graph)
    plan = sparsity.plan(graph, scores)
    gone = {name: sorted(set(range(graph[name].size)) - set(stay)) for name, stay in plan.kept.items()}
    assert masked_for_budget(sparsity, graph, scores, dense) == gone  # no two scores of a group are equal
    total, listed = sum(map(len, gone.values())), {}
    for update in range(1, total + 2):
        before, listed = listed, next_masked(sparsity, graph, scores, dense, listed, granularity=3)
        assert sum(map(len, listed.values())) == min(3 * update, total)
        assert all(set(rows) <= set(listed[name]) for name, rows in before.items())
    assert listed == gone
    assert sparsity.meets(graph, scores, plan.widths, dense)
    assert not sparsity.meets(graph, scores, dict(dense.sizes), dense)


def test_a_list_holds_the_smallest_scores_of_all_that_are_to_go():
    graph = plain(4, 4, 2)
    scores = {"0": [5, 1, 2, 9], "1": [3, 30, 0, 10], "2": [100, 200]}
    scores = {name: torch.tensor(each, dtype=torch.float64) for name, each in scores.items()}
    dense = DenseCost.of(graph)
    assert masked_for_budget(Uniform(0.5), graph, scores, dense, 2) == {"0": [1], "1": [2], "2": []}
    assert masked_for_budget(Uniform(0.5), graph, scores, dense, 4) == {"0": [1, 2], "1": [0, 2], "2": []}
    assert masked_for_budget(Uniform(0.5), graph, scores, dense) == {"0": [1, 2], "1": [0, 2], "2": [0]}
    assert masked_for_budget(Uniform(0.5), graph, scores, dense, 0) == {"0": [], "1": [], "2": []}


def test_of_equal_scores_the_first_group_and_the_lowest_position_come_first():
    graph = plain(4, 4, 2)
    ties = {group.name: torch.ones(group.size, dtype=torch.float64) for group in graph.groups}
    assert masked_for_budget(Uniform(0.5), graph, ties, DenseCost.of(graph), 3) == {"0": [0, 1], "1": [0], "2": []}


def test_a_channel_leaves_the_list_when_others_have_become_smaller():
    graph, sparsity = plain(4, 4, 2), Uniform(0.5)
    dense = DenseCost.of(graph)
    scores = {"0": torch.tensor([1.0, 2, 8, 9]), "1": torch.tensor([3.0, 4, 8, 9]), "2": torch.tensor([8.0, 9])}
    listed = next_masked(sparsity, graph, scores, dense, {}, 1)
    assert listed == {"0": [0], "1": [], "2": []}
    scores["0"][0] = 8.5
    scores["0"][2] = 0.5
    assert next_masked(sparsity, graph, scores, dense, listed, 1) == {"0": [1, 2], "1": [], "2": []}


def test_floors_are_passed_over_without_using_up_the_list():
    graph = plain(4, 16, 2)
    scores = {"0": torch.zeros(4), "1": torch.arange(1.0, 17), "2": torch.tensor([90.0, 91])}
    sparsity = Macs(0.6, "global", normalise=False)
    assert masked_for_budget(sparsity, graph, scores, DenseCost.of(graph), 5) == {"0": [0, 1, 2], "1": [0, 1], "2": []}


def test_where_emptied_groups_are_an_error_the_update_refuses_as_the_plan_does():
    graph = plain(4, 16, 2)
    scores = {"0": torch.zeros(4), "1": torch.arange(1.0, 17), "2": torch.tensor([90.0, 91])}
    sparsity = Macs(0.6, "global", normalise=False, on_empty="error")
    with pytest.raises(ValueError, match=r"all channels of '0' would go, and sparsity.on_empty=error forbids that"):
        masked_for_budget(sparsity, graph, scores, DenseCost.of(graph), 5)


@pytest.mark.parametrize(
    ("first", "told"),
    [
        (None, "group '0' has no scores"),
        (torch.tensor([1.0, 2.0, float("nan"), 3.0]), r"group '0': the scores at positions \[2\] are not finite"),
        (torch.ones(3), "group '0' takes 4 scores, but has 3"),
    ],
)
def test_scores_that_cannot_be_put_in_order_are_refused(first, told):
    graph = plain(4, 4, 2)
    scores = noise(graph)
    del scores["0"]
    with pytest.raises(ValueError, match=told):
        masked_for_budget(Uniform(0.5), graph, scores if first is None else scores | {"0": first}, DenseCost.of(graph))


def test_every_group_of_the_population_has_an_entry_and_no_other():
    graph = traced("resnet_8")
    sparsity = Macs(0.3, "global", exclude=["layer1.*"])
    listed = masked_for_budget(sparsity, graph, noise(graph), DenseCost.of(graph), 1)
    assert listed.keys() == {group.name for group in sparsity.prunable_groups(graph)}
    assert sum(map(len, listed.values())) == 1
