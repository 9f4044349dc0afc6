"""Stages of exploration: the choices of the release on its networks, and what holds for all others."""

import json
from functools import cache
from itertools import pairwise
from types import SimpleNamespace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from pruning_lit.channels import ChannelGraph, trace
from pruning_lit.criteria.column_subset import filters_of, leverage, projection_residual
from pruning_lit.methods.chex.budgets import ChannelBudgets, regrow_share
from pruning_lit.methods.chex.decision import RegrowSampling, Stage, StageDecider, mean_scales
from pruning_lit.methods.chex.dormancy import MaskState, NarrowState, PrunedState
from pruning_lit.sparsity.dense import DenseCost
from pruning_lit.sparsity.limits import Limits
from tests.methods.chex.chex_golden import FOLDER, Golden

RULES = ("global", "per_layer")
STAGES = [
    (rule, number)
    for rule in RULES
    for number in range(len(json.loads((FOLDER / f"stages_{rule}.json").read_text())["stages"]))
]
each_stage = pytest.mark.parametrize(("rule", "number"), STAGES)
sparsities = st.floats(0.01, 0.99)


class Recorded:
    """One stage of the release.

    Attributes:
        golden: the file.
        stage: what was decided.
        masked, restored: the networks from which.
        old: by group the channels that were active before.
        groups: those that are pruned.
    """

    def __init__(self, rule: str, number: int) -> None:
        self.golden, self.rule, self.number = Golden(f"stages_{rule}"), rule, number
        meta = self.golden.meta
        self.stage, self.epoch = meta["stages"][number], meta["epochs"][number]
        self.layers: dict[str, dict] = self.stage["layers"]
        self.share = regrow_share(self.epoch, meta["init_channel_ratio"], meta["T_max"])
        self.masked, self.restored = (self.golden.build(f"{name}{self.epoch}") for name in ("before", "restored"))
        self.graph = self.golden.graph(self.masked)
        before = meta["stages"][number - 1]["layers"] if number else {}
        active = {name: layer["active_after"] for name, layer in before.items()}
        self.old: dict[str, list[int]] = active or meta["init_active"]
        self.groups = [self.graph[name] for name in meta["prunable_order"]]

    @property
    def weights(self) -> dict[str, Tensor]:
        return dict(self.restored.named_parameters())

    def decider(self) -> StageDecider:
        return StageDecider(
            ChannelBudgets(regrow_allocation=self.rule), RegrowSampling(), Limits(), DenseCost.of(self.graph)
        )  # fmt: skip

    def decide(self, seed: int = 0) -> Stage:
        random = torch.Generator().manual_seed(seed)
        return self.decider().decide(
            self.groups, self.masked, self.weights, None, self.golden.meta["S"], self.share, random
        )

    def store(self) -> nn.Module:
        """The network behind the stage before, or as it was built."""
        previous = self.golden.meta["epochs"][self.number - 1] if self.number else None
        return self.golden.build("init" if previous is None else f"restored{previous}")


@cache
def recorded_stage(rule: str, number: int) -> Recorded:
    """Looked at by several tests."""
    return Recorded(rule, number)


# the release


@each_stage
def test_channels_stay_that_stayed_in_the_release_and_as_many_come_back(rule, number):
    recorded = recorded_stage(rule, number)
    assert recorded.share == pytest.approx(recorded.stage["channel_ratio"], abs=1e-9)
    stage = recorded.decide()
    assert stage.kept == {name: sorted(layer["kept"]) for name, layer in recorded.layers.items()}
    for name, layer in recorded.layers.items():
        assert len(stage.regrown[name]) == len({*stage.regrown[name]}) == layer["num_free"] == len(layer["grown"]), name
        assert {*stage.regrown[name]} <= {*layer["candidates"]}
        assert stage.active[name] == sorted({*stage.kept[name], *stage.regrown[name]})
    assert any(stage.regrown.values()) is (recorded.share > 0)


@each_stage
def test_scores_are_those_of_the_release(rule, number):
    recorded = recorded_stage(rule, number)
    weights = dict(recorded.masked.named_parameters())
    for group in recorded.groups:
        layer = recorded.layers[group.name]
        found = leverage(filters_of(group, weights), layer["num_keep"])
        torch.testing.assert_close(found, torch.tensor(layer["score"]).double(), rtol=0, atol=1e-4)


@each_stage
def test_a_stage_draws_by_the_residuals_of_the_values_that_would_come_back(rule, number, monkeypatch):
    recorded, given = recorded_stage(rule, number), []
    monkeypatch.setattr(RegrowSampling, "draw", lambda self, residuals, count, generator: given.append(residuals) or [])
    recorded.decide()
    for group, residuals in zip(recorded.groups, given, strict=True):
        layer = recorded.layers[group.name]
        expected = [layer["residual"][str(each)] for each in sorted(layer["candidates"])]
        assert residuals.tolist() == pytest.approx(expected, abs=1e-6), group.name


