"""Leverage of filters and residuals of projections: the released numbers, and what linear algebra says of them."""

import json

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from pruning_lit.channels import narrow, trace
from pruning_lit.criteria import ColumnSubset, Scoring
from pruning_lit.criteria.column_subset import filters_of, leverage, projection_residual
from pruning_lit.models import cifar_resnet, preresnet
from pruning_lit.sparsity import Macs
from pruning_lit.sparsity.base import best
from tests.places import VECTORS

GOLDEN = VECTORS / "chex"
LEVERAGE, REGROW = (json.loads((GOLDEN / f"{name}.json").read_text()) for name in ("leverage", "regrow"))
FILTERS = {name: np.load(GOLDEN / f"{name}.npz") for name in ("leverage", "regrow")}


def filters_in(name: str, case: dict) -> Tensor:
    return torch.from_numpy(FILTERS[name][f"w{case['case']}"])


def shape_of(case: dict) -> str:
    return "x".join(map(str, case["shape"]))


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def by_decomposition(filters: Tensor, num_vectors: int) -> Tensor:
    """The definition: row norms of the leading right singular vectors, the filters being columns."""
    _, _, vectors = torch.linalg.svd(filters.double().flatten(1).T, full_matrices=False)
    return vectors[:num_vectors].norm(dim=0)


# leverage


@pytest.mark.parametrize("case", LEVERAGE, ids=shape_of)
def test_leverage_and_the_filters_it_keeps_are_those_of_the_release(case):
    scores = leverage(filters_in("leverage", case), case["num_vectors"])
    assert scores.dtype == torch.float64
    torch.testing.assert_close(scores.float(), torch.tensor(case["official_float32"]), atol=1e-4, rtol=0)
    if "leverage_squared_float64" in case:
        squares = torch.tensor(case["leverage_squared_float64"], dtype=torch.float64)
        torch.testing.assert_close(scores.square(), squares, atol=1e-8, rtol=0)
    assert best(scores, case["num_vectors"]) == sorted(case["kept"])
    assert int((scores == 0).sum()) == case["zero_filters"]


@given(st.integers(2, 12), st.integers(0, 20), st.data())
@settings(max_examples=60, deadline=None)
def test_leverage_is_the_row_norm_of_the_leading_singular_vectors(num_filters, extra, data):
    num_vectors = data.draw(st.integers(1, num_filters))
    filters = random(num_filters, num_filters + extra, seed=data.draw(st.integers(0, 999)))
    scores = leverage(filters, num_vectors)
    torch.testing.assert_close(scores, by_decomposition(filters, num_vectors), atol=1e-6, rtol=0)
    assert float(scores.square().sum()) == pytest.approx(num_vectors)


@pytest.mark.parametrize("num_vectors", [1, 3, 8])
def test_leverage_stays_when_all_filters_are_rotated_or_scaled_alike(num_vectors):
    filters = random(8, 36)
    rotation, _ = torch.linalg.qr(random(36, 36, seed=1))
    expected = leverage(filters, num_vectors)
    torch.testing.assert_close(leverage(filters @ rotation, num_vectors), expected)
    torch.testing.assert_close(leverage(-1e-3 * filters, num_vectors), expected)


def test_filters_with_fewer_weights_than_there_are_filters_go_by_the_sum_of_absolute_weights():
    filters = random(6, 5, 1, 1)
    assert torch.equal(leverage(filters, 2), filters.abs().sum((1, 2, 3)))
    assert not torch.equal(leverage(filters[:5], 2), filters[:5].abs().sum((1, 2, 3)))


@given(st.integers(1, 16), st.data())
@settings(max_examples=60, deadline=None)
def test_filters_that_are_all_zero_are_never_selected_while_others_are_left(num_active, data):
    filters = torch.zeros(16, data.draw(st.sampled_from([8, 36])), dtype=torch.float64)
    active = data.draw(st.permutations(range(16)))[:num_active]
    filters[active] = random(num_active, filters.shape[1], seed=num_active)
    scores = leverage(filters, data.draw(st.integers(1, num_active)))
    assert {*best(scores, num_active)} == {*active}
    assert bool((scores[[*({*range(16)} - {*active})]] == 0).all())


