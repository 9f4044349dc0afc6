"""Channel exploration: the released schedules and counts, budgets as identities, and draws by their weights."""

import json
from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from pruning_lit.criteria.bn_scale import global_threshold
from pruning_lit.methods.chex.budgets import (
    ChannelBudgets,
    ExplorationSchedule,
    regrow_share,
)
from pruning_lit.methods.chex.decision import RegrowSampling, sample
from tests.places import VECTORS

GOLDEN = VECTORS / "chex"
SCHEDULE, ALLOCATION, REGROW = (
    json.loads((GOLDEN / f"{name}.json").read_text()) for name in ("schedule", "allocation", "regrow")
)
WIDTHS = {str(layer): width for layer, width in enumerate(SCHEDULE["widths"])}
TYPICAL = {"sparsity": 0.7, "init_regrow": 0.3, "interval": 2, "last_stage": 180}
EXACT = ChannelBudgets()
sparsities = st.floats(0.01, 0.99)
sizes = st.lists(st.integers(1, 40), min_size=1, max_size=6)


def run_name(run: dict) -> str:
    return f"S {run['S']}, r0 {run['init_channel_ratio']}, T {run['T_max']}"


def different(widths: list[int], seed: int = 0) -> dict[str, Tensor]:
    """Scales of both signs, no two of the same size."""
    random = torch.Generator().manual_seed(seed)
    scales = (torch.randperm(sum(widths), generator=random) + 1).float()
    scales *= torch.randint(0, 2, scales.shape, generator=random) * 2 - 1
    return {str(layer): each for layer, each in enumerate(scales.split(widths))}


# the schedule


@pytest.mark.parametrize("run", SCHEDULE["runs"], ids=run_name)
def test_the_share_that_comes_back_is_that_of_the_release(run):
    for update in run["updates"]:
        share = regrow_share(update["epoch"], run["init_channel_ratio"], run["T_max"])
        assert share == pytest.approx(update["channel_ratio"], abs=1e-9)
        assert [int(share * width) for width in (64, 128, 256, 512, 1024, 2048)] == update["regrow_int"]


@pytest.mark.parametrize("run", SCHEDULE["runs"][:3], ids=run_name)
def test_stages_are_at_the_epochs_of_the_release(run):
    schedule = ExplorationSchedule(run["S"], run["init_channel_ratio"], run["delta_T"], run["T_max"])
    schedule.require_epochs(run["epochs"])
    assert [*schedule.stages] == [update["epoch"] for update in run["updates"]]
    assert schedule.share(schedule.stages[-1]) == 0


@pytest.mark.parametrize("run", SCHEDULE["runs"], ids=run_name)
def test_initial_widths_are_those_of_the_release(run):
    sizes = {width: int(width) for width in run["initial_keep"]}
    assert ChannelBudgets().initial(sizes, run["S"], run["init_channel_ratio"]) == run["initial_keep"]


@pytest.mark.parametrize("decay", ["cosine", "linear", "constant"])
@given(st.floats(0, 1), st.integers(1, 1000))
def test_every_decay_begins_at_the_initial_share_and_falls_to_exactly_zero(decay, init_regrow, last_stage):
    shares = [regrow_share(epoch, init_regrow, last_stage, decay) for epoch in range(last_stage + 3)]
    assert shares[0] == init_regrow
    assert shares[last_stage:] == [0, 0, 0]
    assert all(later <= earlier for earlier, later in pairwise(shares))


def test_decays_differ_half_way():
    schedules = {
        decay: ExplorationSchedule(**TYPICAL, decay=decay).share(60) for decay in ("cosine", "linear", "constant")
    }
    assert schedules == pytest.approx({"cosine": 0.225, "linear": 0.2, "constant": 0.3})


