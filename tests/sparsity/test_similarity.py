"""Widths that are found by similarity: the published threshold, thresholds of single groups, and a budget of MACs."""

from fractions import Fraction

import pytest
import torch
from torch import Tensor, nn

from pruning_lit.channels import ChannelGraph, cost, trace
from pruning_lit.criteria import Magnitude, RedundancyGraph, RedundancyScores
from pruning_lit.criteria.redundancy_graph.criterion import Redundancy
from pruning_lit.criteria.redundancy_graph.decomposition import decompose
from pruning_lit.models import cifar_resnet
from pruning_lit.sparsity import Macs, Similarity, SimilarityMacs

BITS = 640


@pytest.fixture(scope="module")
def judged() -> tuple[ChannelGraph, RedundancyScores]:
    """A ResNet-14 with made-up similarities, most of them between 0.4 and 0.9."""
    net = cifar_resnet(14, stem="tied")
    graph = RedundancyGraph().protect(net, trace(net, torch.zeros(1, 3, 32, 32)))
    random = torch.Generator().manual_seed(0)
    return graph, RedundancyScores({group.name: made_up(group.size, random) for group in graph.prunable})


def made_up(size: int, random: torch.Generator) -> Redundancy:
    points = torch.randn(size, 12, generator=random, dtype=torch.float64)
    points /= points.norm(dim=1, keepdim=True)
    counts = ((0.65 + 0.25 * points @ points.mT) * BITS).round()
    similarity = (counts / BITS).fill_diagonal_(1.0)
    return Redundancy("itself", similarity, torch.rand(size, generator=random, dtype=torch.float64), BITS, 64)


@pytest.mark.parametrize("threshold", [0.9, 0.75, 0.7, 0.65, 0.6])
def test_what_stays_is_the_published_decomposition(judged, threshold):
    graph, scores = judged
    kept = Similarity(threshold).plan(graph, scores).kept
    assert kept == {name: decompose(layer.similarity, layer.norms, threshold) for name, layer in scores.layers.items()}


def test_a_group_can_have_a_threshold_of_its_own_and_the_last_pattern_counts(judged):
    graph, scores = judged
    kept = Similarity(0.9, thresholds={"layer2.*": 0.7, "layer2.1.*": 0.6}).plan(graph, scores).kept
    for name, threshold in (("layer1.0.conv1", 0.9), ("layer2.0.conv1", 0.7), ("layer2.1.conv1", 0.6)):
        layer = scores.layers[name]
        assert kept[name] == decompose(layer.similarity, layer.norms, threshold), name


def test_floors_add_the_filters_that_would_go_last(judged):
    graph, scores = judged
    plain, floored = (Similarity(0.6, **limits).plan(graph, scores).kept for limits in ({}, {"min_share": 0.75}))
    for name, kept in plain.items():
        assert {*kept} <= {*floored[name]}
        assert len(floored[name]) == max(len(kept), -(-graph[name].size * 3 // 4))
        added, left = ({*floored[name]} - {*kept}, {*range(graph[name].size)} - {*floored[name]})
        if added and left:
            assert min(scores[name][[*added]]) >= max(scores[name][[*left]])


def test_several_cuts_let_the_threshold_fall_evenly_from_1(judged):
    graph, scores = judged
    for progress in (Fraction(1, 2), Fraction(1)):
        plan = Similarity(0.6).plan(graph, scores, progress=progress)
        assert {each["threshold"] for each in plan.evidence.values()} == {1 - 0.4 * float(progress)}


@pytest.mark.parametrize("reduction", [0.0, 0.1, 0.3, 0.5, 0.8])
def test_the_threshold_found_meets_the_target_and_a_little_above_it_does_not(judged, reduction):
    graph, scores = judged
    dense = cost(graph).macs
    plan = SimilarityMacs(reduction).plan(graph, scores)
    assert plan.cost.macs <= (1 - reduction) * dense
    (threshold,) = {each["threshold"] for each in plan.evidence.values()}
    if reduction:
        above = Similarity(min(1.0, threshold + 1 / 20_000)).plan(graph, scores)
        assert above.cost.macs > (1 - reduction) * dense
        assert plan.kept == Similarity(threshold).plan(graph, scores).kept
        assert any(f"{threshold:.4f}" in note for note in plan.notes)


def test_groups_with_a_rate_or_a_threshold_of_their_own_are_made_up_for(judged):
    graph, scores = judged
    plan = SimilarityMacs(0.5, thresholds={"layer1.*": 1.0}, overrides={"layer3.0.conv1": 0.25}).plan(graph, scores)
    assert plan.cost.macs <= 0.5 * cost(graph).macs
    assert len(plan.kept["layer3.0.conv1"]) == 48
    assert len(plan.kept["layer1.0.conv1"]) == 16


def test_similarities_that_are_too_small_for_a_target_are_told(judged):
    graph, scores = judged
    unlike = {
        name: Redundancy("itself", torch.eye(len(layer.norms), dtype=torch.float64), layer.norms, BITS, 64)
        for name, layer in scores.layers.items()
    }
    with pytest.raises(ValueError, match=r"no similarity threshold meets sparsity\.reduction=0\.5"):
        SimilarityMacs(0.5).plan(graph, RedundancyScores(unlike))


def test_the_scores_go_with_any_other_budget(judged):
    graph, scores = judged
    plan = Macs(0.5, scope="global").plan(graph, scores)
    assert plan.cost.macs <= 0.5 * cost(graph).macs
    assert plan.evidence == {}


@pytest.mark.parametrize("threshold", [0, -0.5, 1.01, float("nan"), "0.7", True])
def test_a_threshold_outside_0_to_1_is_refused(threshold):
    with pytest.raises(ValueError, match=r"sparsity\.threshold is a similarity in \(0, 1\]"):
        Similarity(threshold)
    with pytest.raises(ValueError, match=r"the threshold of 'layer1\.\*' is a similarity in \(0, 1\]"):
        Similarity(0.7, thresholds={"layer1.*": threshold})


def test_a_pattern_that_decides_nothing_is_refused(judged):
    graph, _ = judged
    with pytest.raises(ValueError, match=r"'layer9\.\*' matches no group that is decided on; these are \['conv1'"):
        Similarity(0.7, thresholds={"layer9.*": 0.8}).check(graph)
    with pytest.raises(ValueError, match="must map patterns to similarities"):
        Similarity(0.7, thresholds=[0.8])


@pytest.mark.parametrize("sparsity", [Similarity(0.7), SimilarityMacs(0.5)])
def test_other_criteria_are_refused_by_name(sparsity):
    with pytest.raises(ValueError, match="criterion=redundancy_graph, which Magnitude does not know"):
        sparsity.bind(Magnitude())


def test_a_target_out_of_reach_is_refused_beforehand(judged):
    graph, _ = judged
    with pytest.raises(ValueError, match=r"sparsity\.reduction=0\.99 cannot be met"):
        SimilarityMacs(0.99, min_share=0.5).check(graph)


class Unconvolved(nn.Module):
    """A hidden linear layer that no convolution decides on."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.hidden, self.head = nn.Conv2d(3, 4, 3), nn.Linear(4, 6), nn.Linear(6, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.hidden(self.conv(x).relu().mean((2, 3))).relu())


def test_hidden_linear_layers_stay_whole():
    net = Unconvolved()
    graph = RedundancyGraph().protect(net, trace(net, torch.zeros(1, 3, 8, 8)))
    assert [group.name for group in Similarity(0.7).prunable_groups(graph)] == ["conv"]
    assert graph["hidden"].protected == "no two-dimensional convolution makes its channels"