def test_vectors_of_the_null_space_do_not_enter_and_the_larger_filter_is_added_instead():
    directions = random(3, 20)
    filters = torch.zeros(7, 20, dtype=torch.float64)
    filters[[0, 2, 4]] = directions
    filters[5], filters[6] = 0.1 * directions[0], 0.3 * directions[0]  # nothing new; 1 and 3 are dormant
    scores = leverage(filters, 5)  # but three directions in all
    torch.testing.assert_close(scores[[0, 2, 4]], by_decomposition(filters, 3)[[0, 2, 4]])
    assert best(scores, 3) == [0, 2, 4]
    assert best(scores, 4) == [0, 2, 4, 6]
    assert best(scores, 5) == [0, 2, 4, 5, 6]
    assert scores[[1, 3]].tolist() == [0, 0]


def test_nothing_but_dormant_filters_score_zero():
    assert leverage(torch.zeros(4, 9), 2).tolist() == [0, 0, 0, 0]


@pytest.mark.parametrize("num_vectors", [0, -1, 9])
def test_numbers_of_vectors_that_do_not_exist_are_refused(num_vectors):
    with pytest.raises(ValueError, match=f"from 1 to the number of filters, 8, got {num_vectors}"):
        leverage(torch.ones(8, 3, 3, 3), num_vectors)


@pytest.mark.parametrize("score", [lambda w: leverage(w, 2), lambda w: projection_residual(w, [0], [1])])
def test_weights_that_are_not_finite_are_refused(score):
    filters = torch.ones(4, 3, 3, 3)
    filters[1, 0, 0, 0] = float("nan")
    with pytest.raises(ValueError, match="1 of 4 filters have weights that are not finite; the training diverged"):
        score(filters)


# residuals


@pytest.mark.parametrize("case", REGROW, ids=shape_of)
def test_residuals_are_the_exact_ones_where_the_selected_filters_depend_on_each_other_too(case):
    residuals = projection_residual(filters_in("regrow", case), case["selected"], case["candidates"])
    assert residuals.dtype == torch.float64
    expected = torch.tensor(case["residual_norm"], dtype=torch.float64)
    torch.testing.assert_close(residuals, expected, atol=1e-8, rtol=0)  # float32 weights, so exact to 9 digits


@given(st.integers(1, 10), st.integers(1, 10), st.integers(0, 99))
@settings(max_examples=60, deadline=None)
def test_nothing_is_left_of_what_the_selected_filters_span(num_selected, num_candidates, seed):
    selected = random(num_selected, 6, seed=seed)  # more than the 6 directions there are, at times
    mixing = random(num_candidates, num_selected, seed=seed + 100)
    filters = torch.cat([selected, mixing @ selected])
    residuals = projection_residual(filters, range(num_selected), range(num_selected, len(filters)))
    assert bool((residuals < 1e-12 * filters.norm()).all())


def test_the_residual_is_what_is_orthogonal_to_the_selected_filters():
    basis, _ = torch.linalg.qr(random(20, 5))
    inside, outside = basis[:, :3] @ random(3, 1), 0.25 * basis[:, 4:]
    filters = torch.cat([basis[:, :3], inside, inside + outside, outside], dim=1).T
    residuals = projection_residual(filters, [0, 1, 2], [3, 4, 5])
    torch.testing.assert_close(residuals, torch.tensor([0, 0.25, 0.25], dtype=torch.float64), atol=1e-14, rtol=0)


@pytest.mark.parametrize("repeats", [[0, 0, 1, 1, 2], [0, 1, 2, 0, 1, 2, 3]], ids=["doubled", "dormant"])
def test_repeated_and_dormant_filters_add_nothing_to_the_span(repeats):
    filters = torch.cat([random(3, 20), torch.zeros(1, 20), random(4, 20, seed=1)])
    expected = projection_residual(filters, [0, 1, 2], [4, 5, 6, 7])
    doubled = torch.cat([filters[repeats], filters[4:]])
    found = projection_residual(doubled, range(len(repeats)), range(len(repeats), len(doubled)))
    torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("filters", [random(4, 3, 3, 3), random(4, 2, 1, 1)])