@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [
        ({"sparsity": 0}, "sparsity.rate must lie between 0 and 1, got 0: nothing would be removed"),
        ({"sparsity": 1}, r"sparsity 1 lies outside \[0, 1\): it is the share of the channels that is removed"),
        ({"sparsity": 1.2}, r"sparsity 1.2 lies outside \[0, 1\)"),
        ({"sparsity": -0.1}, r"sparsity -0.1 lies outside \[0, 1\)"),
        ({"sparsity": float("nan")}, "sparsity nan is not a number"),
        (
            {"init_regrow": 0.8},
            "init_regrow must not exceed sparsity.rate=0.7, got 0.8: no more channels can come back",
        ),
        ({"init_regrow": -0.1}, r"init_regrow -0.1 lies outside \[0, 1\): it is the share that comes back at first"),
        ({"interval": 0}, "interval must be a whole number of at least 1, got 0"),
        ({"interval": 1.5}, "interval must be a whole number of at least 1, got 1.5"),
        ({"last_stage": 0}, "last_stage must be a whole number of at least 1, got 0"),
        ({"last_stage": 181}, "multiple of interval=2, got 181: the stage at epoch 180 .*; set last_stage=180"),
        ({"interval": 200}, "multiple of interval=200, got 180: it comes before the first stage; set last_stage=200"),
        ({"decay": "step"}, r"decay must be one of \['cosine', 'linear', 'constant'\], got 'step'"),
    ],
)
def test_a_schedule_that_cannot_end_at_its_budget_is_refused(wrong, sentence):
    with pytest.raises(ValueError, match=sentence):
        ExplorationSchedule(**(TYPICAL | wrong))


def test_the_last_stage_lies_within_the_training():
    schedule = ExplorationSchedule(**TYPICAL)
    schedule.require_epochs(181)
    with pytest.raises(ValueError, match="last_stage=180 lies beyond the training, whose epochs are 0 to 179"):
        schedule.require_epochs(180)


def test_nothing_and_everything_may_come_back_at_first():
    assert ExplorationSchedule(**(TYPICAL | {"init_regrow": 0})).share(2) == 0
    schedule = ExplorationSchedule(**(TYPICAL | {"init_regrow": 0.7}))
    assert EXACT.initial({"a": 13, "b": 64}, schedule.sparsity, schedule.init_regrow) == {"a": 13, "b": 64}


# what stays


def case_name(case: dict) -> str:
    return f"{case['kind']} {case['S']}"


def scales_of(case: dict) -> dict[str, Tensor]:
    return {name: torch.tensor(ALLOCATION["gammas"][case["kind"]][name]) for name in ALLOCATION["bn_order"]}


@pytest.mark.parametrize("case", ALLOCATION["cases"], ids=case_name)
def test_what_stays_is_above_the_threshold_of_the_release_and_no_group_is_emptied(case):
    scales = scales_of(case)
    assert sum(map(len, scales.values())) == case["total"]
    threshold, _ = global_threshold(list(scales.values()), case["S"])
    assert float(threshold) == pytest.approx(case["threshold"], rel=1e-8)
    assert list(EXACT.kept(scales, case["S"]).values()) == [max(1, count) for count in case["keep_exact"]]


def test_some_of_the_cases_would_empty_groups():
    assert any(0 in case["keep_exact"] for case in ALLOCATION["cases"])


@given(sizes, sparsities, st.integers(1, 5))
@settings(deadline=None)
def test_the_floor_adds_to_the_narrowest_groups_and_takes_nothing_from_the_others(widths, sparsity, floor):
    scales = different(widths)
    plain = [int(mask.sum()) for mask in global_threshold(list(scales.values()), sparsity)[1]]
    kept = ChannelBudgets(min_channels=floor).kept(scales, sparsity)
    assert list(kept.values()) == [min(size, max(count, floor)) for size, count in zip(widths, plain, strict=True)]


@given(st.integers(2, 400), sparsities)
@settings(deadline=None)
def test_of_scales_without_ties_one_more_goes_than_the_share_says(total, sparsity):
    scales = different([total])
    assert sum(EXACT.kept(scales, sparsity).values()) == max(1, total - int(total * sparsity) - 1)