@each_stage
def test_residuals_and_chances_of_all_others_are_those_of_the_release(rule, number):
    recorded = recorded_stage(rule, number)
    for group in recorded.groups:
        layer = recorded.layers[group.name]
        residuals = projection_residual(filters_of(group, recorded.weights), layer["kept"], layer["candidates"])
        chances = RegrowSampling().log_weights(residuals).softmax(0)
        for found, key in ((residuals, "residual"), (chances, "prob")):
            expected = torch.tensor([layer[key][str(each)] for each in layer["candidates"]], dtype=torch.float64)
            torch.testing.assert_close(found, expected, rtol=0, atol=1e-6)


@pytest.mark.at_once(5)
@each_stage
@pytest.mark.parametrize("kind", [NarrowState, MaskState])
def test_what_is_restored_has_every_bit_that_it_has_in_the_release(rule, number, kind):
    recorded = recorded_stage(rule, number)
    net, trainer = recorded.golden.build(f"before{recorded.epoch}"), SimpleNamespace(optimizers=[], callbacks=[])
    pruned: PrunedState = kind(recorded.store(), recorded.graph)
    pruned.prune(trainer, net, recorded.old)
    masked = pruned.restore(trainer, net)
    for name, tensor in recorded.golden.snapshot(f"restored{recorded.epoch}").items():
        assert torch.equal(net.state_dict()[name], tensor), name
        assert torch.equal(pruned.most_recent.state_dict()[name], tensor), name
    for name, parameter in recorded.masked.named_parameters():
        assert torch.equal(dict(masked.named_parameters())[name], parameter), name


@pytest.mark.at_once(1)
@pytest.mark.parametrize("rule", RULES)
def test_a_network_begins_with_the_channels_of_the_release(rule):
    golden = Golden(f"stages_{rule}")
    net = golden.build("init")
    graph = golden.graph(net)
    groups = [graph[name] for name in golden.meta["prunable_order"]]
    decider = StageDecider(ChannelBudgets(), RegrowSampling(), Limits(), DenseCost.of(graph))
    shares = golden.meta["S"], golden.meta["init_channel_ratio"]
    first = decider.first(groups, dict(net.named_parameters()), *shares)
    assert first.active == golden.meta["init_active"]
    assert first.regrown == {}


# any network


class Chain(nn.Module):
    """Convolutions with batch norms, one without, and one that has none to read it but the classifier."""

    def __init__(self) -> None:
        super().__init__()
        widths = (3, 6, 12, 5, 8)
        self.convs = nn.ModuleList(nn.Conv2d(one, other, 3, padding=1) for one, other in pairwise(widths))
        self.norms = nn.ModuleList(nn.BatchNorm2d(width) for width in widths[1:-1])
        self.fc = nn.Linear(widths[-1], 3)

    def forward(self, x: Tensor) -> Tensor:
        for conv, norm in zip(self.convs, [*self.norms, nn.Identity()], strict=True):
            x = norm(conv(x)).relu()
        return self.fc(x.mean((2, 3)))


SIZES = {"convs.0": 6, "convs.1": 12, "convs.2": 5}
scales = st.lists(st.sampled_from([0.0, 0.1, -0.1, 0.5]) | st.floats(-2, 2, width=32), min_size=23, max_size=23)


def chain() -> tuple[nn.Module, ChannelGraph]:
    torch.manual_seed(0)
    net = Chain()
    return net, trace(net, torch.zeros(1, 3, 6, 6))


def decided(net: nn.Module, graph: ChannelGraph, sparsity: float, share: float, seed: int = 0, **options) -> Stage:
    """A stage of a network in which nothing is dormant.

    Args:
        net, graph, sparsity, share, seed: as in ``StageDecider.decide``.
        options: limits and budgets by name; ``groups``, ``scores`` and ``sampling``.
    """
    groups = [graph[name] for name in options.pop("groups", SIZES)]
    scores, sampling = options.pop("scores", None), options.pop("sampling", RegrowSampling())
    rules = {key: options.pop(key) for key in ("allocation", "regrow_allocation") if key in options}
    limits = Limits(**options)
    decider = StageDecider(
        ChannelBudgets(**rules, min_channels=limits.min_channels), sampling, limits, DenseCost.of(graph)
    )
    random, weights = torch.Generator().manual_seed(seed), dict(net.named_parameters())
    return decider.decide(groups, net, weights, scores, sparsity, share, random)


def with_scales(values: list[float]) -> tuple[nn.Module, ChannelGraph]:
    net, graph = chain()
    for norm, each in zip(net.norms, torch.tensor(values).split(list(SIZES.values())), strict=True):
        norm.weight.data = each.clone()
    return net, graph


def widths(stage: Stage) -> dict[str, int]:
    return {name: len(positions) for name, positions in stage.active.items()}


@pytest.mark.slow
@given(scales, st.floats(0, 0.95), st.sampled_from(RULES))
@settings(deadline=None, max_examples=40)
def test_no_group_is_ever_emptied(values, share, rule):
    stage = decided(*with_scales(values), 0.95, share, regrow_allocation=rule)
    assert all(stage.kept.values())
    for name, size in SIZES.items():
        assert {*stage.kept[name]}.isdisjoint(stage.regrown[name])
        assert {*stage.active[name]} <= {*range(size)}
        assert stage.active[name] == sorted(stage.active[name])