def test_without_selected_or_with_dormant_filters_only_the_whole_candidate_is_left(filters):
    filters[0] = 0
    lengths = filters.flatten(1).norm(dim=1)
    torch.testing.assert_close(projection_residual(filters, [], [3, 1]), lengths[[3, 1]])
    torch.testing.assert_close(projection_residual(filters, [0], [1, 2]), lengths[[1, 2]])
    assert projection_residual(filters, [0, 1], []).shape == (0,)


# the criterion


def scores_of(criterion, net, graph, names=None):
    groups = [group for group in graph.prunable if names is None or group.name in names]
    return criterion.scores(Scoring(net, graph, groups))


def test_channels_of_one_layer_are_scored_by_its_filters():
    net = cifar_resnet(14)
    graph = trace(net, torch.zeros(1, 3, 32, 32))
    found = scores_of(ColumnSubset(share=0.25), net, graph)["layer2.1.conv1"]
    assert torch.equal(found, leverage(net.layer2[1].conv1.weight, 8))


def test_filters_of_tied_layers_are_put_side_by_side():
    net = cifar_resnet(14)
    graph = trace(net, torch.zeros(1, 3, 32, 32))
    group = next(group for group in graph.prunable if len(group.writers) > 1)
    weights = dict(net.named_parameters())
    rows = torch.cat([weights[f"{layer}.weight"].detach().flatten(1) for layer in group.writers], dim=1)
    assert torch.equal(filters_of(group, weights).sort(dim=1).values, rows.sort(dim=1).values)
    found = scores_of(ColumnSubset(), net, graph, [group.name])[group.name]
    torch.testing.assert_close(found, leverage(rows, group.size // 2))


def test_channels_selected_from_a_stream_are_scored_by_the_weights_that_read_them():
    net = preresnet(11)
    graph = trace(net, torch.zeros(1, 3, 32, 32))
    found = scores_of(ColumnSubset(), net, graph, ["layer1.0.select"])["layer1.0.select"]
    weight = net.layer1[0].conv1.weight.transpose(0, 1)
    torch.testing.assert_close(found, leverage(weight, len(weight) // 2))


@pytest.mark.parametrize(
    ("net", "image"),
    [
        (nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2)), (1, 3)),
        (nn.Sequential(nn.Conv1d(3, 4, 3), nn.ReLU(), nn.Conv1d(4, 2, 3)), (1, 3, 9)),
        (nn.Sequential(nn.ConvTranspose2d(3, 4, 3), nn.ReLU(), nn.Conv2d(4, 2, 3)), (1, 3, 9, 9)),
    ],
    ids=["linear", "conv1d", "transposed"],
)
def test_other_layers_are_scored_as_well(net, image):
    graph = trace(net, torch.zeros(image))
    (scores,) = scores_of(ColumnSubset(), net, graph).values()
    filters = net[0].weight.detach()
    expected = leverage(filters.transpose(0, 1) if isinstance(net[0], nn.ConvTranspose2d) else filters, 2)
    torch.testing.assert_close(scores, expected)
    assert scores.dtype == torch.float64


@pytest.mark.filterwarnings("error")
def test_half_of_the_operations_of_a_network_can_be_removed_by_leverage():
    torch.manual_seed(0)
    net = cifar_resnet(14)
    criterion, sparsity = ColumnSubset(), Macs(0.5)
    graph = criterion.protect(net, trace(net, torch.zeros(1, 3, 32, 32)))
    plan = sparsity.plan(graph, criterion.scores(Scoring(net, graph, list(graph.prunable))))
    assert plan.cost.macs <= 0.5 * plan.dense.macs
    narrow(net, graph, plan.kept)
    assert net(torch.zeros(2, 3, 32, 32)).shape == (2, 10)


@pytest.mark.parametrize("share", [0, 1, -0.5, float("nan")])
def test_shares_that_leave_all_or_nothing_are_refused(share):
    with pytest.raises(ValueError, match=f"criterion.share .* between 0 and 1, got {share}"):
        ColumnSubset(share)