@pytest.mark.parametrize("run", SCHEDULE["runs"], ids=run_name)
def test_on_resnet_50_both_thresholds_are_those_of_the_release(run):
    scales, total = different(SCHEDULE["widths"]), sum(SCHEDULE["widths"])
    budgets = ChannelBudgets(regrow_allocation="global")
    for update in run["updates"][::9]:
        kept = budgets.kept(scales, run["S"])
        share = regrow_share(update["epoch"], run["init_channel_ratio"], run["T_max"])
        regrown = budgets.regrown(scales, kept, run["S"], share)
        assert sum(kept.values()) == total - update["index_down"] - 1
        assert sum(kept.values()) + sum(regrown.values()) == total - update["index_up"] - 1


@pytest.mark.parametrize(("size", "stays"), [(10, 1), (64, 6), (1, 1), (7, 1)])
def test_a_uniform_allocation_is_exact_and_rounds_down(size, stays):
    scales = {"a": torch.rand(size), "b": torch.rand(100)}
    assert ChannelBudgets(allocation="uniform").kept(scales, 0.9) == {"a": stays, "b": 10}


# what comes back


@pytest.mark.parametrize("case", ALLOCATION["cases"], ids=case_name)
def test_as_many_are_active_after_a_stage_as_in_the_release(case):
    scales = scales_of(case)
    kept = dict(zip(scales, case["keep_exact"], strict=True))
    for share, released in case["per_layer_regrow"].items():
        regrown = EXACT.regrown(scales, kept, case["S"], float(share))
        for (name, each), dormant in zip(scales.items(), released["ratio_up"], strict=True):
            assert kept[name] + regrown[name] == round(len(each) * (1 - dormant)), (name, share)


@given(sizes, sparsities, st.floats(0, 1))
@settings(deadline=None)
def test_per_layer_the_same_share_comes_back_as_far_as_there_are_channels(widths, sparsity, share):
    scales = different(widths)
    kept = EXACT.kept(scales, sparsity)
    assert EXACT.regrown(scales, kept, sparsity, share) == {
        name: min(int(share * len(each)), len(each) - kept[name]) for name, each in scales.items()
    }


@given(sizes, sparsities, st.floats(0, 1), st.floats(0, 1))
@settings(deadline=None)
def test_globally_no_group_gets_wider_than_it_was_but_for_its_floor(widths, sparsity, regrow, dormant):
    scales = different(widths)
    for each in scales.values():
        each[: int(dormant * len(each))] = 0
    budgets = ChannelBudgets(regrow_allocation="global")
    kept = budgets.kept(scales, sparsity)
    regrown = budgets.regrown(scales, kept, sparsity, regrow * sparsity * 0.999)
    for name, each in scales.items():
        assert regrown[name] >= 0
        assert kept[name] + regrown[name] <= max(1, int((each != 0).sum()))


def test_globally_what_is_above_a_lower_threshold_is_active():
    scales = {"strong": torch.arange(10.0, 20.0), "weak": torch.arange(0.0, 10.0)}
    budgets = ChannelBudgets(regrow_allocation="global")
    kept = budgets.kept(scales, 0.5)
    assert kept == {"strong": 9, "weak": 1}  # 10 is the threshold; the floor holds in the other group
    assert budgets.regrown(scales, kept, 0.5, 0.2) == {"strong": 1, "weak": 2}  # above 6


@pytest.mark.parametrize(
    "budgets", [EXACT, ChannelBudgets(regrow_allocation="global"), ChannelBudgets(allocation="uniform")]
)
def test_nothing_comes_back_at_the_last_stage(budgets):
    scales = different([5, 9, 30])
    assert set(budgets.regrown(scales, budgets.kept(scales, 0.6), 0.6, 0.0).values()) == {0}


@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [
        ({"allocation": "learned"}, r"allocation must be one of \['gamma', 'uniform'\], got 'learned'"),
        ({"regrow_allocation": "all"}, r"regrow_allocation must be one of \['per_layer', 'global'\], got 'all'"),
        ({"min_channels": 0}, "min_channels must be a whole number of at least 1, got 0"),
        ({"allocation": "uniform", "regrow_allocation": "global"}, "sparsity=uniform has none; set regrow_alloc"),
    ],
)
def test_other_budgets_are_refused(wrong, sentence):
    with pytest.raises(ValueError, match=sentence):
        ChannelBudgets(**wrong)


