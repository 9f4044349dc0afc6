"""Redundancy graphs against golden vectors, slow oracles, and the facts that hold of hashes and decompositions."""

import itertools
import json
from pathlib import Path

import networkx as nx
import numpy as np
import pytest
import scipy.fft
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from pruning_lit.criteria.redundancy_graph.decomposition import (
    Round,
    decompose,
    decomposition,
    removal_thresholds,
    shares,
    similarity,
    survivors,
)
from pruning_lit.criteria.redundancy_graph.hashes import agreements, hash_bits
from tests.conftest import shared_file
from tests.places import VECTORS

GOLDEN = VECTORS / "redundancy_graph"
MAPS = ["16x16", "1x1", "2x2", "32x32", "4x4", "7x7", "8x8_t32", "degenerate", "rect_12x20"]
REAL = ["layer1_3_conv1", "layer2_4_conv1", "layer3_8_conv1"]  # of a ResNet-56; too large for the repository

seeds = st.integers(0, 2**31)
many_examples = settings(max_examples=150, deadline=None, derandomize=True)
few_examples = settings(max_examples=40, deadline=None, derandomize=True)


def read(path: Path) -> dict[str, np.ndarray]:
    with np.load(path) as arrays:
        return {name: arrays[name] for name in arrays.files}


@pytest.fixture(params=[f"maps_{name}" for name in MAPS] + [f"real_resnet56_{name}" for name in REAL])
def layer(request) -> dict[str, np.ndarray]:
    real = request.param.startswith("real_")
    file = f"{request.param}.npz"
    return read(shared_file(f"golden/redundancy_graph/{file}") if real else GOLDEN / file)


def adjacent(edges: Tensor | np.ndarray) -> Tensor:
    """A graph as similarities: 1 for neighbours, 0 for others."""
    return torch.as_tensor(edges).double().fill_diagonal_(1)


def trace(rounds: list[Round]) -> list[list]:
    """Rounds as the golden files write them: the degeneracy, and who goes."""
    return [[each.degeneracy, sorted({*itertools.chain(*each.components)} - {*each.kept})] for each in rounds]


# Golden vectors


def test_bits_are_the_golden_ones(layer):
    bits = hash_bits(torch.from_numpy(layer["maps"]))
    assert torch.equal(bits, torch.from_numpy(layer["bits"]).bool().flatten(2))


def test_similarities_are_the_golden_ones_to_the_last_bit(layer):
    maps = torch.from_numpy(layer["maps"])
    found, num_bits = similarity(maps), layer["bits"][:, 0].size
    assert found.dtype == torch.float64
    assert torch.equal(found, torch.from_numpy(layer["similarity"]))
    assert ((1 - found) * num_bits).round().long().tolist() == layer["hamming"].tolist()
    assert agreements(maps).tolist() == (num_bits - 2 * layer["hamming"]).tolist()


def test_decompositions_at_all_thresholds_are_the_golden_ones(layer):
    found, norms = similarity(torch.from_numpy(layer["maps"])), torch.from_numpy(layer["l1"])
    assert len(layer["thresholds"]) == 9
    for threshold, kept, rounds in zip(layer["thresholds"].tolist(), layer["kept"], layer["trace"], strict=True):
        assert decompose(found, norms, threshold) == np.flatnonzero(kept).tolist(), threshold
        assert trace(decomposition(found, norms, threshold)) == json.loads(str(rounds)), threshold


@pytest.mark.parametrize("name", ["crafted", "random"])
def test_decompositions_of_bare_graphs_are_the_golden_ones(name):
    golden = read(GOLDEN / f"graphs_{name}.npz")
    edges = golden["adjacency"]
    if name == "random":
        edges = np.unpackbits(edges, axis=-1)[..., : golden["adjacency_width"]].astype(bool)
    assert len(edges) == {"crafted": 60, "random": 160}[name]
    for number, size in enumerate(golden["n_nodes"].tolist()):
        graph, norms = adjacent(edges[number, :size, :size]), torch.from_numpy(golden["l1"][number, :size])
        assert trace(decomposition(graph, norms, 1.0)) == json.loads(str(golden["trace"][number])), number
        assert decompose(graph, norms, 0.5) == np.flatnonzero(golden["kept"][number]).tolist(), number