@pytest.mark.slow
@given(scales, sparsities, st.floats(0, 1))
@settings(deadline=None, max_examples=40)
def test_widths_are_multiples_and_not_below_their_floors(values, sparsity, regrow):
    stage = decided(*with_scales(values), sparsity, regrow * sparsity, round_to=4, min_channels=2, min_share=0.4)
    for name, size in SIZES.items():
        width = widths(stage)[name]
        assert width % 4 == 0 or width == size
        assert width >= max(2, 0.4 * size)


@pytest.mark.slow
@given(scales, sparsities)
@settings(deadline=None, max_examples=20)
def test_the_last_stage_only_prunes(values, sparsity):
    stage = decided(*with_scales(values), sparsity, 0.0)
    assert not any(stage.regrown.values())
    assert stage.active == stage.kept


def test_as_many_come_back_as_the_share_says():
    net, graph = with_scales([1.0 + position for position in range(23)])
    stage = decided(net, graph, 0.5, 0.25)
    assert {name: len(each) for name, each in stage.kept.items()} == {"convs.0": 1, "convs.1": 6, "convs.2": 5}
    assert {name: len(each) for name, each in stage.regrown.items()} == {"convs.0": 1, "convs.1": 3, "convs.2": 0}


def test_draws_depend_on_the_generator_and_what_stays_does_not():
    net, graph = with_scales([1.0] * 18 + [3.0] * 5)
    one, again, other = (decided(net, graph, 0.8, 0.4, seed) for seed in (1, 1, 2))
    assert one == again
    assert one.kept == other.kept
    assert one.regrown != other.regrown


def test_scores_decide_what_stays_where_there_are_any():
    net, graph = with_scales([float(position) for position in range(23)])
    scores = {name: torch.arange(size).float().flip(0) for name, size in SIZES.items()}
    stage = decided(net, graph, 0.5, 0.0, scores=scores)
    assert stage.kept == {"convs.0": [0], "convs.1": [0, 1, 2, 3, 4, 5], "convs.2": [0, 1, 2, 3, 4]}


def test_groups_with_more_filters_than_weights_in_each_are_named():
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(3, 8, 1), nn.ReLU(), nn.Conv2d(8, 8, 1), nn.ReLU(), nn.Conv2d(8, 2, 1)).eval()
    graph = trace(net, torch.zeros(1, 3, 4, 4))
    options = {"groups": [group.name for group in graph.prunable], "allocation": "uniform"}
    assert options["groups"] == ["0", "2"]
    assert decided(net, graph, 0.5, 0.0, **options).short == ["0"]
    scores = {name: torch.arange(8.0) for name in options["groups"]}
    assert decided(net, graph, 0.5, 0.0, scores=scores, **options).short == []


def test_dormant_channels_do_not_stay():
    net, graph = chain()
    for norm, conv in zip(net.norms, net.convs, strict=False):
        conv.weight.data[::2] = conv.bias.data[::2] = norm.weight.data[::2] = 0.0
    stage = decided(net, graph, 0.6, 0.0)
    assert all(position % 2 for positions in stage.kept.values() for position in positions)


def test_a_group_without_norms_has_its_share_under_a_uniform_allocation():
    net, graph = chain()
    stage = decided(net, graph, 0.5, 0.25, groups=["convs.1", "convs.3"], allocation="uniform")
    assert {name: len(each) for name, each in stage.kept.items()} == {"convs.1": 6, "convs.3": 4}
    assert {name: len(each) for name, each in stage.regrown.items()} == {"convs.1": 3, "convs.3": 2}
    assert mean_scales(net, [graph["convs.3"]])["convs.3"].tolist() == [1.0] * 8


def test_scales_of_both_signs_count_alike():
    net, graph = with_scales([(-1.0) ** position * (1 + position) for position in range(23)])
    other, _ = with_scales([1.0 + position for position in range(23)])
    assert decided(net, graph, 0.5, 0.25) == decided(other, graph, 0.5, 0.25)


def test_the_largest_filters_are_there_at_first():
    net, graph = chain()
    net.convs[0].weight.data = torch.full((6, 3, 3, 3), 0.1) * torch.tensor([3.0, 1, 5, 2, 4, 0]).view(6, 1, 1, 1)
    decider = StageDecider(ChannelBudgets(), RegrowSampling(), Limits(), DenseCost.of(graph))
    assert decider.first([graph["convs.0"]], dict(net.named_parameters()), 0.5, 0.0).kept == {"convs.0": [0, 2, 4]}


def test_what_stays_and_what_comes_back_is_active_in_ascending_order():
    stage = Stage({"a": [3, 5]}, {"a": [0, 4]})
    assert stage.active == {"a": [0, 3, 4, 5]}
    assert Stage({"a": [1], "b": [2]}, {"b": [0]}).active == {"a": [1], "b": [0, 2]}