# which come back


@pytest.mark.parametrize("case", REGROW, ids=lambda case: f"case {case['case']}")
@pytest.mark.parametrize(("power", "key"), [(1, "prob_code"), (2, "prob_paper")])
def test_probabilities_are_the_softmax_of_the_residuals_or_their_squares(case, power, key):
    residuals = torch.tensor(case["residual_norm"], dtype=torch.float64)
    found = RegrowSampling(residual_power=power).log_weights(residuals).softmax(0)
    torch.testing.assert_close(found, torch.tensor(case[key], dtype=torch.float64), atol=1e-6, rtol=0)


def test_uniform_sampling_looks_at_no_residual():
    found = RegrowSampling("uniform").log_weights(torch.tensor([3.0, 0.0, 1.0, 9.0])).softmax(0)
    assert found.tolist() == [0.25] * 4


@pytest.mark.slow
@pytest.mark.at_once(1)
@pytest.mark.parametrize("sampling", [RegrowSampling(), RegrowSampling(residual_power=2), RegrowSampling("uniform")])
def test_a_channel_is_drawn_as_often_as_draws_one_after_another_would_draw_it(sampling):
    residuals = torch.tensor([0.2, 1.5, 0.9, 0.0, 0.5])
    chances = sampling.log_weights(residuals).softmax(0)
    second = torch.stack(
        [sum(chances[i] * chances[j] / (1 - chances[i]) for i in range(5) if i != j) for j in range(5)]
    )
    generator, num_draws = torch.Generator().manual_seed(0), 8000
    for count, expected in ((1, chances), (2, chances + second)):
        drawn = np.bincount(
            [i for _ in range(num_draws) for i in sampling.draw(residuals, count, generator)], minlength=5
        )
        assert drawn / num_draws == pytest.approx(expected.numpy(), abs=0.02)  # three and a half standard deviations


@given(st.lists(st.floats(0, 1e6), max_size=30), st.integers(-2, 40), st.integers(0, 99))
@settings(deadline=None)
def test_as_many_different_channels_are_drawn_as_asked_for_and_the_same_with_the_same_seed(residuals, count, seed):
    def drawn() -> list[int]:
        return RegrowSampling().draw(torch.tensor(residuals), count, torch.Generator().manual_seed(seed))

    found = drawn()
    assert found == sorted(set(found)) == drawn()
    assert len(found) == min(max(count, 0), len(residuals))
    assert {*found} <= {*range(len(residuals))}


def test_draws_follow_their_generator_alone_and_move_it_on_alike_whatever_is_drawn():
    weights = torch.rand(20, dtype=torch.float64)
    one, other = torch.Generator().manual_seed(3), torch.Generator().manual_seed(3)
    state = torch.get_rng_state()
    first = sample(weights, 5, one)
    assert torch.equal(torch.get_rng_state(), state)
    sample(weights, 0, other)
    second = sample(weights, 5, one)
    assert second != first
    assert second == sample(weights, 5, other)


@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [
        ({"sampling": "softmax"}, r"sampling must be one of \['projection', 'uniform'\], got 'softmax'"),
        ({"residual_power": 3}, "residual_power must be 1 or 2, got 3"),
    ],
)
def test_other_ways_of_sampling_are_refused(wrong, sentence):
    with pytest.raises(ValueError, match=sentence):
        RegrowSampling(**wrong)


def test_the_least_channels_are_output_channels_where_several_leave_together():
    budgets = ChannelBudgets(allocation="uniform", min_channels=8, together={"a": 4})
    scales = {name: torch.ones(16) for name in "ab"}
    assert budgets.kept(scales, 0.95) == {"a": 2, "b": 8}
    assert budgets.initial({"a": 16, "b": 16}, 0.95, 0.0) == {"a": 2, "b": 8}