def test_an_edge_at_exactly_the_threshold_counts():
    golden = read(GOLDEN / "threshold_equality.npz")
    assert golden["exact_tie"].sum() > 0
    assert golden["edge"][golden["exact_tie"]].all()
    for bits, differing, threshold, edge in zip(
        *(golden[name].tolist() for name in ("n_bits", "hamming", "threshold", "edge")), strict=True
    ):
        agreeing = torch.tensor([[bits, bits - 2 * differing], [bits - 2 * differing, bits]], dtype=torch.float64)
        found = shares(agreeing)
        assert bool(found[0, 1] >= threshold) is edge, (bits, differing, threshold)
        assert len(decompose(found, torch.ones(2), threshold)) == (1 if edge else 2), (bits, differing, threshold)


# Hashes and similarities

sizes = st.tuples(st.integers(1, 4), st.integers(1, 6), st.integers(1, 19), st.integers(1, 19))


def random_maps(shape: tuple[int, ...], seed: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@few_examples
@given(shape=sizes, seed=seeds)
def test_bits_say_which_low_frequencies_of_scipys_transform_reach_their_mean(shape, seed):
    maps = random_maps(shape, seed)
    corner = torch.from_numpy(scipy.fft.dctn(maps.numpy(), type=2, axes=(2, 3)))[:, :, :8, :8].flatten(2)
    difference = corner - corner.mean(2, keepdim=True)
    assert torch.equal(hash_bits(maps), difference >= 0)


@few_examples
@given(shape=sizes, seed=seeds)
def test_similarities_are_means_over_images_of_the_share_of_equal_bits(shape, seed):
    maps = random_maps(shape, seed)
    bits, found = hash_bits(maps), similarity(maps)
    equal = (bits[:, :, None] == bits[:, None]).double().mean(3).mean(0)
    torch.testing.assert_close(found, equal, rtol=0, atol=1e-14)
    assert torch.equal(found, found.mT)
    assert torch.equal(found.diagonal(), torch.ones(shape[1], dtype=torch.float64))
    assert 0 <= found.min() <= found.max() <= 1


@few_examples
@given(shape=sizes, seed=seeds)
def test_positive_factors_change_nothing(shape, seed):
    maps, factors = random_maps(shape, seed), random_maps((*shape[:2], 1, 1), seed + 1).exp()
    assert torch.equal(hash_bits(maps * factors), hash_bits(maps))
    assert torch.equal(similarity(maps * factors), similarity(maps))


@few_examples
@given(shape=sizes.filter(lambda shape: shape[2] * shape[3] > 1), seed=seeds)
def test_a_map_and_its_negative_agree_on_no_bit(shape, seed):
    maps = random_maps(shape, seed)
    assert torch.equal(hash_bits(-maps), ~hash_bits(maps))
    found = similarity(torch.cat([maps, -maps], 1))
    assert not found.diagonal(shape[1]).any()


@few_examples
@given(shape=sizes, seed=seeds)
def test_blank_maps_are_all_alike(shape, seed):
    maps = torch.cat([random_maps(shape, seed), torch.zeros(shape, dtype=torch.float64)], 1)
    assert hash_bits(maps)[:, shape[1] :].all()
    assert bool((similarity(maps)[shape[1] :, shape[1] :] == 1).all())


def test_constant_maps_have_the_bit_of_the_mean_or_all_others():
    constant = torch.tensor([2.5, -0.1]).reshape(1, 2, 1, 1).expand(1, 2, 9, 12)
    first = torch.arange(64) == 0
    assert torch.equal(hash_bits(constant)[0], torch.stack([first, ~first]))


@few_examples
@given(images=st.integers(1, 5), filters=st.integers(1, 12), seed=seeds)
def test_of_maps_of_one_pixel_one_filter_stays(images, filters, seed):
    maps, norms = random_maps((images, filters, 1, 1), seed), random_maps((filters,), seed + 1)
    found = similarity(maps)
    assert bool((found == 1).all())
    assert decompose(found, norms, 1.0) == [int(norms.argmax())]


@few_examples
@given(shape=sizes, cuts=st.lists(st.integers(0, 4), max_size=3), seed=seeds)
def test_agreements_of_batches_of_images_add_up(shape, cuts, seed):
    maps = random_maps(shape, seed)
    batches = maps.tensor_split(sorted(cuts))
    assert torch.equal(sum(agreements(batch) for batch in batches if len(batch)), agreements(maps))


def test_working_off_maps_in_stacks_changes_nothing(monkeypatch):
    maps = random_maps((7, 5, 9, 8), seed=0)
    at_once = agreements(maps)
    monkeypatch.setattr("pruning_lit.criteria.redundancy_graph.hashes.STACK", 2 * maps[0].numel())
    assert torch.equal(agreements(maps), at_once)


def test_adding_a_constant_can_change_the_bits():
    maps = random_maps((1, 1, 8, 8), seed=0)
    assert not torch.equal(hash_bits(maps + 100), hash_bits(maps))


# Decompositions

THRESHOLD = 0.5


@st.composite
def layers(draw, distinct_norms: bool = False) -> tuple[Tensor, Tensor]:
    """Similarities and norms of up to 16 filters: sparse to dense, with and without equal values."""
    size, seed = draw(st.integers(1, 16)), draw(seeds)
    generator = torch.Generator().manual_seed(seed)
    exponent, levels = draw(st.sampled_from([0.3, 1.0, 3.0])), draw(st.sampled_from([4, 10, 10**6]))
    raw = torch.rand(size, size, generator=generator, dtype=torch.float64) ** exponent
    upper = ((raw * levels).round() / levels).triu(1)
    norms = torch.randperm(size, generator=generator).double()
    equal = not distinct_norms and draw(st.booleans())
    return upper + upper.mT + torch.eye(size, dtype=torch.float64), norms // 4 if equal else norms


def graph_of(found: Tensor, threshold: float) -> nx.Graph:
    graph = nx.empty_graph(len(found))
    pairs = itertools.combinations(range(len(found)), 2)
    graph.add_edges_from((one, other) for one, other in pairs if found[one, other] >= threshold)
    return graph


def slow(graph: nx.Graph, norms: Tensor) -> set[int]:
    """Who stays, by main cores found anew in each round."""
    graph = graph.copy()
    while graph.number_of_edges():
        for component in list(nx.connected_components(nx.k_core(graph))):
            best = max(float(norms[node]) for node in component)
            graph.remove_nodes_from(component - {min(node for node in component if norms[node] == best)})
    return set(graph)


@many_examples
@given(layer=layers())
def test_decomposition_agrees_with_main_cores_found_anew(layer):
    found, norms = layer
    kept = decompose(found, norms, THRESHOLD)
    assert kept == sorted(slow(graph_of(found, THRESHOLD), norms))
    assert kept == survivors(len(norms), decomposition(found, norms, THRESHOLD))


@many_examples
@given(layer=layers())
def test_no_two_that_stay_are_neighbours_and_every_component_keeps_one(layer):
    found, norms = layer
    kept = decompose(found, norms, THRESHOLD)
    assert all(found[one, other] < THRESHOLD for one, other in itertools.combinations(kept, 2))
    assert all(component & {*kept} for component in nx.connected_components(graph_of(found, THRESHOLD)))


@many_examples
@given(layer=layers())
def test_the_largest_norm_stays(layer):
    found, norms = layer
    first = norms.tolist().index(max(norms.tolist()))
    assert first in decompose(found, norms, THRESHOLD)


@many_examples
@given(layer=layers())
def test_degeneracies_fall_and_every_filter_goes_once_or_stays(layer):
    found, norms = layer
    rounds = trace(decomposition(found, norms, THRESHOLD))
    degeneracies = [degeneracy for degeneracy, _ in rounds]
    assert degeneracies == sorted({*degeneracies}, reverse=True)
    assert all(removed for _, removed in rounds)
    gone = [position for _, removed in rounds for position in removed]
    assert sorted(gone + decompose(found, norms, THRESHOLD)) == list(range(len(norms)))


@pytest.mark.slow
@many_examples
@given(layer=layers(distinct_norms=True), seed=seeds)
def test_relabelled_filters_give_the_relabelled_answer(layer, seed):
    found, norms = layer
    order = torch.randperm(len(norms), generator=torch.Generator().manual_seed(seed))
    relabelled = decompose(found[order][:, order], norms[order], THRESHOLD)
    assert sorted(order[relabelled].tolist()) == decompose(found, norms, THRESHOLD)
    torch.testing.assert_close(
        removal_thresholds(found[order][:, order], norms[order]),
        removal_thresholds(found, norms)[order],
        rtol=0,
        atol=0,
    )


def test_of_equal_norms_the_lowest_index_stays():
    assert decompose(torch.ones(5, 5), torch.ones(5), 1.0) == [0]


def test_a_filter_can_go_without_a_neighbour_that_stays():
    chain = adjacent(torch.tensor([[0, 1, 0], [1, 0, 1], [0, 1, 0]]))
    assert decompose(chain, torch.tensor([3.0, 1.0, 2.0]), 1.0) == [0]


def test_who_stays_of_one_core_can_go_with_a_later_one():
    edges = torch.zeros(5, 5)
    for one, other in [(0, 1), (0, 2), (1, 2), (2, 3), (3, 4)]:  # a triangle with a tail
        edges[one, other] = edges[other, one] = 1
    rounds = decomposition(adjacent(edges), torch.tensor([1.0, 2.0, 3.0, 4.0, 5.0]), 1.0)
    assert rounds == [Round(2, [[0, 1, 2]], [2]), Round(1, [[2, 3, 4]], [4])]


# Departures


@st.composite
def small_layers(draw) -> tuple[Tensor, Tensor]:
    """All similarities distinct; norms distinct or not."""
    size = draw(st.integers(1, 8))
    num_pairs = size * (size - 1) // 2
    upper = torch.zeros(size, size, dtype=torch.float64)
    ranks = draw(st.permutations(range(1, num_pairs + 1)))
    upper[tuple(torch.triu_indices(size, size, offset=1))] = torch.tensor(ranks, dtype=torch.float64) / (num_pairs + 1)
    norms = draw(st.one_of(st.permutations(range(size)), st.lists(st.integers(0, 2), min_size=size, max_size=size)))
    return upper + upper.mT + torch.eye(size, dtype=torch.float64), torch.tensor(norms, dtype=torch.float64)


@pytest.mark.slow
@many_examples
@given(layer=small_layers())
def test_of_each_pair_the_lesser_goes_when_the_threshold_falls_past_their_similarity(layer):
    found, norms = layer[0].tolist(), layer[1].tolist()
    pairs = sorted(itertools.combinations(range(len(norms)), 2), key=lambda pair: -found[pair[0]][pair[1]])
    expected = [-1.0] * len(norms)
    for one, other in pairs:  # the first has the lower index
        if expected[one] == expected[other] == -1:
            expected[other if norms[one] >= norms[other] else one] = found[one][other]
    assert removal_thresholds(*layer).tolist() == expected


@pytest.mark.slow
@many_examples
@given(layer=layers())
def test_departures_are_decompositions_of_who_is_left_at_every_similarity_that_occurs(layer):
    found, norms = layer
    expected = torch.full((len(norms),), -1.0, dtype=torch.float64)
    for level in sorted({*found.flatten().tolist()}, reverse=True):
        here = (expected == -1).nonzero().flatten().tolist()
        for position in {*here} - slow(graph_of(found, level).subgraph(here), norms):
            expected[position] = level
    assert removal_thresholds(found, norms).tolist() == expected.tolist()


@many_examples
@given(layer=layers())
def test_who_has_not_departed_is_no_ones_neighbour_and_the_largest_norm_never_departs(layer):
    found, norms = layer
    went = removal_thresholds(found, norms)
    assert (went == -1).nonzero().flatten().tolist() == [norms.tolist().index(max(norms.tolist()))]
    for threshold in (0.25, 0.5, 0.75):
        left = (went < threshold).nonzero().flatten().tolist()
        assert all(found[one, other] < threshold for one, other in itertools.combinations(left, 2))


# What is refused


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_maps_that_are_not_finite_are_refused(value):
    maps = random_maps((2, 3, 4, 4), seed=0)
    maps[1, 2, 3, 0] = value
    for function in (hash_bits, agreements, similarity):
        with pytest.raises(ValueError, match=r"a feature map has values that are NaN or infinite"):
            function(maps)


@pytest.mark.parametrize("function", [hash_bits, similarity])
@pytest.mark.parametrize(
    "maps",
    [torch.zeros(3, 4, 4), torch.zeros(1, 1, 3, 4, 4), torch.zeros(1, 3, 4, 4).long(), torch.zeros(1, 3, 0, 4)],
    ids=["three axes", "five axes", "whole numbers", "no pixels"],
)
def test_what_are_no_maps_are_refused(function, maps):
    with pytest.raises(ValueError, match=r"expected floating maps \(N, C, H, W\), got torch\.\w+ of shape \("):
        function(maps)


def test_no_images_are_refused():
    with pytest.raises(ValueError, match=r"at least one image, got .*\(0, 3, 4, 4\)"):
        similarity(torch.zeros(0, 3, 4, 4))


@pytest.mark.parametrize("threshold", [0, -0.7, 1.5, True, float("nan"), "0.7", None])
def test_thresholds_outside_of_0_to_1_are_refused(threshold):
    for function in (decompose, decomposition):
        with pytest.raises(ValueError, match=r"threshold is a similarity in \(0, 1\], got "):
            function(torch.eye(2), torch.ones(2), threshold)


@pytest.mark.parametrize(("found", "norms"), [((3, 3), (2,)), ((2, 3), (2,)), ((2,), (2,)), ((1, 2, 2), (2,))])
def test_shapes_that_do_not_fit_are_refused(found, norms):
    with pytest.raises(ValueError, match=r"expected similarities \(C, C\) and norms \(C,\), got "):
        decompose(torch.ones(found), torch.ones(norms), 0.7)
