"""From scores to the positions that stay, whatever the budget."""

import pytest
import torch

from pruning_lit.channels import cost, narrow, trace
from pruning_lit.models import cifar_resnet
from pruning_lit.sparsity import Global, Layerwise, Macs, Uniform
from tests.sparsity.networks import noise, plain

SPARSITIES = [
    Uniform(0.5),
    Layerwise([0.5, 0.25]),
    Global(0.5),
    Global(0.5, normalise=False),
    Macs(0.5),
    Macs(0.5, "global"),
]


def sparsity_name(sparsity) -> str:
    return "_".join([type(sparsity).__name__, *(str(getattr(sparsity, key, "")) for key in ("scope", "normalise"))])


every_sparsity = pytest.mark.parametrize("sparsity", SPARSITIES, ids=sparsity_name)


def scores_of_a(graph, values: list[float]):
    """Noise everywhere but in the first layer."""
    return noise(graph) | {graph.groups[0].name: torch.tensor(values, dtype=torch.float64)}


@every_sparsity
def test_positions_are_ascending_and_hold_the_largest_scores(sparsity):
    graph = plain(8, 6, 4)
    scores = noise(graph)
    for name, positions in sparsity.kept(graph, scores).items():
        assert positions == sorted(set(positions))
        gone = sorted(set(range(graph[name].size)) - set(positions))
        assert gone == [] or scores[name][positions].min() >= scores[name][gone].max()


def test_the_largest_scores_stay():
    graph = plain(6, 2, 4)
    kept = Uniform(0.5).kept(graph, scores_of_a(graph, [0.1, 5.0, -1.0, 4.0, 0.2, 3.0]))
    assert kept["0"] == [1, 3, 5]


@every_sparsity
def test_of_equal_scores_the_lower_positions_stay(sparsity):
    graph = plain(64, 32, 4)
    ties = {group.name: torch.ones(group.size, dtype=torch.float64) for group in graph.groups}
    for positions in sparsity.kept(graph, ties).values():
        assert positions == list(range(len(positions)))


def test_a_tie_at_the_cut_keeps_the_lower_position():
    graph = plain(6, 2, 4)
    assert Uniform(0.5).kept(graph, scores_of_a(graph, [2.0, 7.0, 2.0, 7.0, 2.0, 1.0]))["0"] == [0, 1, 3]


@every_sparsity
@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_scores_that_are_not_finite_are_refused_by_channel(sparsity, value):
    graph = plain(6, 2, 4)
    with pytest.raises(ValueError, match=r"group '0': the scores at positions \[1, 4\] are not finite"):
        sparsity.kept(graph, scores_of_a(graph, [1.0, value, 1.0, 1.0, value, 1.0]))


def test_missing_scores_are_refused_by_group():
    graph = plain(6, 2, 4)
    with pytest.raises(ValueError, match="group '1' has no scores"):
        Uniform(0.5).kept(graph, {"0": torch.ones(6)})


def test_too_few_scores_are_refused_with_the_numbers():
    graph = plain(6, 2, 4)
    with pytest.raises(ValueError, match="group '0' takes 6 scores, but has 5"):
        Uniform(0.5).kept(graph, scores_of_a(graph, [1.0] * 5))


@pytest.mark.parametrize("sparsity", [Uniform(0.5), Global(0.4), Macs(0.5), Macs(0.6, "global")], ids=sparsity_name)
def test_the_cut_network_costs_what_the_choice_promised(sparsity):
    net = cifar_resnet(8)
    graph = trace(net, torch.zeros(1, 3, 32, 32))
    kept = sparsity.kept(graph, noise(graph))
    narrow(net, graph, kept)
    narrowed = trace(net, torch.zeros(1, 3, 32, 32))
    assert cost(narrowed) == cost(graph, kept)
    assert sum(parameter.numel() for parameter in net.parameters()) == cost(graph, kept).params
