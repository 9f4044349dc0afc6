"""Long enough to forget: the rules against rows that are simulated one by one."""

import math
import time
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from pruning_lit.methods.resrep.pace import Pace, Run, fit, forecast

MOMENTUM, THRESHOLD, RATE = 0.99, 1e-5, 0.01
CIFAR = Pace(pull=1e-4, start=5 * 50000 // 64, interval=200, granularity=4)  # ResNet-56, as released
IMAGENET = Pace(pull=1e-4, start=5 * 1281167 // 256, interval=200, granularity=4)  # ResNet-50


def cosine(num_steps: int, rate: float = RATE) -> Tensor:
    return rate * 0.5 * (1 + torch.cos(math.pi * torch.arange(num_steps, dtype=torch.float64) / num_steps))


def run_of(num_steps: int, momentum: float = MOMENTUM, threshold: float = THRESHOLD) -> Run:
    return Run(cosine(num_steps), momentum, threshold)


def masked_at(pace: Pace, num_rows: int) -> Tensor:
    """Before which step every row is masked, section 4 of the method: first just before step start + interval."""
    return torch.tensor([pace.start + pace.interval * (1 + row // pace.granularity) for row in range(num_rows)])


def final_norms(pace: Pace, num_rows: int, run: Run, dim: int = 8, seed: int = 0) -> Tensor:
    """Row norms at the end: every row is held by a noisy task until it is masked, then only pulled; float32 SGD."""
    generator = torch.Generator().manual_seed(seed)

    def noise(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator)

    rows = torch.nn.functional.normalize(noise(num_rows, dim), dim=1)
    rows *= (1 + 0.1 * noise(num_rows, 1)).clamp(0.5, 1.3)
    velocity = pace.pull / math.sqrt(1 - run.momentum**2) * noise(num_rows, dim)  # what noise has built up before
    first = masked_at(pace, num_rows)
    for step, rate in enumerate(run.rates.tolist()):
        pull = rows * (pace.pull / rows.norm(dim=1, keepdim=True).clamp_min(1e-30))
        if step < first[-1]:
            task = pace.pull * noise(num_rows, dim) - pull
            pull = pull + task * (step < first).unsqueeze(1)
        velocity.mul_(run.momentum).add_(pull)
        rows.sub_(velocity, alpha=rate)
    return rows.norm(dim=1)


# The oracle


@pytest.mark.parametrize(
    ("num_steps", "num_rows", "dim"),
    [(2_700, 200, 2), (3_000, 60, 8), (3_000, 1008, 8), (5_000, 540, 64), (8_000, 200, 3), (15_620, 540, 8)],
)
def test_every_masked_row_is_forgotten_at_the_pace_that_fits(num_steps, num_rows, dim):
    run = run_of(num_steps)
    pace = fit(num_rows, run, CIFAR)
    assert forecast(pace, num_rows, run).masking_ends == int(masked_at(pace, num_rows)[-1])
    assert float(final_norms(pace, num_rows, run, dim).max()) < THRESHOLD


@pytest.mark.slow
@pytest.mark.parametrize(("num_steps", "num_rows"), [(25_000, 900), (40_000, 540)])
def test_every_masked_row_of_a_longer_run_is_forgotten_too(num_steps, num_rows):
    run = run_of(num_steps)
    assert float(final_norms(fit(num_rows, run, CIFAR), num_rows, run).max()) < THRESHOLD


@pytest.mark.parametrize("momentum", [0.0, 0.5, 0.9, 0.98])
def test_the_pace_fits_the_momentum(momentum):
    run = run_of(4_000, momentum)
    assert float(final_norms(fit(300, run, CIFAR), 300, run).max()) < THRESHOLD


@pytest.mark.parametrize(
    ("milestones", "threshold"), [((0.5, 0.7, 0.85), 1e-5), ((0.5, 0.7), 3e-5)], ids=["three drops", "two drops"]
)
def test_the_pace_fits_rates_that_fall_in_steps(milestones, threshold):
    rates = torch.tensor([RATE * 0.1 ** sum(t >= m * 8_000 for m in milestones) for t in range(8_000)])
    run = Run(rates, MOMENTUM, threshold)
    assert float(final_norms(fit(300, run, CIFAR), 300, run).max()) < threshold


REFUSED = {
    "masks that never end": (Pace(5e-3, 150, 100, 4), run_of(3_000), "masking would end at step"),
    "masks that end too late": (Pace(5e-3, 150, 36, 4), run_of(3_000), "can travel only 0"),
    "the published pull in a short run": (Pace(1e-4, 150, 10, 4), run_of(3_000), "can travel only 0"),
    "a rate that stays high": (
        Pace(1e-3, 250, 10, 4),
        Run(torch.full((5_000,), RATE), MOMENTUM, THRESHOLD),
        "rows swing about zero by up to 5.0e-04 at the end",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_refused_leaves_rows_above_the_threshold(case):
    pace, run, message = REFUSED[case]
    found = forecast(pace, 300, run)
    assert any(message in text for text in found.refusals), found
    assert int((final_norms(pace, 300, run) > THRESHOLD).sum()) >= 10


def test_three_thousand_steps_at_the_pull_of_the_specification_leave_a_few_rows_slightly_above():
    pace, run = Pace(1e-2, 150, 10, 34), run_of(3_000)
    found, norms = forecast(pace, 2_000, run), final_norms(pace, 2_000, run)
    assert not found.refusals
    assert "only the last 85 steps have a low enough learning rate" in found.warnings[0]
    assert 0 < float((norms > THRESHOLD).float().mean()) < 0.01  # 0.5 % there
    assert float(norms.max()) < found.residue


def test_a_short_rest_at_a_much_lower_rate_is_warned_of_and_leaves_rows():
    rates = torch.cat([torch.full((5_000,), RATE), torch.full((300,), RATE / 1000)])
    pace, run = Pace(1e-3, 100, 10, 40), Run(rates, MOMENTUM, 1e-5)
    found = forecast(pace, 300, run)
    assert found.settling == 300
    assert not found.refusals
    assert len(found.warnings) == 1
    assert int((final_norms(pace, 300, run) > THRESHOLD).sum()) >= 10


# The published recipes


@pytest.mark.parametrize(
    ("num_steps", "num_rows", "published", "share"),
    [(374_880, 540, CIFAR, 0.0824), (900_720, 3242, IMAGENET, 0.2079)],  # (start + 200 * ceil(rows / 4)) / steps
    ids=["ResNet-56", "ResNet-50"],
)
def test_the_published_pace_stays_for_the_published_runs(num_steps, num_rows, published, share):
    run = run_of(num_steps)
    assert fit(num_rows, run, published) == published
    found = forecast(published, num_rows, run)
    assert found.refusals == found.warnings == ()
    assert found.share == pytest.approx(share, abs=1e-4)
    assert found.travel > 10


def test_twenty_epochs_need_ten_times_the_pull_and_masks_that_end_after_a_quarter():
    run = run_of(20 * 781)
    pace = fit(540, run, CIFAR)
    assert pace == Pace(pull=1e-3, start=781, interval=23, granularity=4)  # masks end by step 4000: section 9
    assert forecast(pace, 540, run).masking_ends == 3886


def test_forgetting_from_norm_one_takes_ten_thousand_steps_at_the_published_rate():
    steady = Run(torch.full((10_000,), RATE), MOMENTUM, THRESHOLD)
    assert forecast(Pace(1e-4, 0, 1, 1), 1, steady).travel == pytest.approx(1, abs=1e-3)  # section 9


def test_settling_begins_where_fifty_times_rate_and_pull_reach_the_threshold():
    for num_steps, pull in [(15_620, 1e-3), (374_880, 1e-4)]:
        counted = int((50 * pull * cosine(num_steps) <= THRESHOLD).sum())
        assert run_of(num_steps).settling(pull) == pytest.approx(counted, abs=1)
    assert run_of(3_000).settling(1e-9) == 3_000


# Rules


def test_masks_that_end_between_two_fifths_and_the_end_are_warned_of():
    late = forecast(Pace(1e-3, 500, 45, 4), 540, run_of(15_620))
    assert late.refusals == ()
    assert late.warnings[0].startswith("masking ends after 42% of the run, later than 40%")
    assert forecast(Pace(1e-3, 500, 40, 4), 540, run_of(15_620)).warnings == ()


def test_masks_end_with_the_last_update_and_a_rest_of_rows_takes_one_more():
    assert Pace(1e-4, 100, 10, 4).masking_ends(8) == 120
    assert Pace(1e-4, 100, 10, 4).masking_ends(9) == 130


def test_granularity_rises_only_where_the_interval_would_fall_below_ten_steps():
    few, many = fit(540, run_of(8_000), CIFAR), fit(5_000, run_of(8_000), CIFAR)
    assert (few.granularity, few.interval >= 10) == (4, True)
    assert (many.granularity > 4, many.interval >= 10) == (True, True)


@settings(max_examples=100, deadline=None, derandomize=True)
@given(
    num_steps=st.integers(2_700, 60_000), more=st.integers(20, 60_000), num_rows=st.integers(1, 5_000)
)  # by fewer steps the share at which masks end may fall on another step
def test_a_longer_run_never_needs_a_larger_pull_and_is_never_refused(num_steps, more, num_rows):
    short, longer = run_of(num_steps), run_of(num_steps + more)
    assert fit(num_rows, longer, CIFAR).pull <= fit(num_rows, short, CIFAR).pull


@settings(max_examples=100, deadline=None, derandomize=True)
@given(num_steps=st.integers(2_700, 60_000), num_rows=st.integers(1, 5_000), start=st.integers(0, 10_000))
def test_what_fits_breaks_no_rule_even_if_half_as_many_rows_more_are_masked(num_steps, num_rows, start):
    run = run_of(num_steps)
    pace = fit(num_rows, run, replace(CIFAR, start=start))
    assert pace.start <= min(start, 0.05 * num_steps)
    assert pace.interval <= 200
    for rows in (num_rows, num_rows * 3 // 2):
        found = forecast(pace, rows, run)
        assert found.refusals == found.warnings == (), found


@settings(max_examples=50, deadline=None, derandomize=True)
@given(num_steps=st.integers(50, 2_500), num_rows=st.integers(1, 1_000))
def test_too_short_a_run_is_refused_with_a_length_that_suffices(num_steps, num_rows):
    with pytest.raises(ValueError, match="smaller batch") as told:
        fit(num_rows, run_of(num_steps), CIFAR)
    begin, end = f"{num_steps} optimizer steps are too few for rows to be forgotten, about ", " are needed at least"
    needed = int(str(told.value).removeprefix(begin).partition(end)[0])
    fit(num_rows, run_of(needed), CIFAR)
    if num_steps >= 500:  # below, the few rates are a coarse picture of a long run
        with pytest.raises(ValueError, match="too few"):
            fit(num_rows, run_of(int(0.93 * needed)), CIFAR)


def test_a_rate_that_does_not_come_down_is_refused_whatever_the_length():
    with pytest.raises(ValueError, match=r"a learning rate that ends at 0\.01 forget no rows, nor would more"):
        fit(300, Run(torch.full((50_000,), RATE), MOMENTUM, THRESHOLD), CIFAR)


def test_a_rate_that_is_zero_when_masks_are_complete_is_refused():
    rates = torch.cat([torch.full((3_000,), RATE), torch.zeros(7_000)])
    with pytest.raises(ValueError, match="nor would more of them"):
        fit(300, Run(rates, MOMENTUM, THRESHOLD), CIFAR)


def test_a_rate_as_a_function_gives_what_its_values_give():
    for num_steps in (3_000, 374_880):  # the longer one is sampled
        rates = cosine(num_steps)
        function = Run.of(lambda step, rates=rates: float(rates[step]), num_steps, MOMENTUM, THRESHOLD)
        values = Run(rates, MOMENTUM, THRESHOLD)
        pace = fit(540, function, CIFAR)
        assert pace == fit(540, values, CIFAR)
        one, other = forecast(pace, 540, function), forecast(pace, 540, values)
        assert one.num_steps == num_steps
        assert one.travel == pytest.approx(other.travel, rel=1e-3)
        assert one.settling == pytest.approx(other.settling, rel=1e-3)


def test_the_longest_published_run_is_judged_in_a_moment():
    rates = cosine(900_720)
    begin = time.perf_counter()
    forecast(fit(3242, Run(rates, MOMENTUM, THRESHOLD), IMAGENET), 3242, Run(rates, MOMENTUM, THRESHOLD))
    assert time.perf_counter() - begin < 2  # 0.05 s on an idle core; a loop over the steps takes longer


# What is told


def test_a_pace_can_be_pasted_on_the_command_line():
    assert Pace(1e-3, 781, 23, 4).overrides(steps_per_epoch=781) == (
        "gradient_reset.pull=0.001 gradient_reset.callbacks.masks.start=1 "
        "gradient_reset.callbacks.masks.interval=23 gradient_reset.callbacks.masks.granularity=4"
    )
    assert "own.callbacks.masks.start=0.25 " in Pace(1e-3, 25, 23, 4).overrides(100, phase="own")


def test_a_forecast_is_one_line():
    assert str(forecast(Pace(1e-3, 781, 23, 4), 540, run_of(15_620))) == (
        "masking ends at step 3886 of 15620 (25%), a row masked last can travel 4.12 times its norm, "
        "the last 1411 steps settle, rows end below 5.6e-08"
    )


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Pace(0, 0, 1, 1), "pull is the length of the pull on every row, a number above 0, got 0"),
        (lambda: Pace(math.nan, 0, 1, 1), "a number above 0, got nan"),
        (lambda: Pace(1e-4, -1, 1, 1), "start is the number of steps before the masks, at least 0, got -1"),
        (lambda: Pace(1e-4, 0, 0, 4), "must be at least 1, got 0 and 4"),
        (lambda: Run(torch.zeros(3), 0.9, 1e-5), "not 0 throughout the run"),
        (lambda: Run(torch.tensor([0.1, -0.1]), 0.9, 1e-5), "finite, at least 0"),
        (lambda: Run(torch.ones(2, 2), 0.9, 1e-5), r"got a tensor of shape \(2, 2\)"),
        (lambda: Run(torch.ones(2), 1.0, 1e-5), r"must be at least 0 and below 1, got 1\.0"),
        (lambda: Run(torch.ones(2), 0.9, 0.0), r"threshold is a norm between 0 and the 1 that rows start with, got 0"),
        (lambda: Run.of(lambda step: 0.1, 0, 0.9, 1e-5), "at least 1 optimizer step, got 0"),
        (lambda: forecast(CIFAR, 0, run_of(100)), "num_rows is the number of rows to be masked, at least 1, got 0"),
        (lambda: fit(10, run_of(1), CIFAR), "1 optimizer steps with a learning rate"),
    ],
)
def test_what_makes_no_sense_is_refused_in_one_sentence(make, message):
    with pytest.raises(ValueError, match=message):
        make()
