"""A budget of parameters is met by the first network, from above, that has no more."""

from fractions import Fraction

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pruning_lit.channels import cost, cost_of_widths, narrow, trace
from pruning_lit.criteria import Magnitude
from pruning_lit.models import cifar_resnet
from pruning_lit.sparsity import DenseCost, Macs, Params
from tests.sparsity.networks import noise, traced


@settings(max_examples=40, deadline=None, derandomize=True)
@given(
    percent=st.integers(0, 80),
    seed=st.integers(0, 1000),
    scope=st.sampled_from(["layer", "global"]),
    round_to=st.sampled_from([1, 4]),
)
def test_the_target_is_met_and_one_removal_less_does_not_meet_it(percent, seed, scope, round_to):
    graph = traced("resnet_8")
    budget, scores, dense = (
        Params(f"{percent / 100}", scope, round_to=round_to),
        noise(graph, seed),
        DenseCost.of(graph),
    )
    budget.check(graph)
    most = dense.params * (1 - Fraction(percent, 100))
    chosen = budget.widths(graph, scores, dense)
    assert cost_of_widths(graph, chosen).params <= most
    asked = budget.target_widths(graph, scores, dense, Fraction(1))
    gone = sum(graph[name].size - width for name, width in asked.items())
    if gone:
        last = budget.removal_order(graph, scores)[gone - 1]
        less = budget.allowed_widths(graph, dense, asked | {last: asked[last] + 1})
        assert cost_of_widths(graph, less).params > most


def test_the_network_that_is_cut_has_the_parameters_that_were_planned():
    torch.manual_seed(0)
    net = cifar_resnet(8)
    graph = trace(net, torch.zeros(1, 3, 32, 32))
    plan = Params(0.5).plan(graph, noise(graph))
    narrow(net, graph, plan.kept)
    assert sum(each.numel() for each in net.parameters()) == plan.cost.params <= plan.dense.params / 2
    assert cost(trace(net, torch.zeros(1, 3, 32, 32))).params == plan.cost.params


def test_wide_layers_with_small_maps_go_first_where_parameters_count():
    graph, dense = traced("resnet_8"), DenseCost.of(traced("resnet_8"))
    scores = {group.name: torch.ones(group.size, dtype=torch.float64) for group in graph.groups}
    by_params, by_macs = (cost_of_widths(graph, each.widths(graph, scores, dense)) for each in (Params(0.5), Macs(0.5)))
    assert by_params.params <= dense.params / 2
    assert by_macs.macs <= dense.macs / 2
    assert by_params != by_macs


def test_the_criterion_settles_the_scope_as_for_macs():
    assert Params(0.5).bind(Magnitude()).scope == "layer"
    assert Params(0.5, "global").bind(Magnitude()).scope == "global"


def test_what_cannot_be_met_is_refused_with_what_can():
    with pytest.raises(ValueError, match=r"sparsity.reduction=0\.9 cannot be met: .* parameters remain .* at most 0\."):
        Params(0.9, min_share=0.7).check(traced("resnet_8"))
    with pytest.raises(ValueError, match=r"leave out sparsity\.part=layer1"):
        Params(0.5, part="layer1")
