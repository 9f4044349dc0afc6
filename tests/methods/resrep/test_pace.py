"""Long enough to forget: the rules against rows that are simulated one by one."""

import math
import time
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from pruning_lit.methods.resrep.pace import LrProfile, MaskingPace, broken_rule, fit

MOMENTUM, THRESHOLD, RATE = 0.99, 1e-5, 0.01
CIFAR = MaskingPace(lasso_strength=1e-4, start=5 * 50000 // 64, interval=200, granularity=4)  # ResNet-56, as released
IMAGENET = MaskingPace(lasso_strength=1e-4, start=5 * 1281167 // 256, interval=200, granularity=4)  # ResNet-50


def cosine(num_steps: int, rate: float = RATE) -> Tensor:
    return rate * 0.5 * (1 + torch.cos(math.pi * torch.arange(num_steps, dtype=torch.float64) / num_steps))


def profile_of(num_steps: int, momentum: float = MOMENTUM, threshold: float = THRESHOLD) -> LrProfile:
    return LrProfile(cosine(num_steps), momentum, threshold)


def masked_at(pace: MaskingPace, num_rows: int) -> Tensor:
    """Before which step every row is masked, section 4 of the method: first just before step start + interval."""
    return torch.tensor([pace.start + pace.interval * (1 + row // pace.granularity) for row in range(num_rows)])


def final_norms(pace: MaskingPace, num_rows: int, profile: LrProfile, dim: int = 8, seed: int = 0) -> Tensor:
    """Row norms at the end: every row is held by a noisy task until it is masked, then only pulled; float32 SGD."""
    generator = torch.Generator().manual_seed(seed)

    def noise(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator)

    rows = torch.nn.functional.normalize(noise(num_rows, dim), dim=1)
    rows *= (1 + 0.1 * noise(num_rows, 1)).clamp(0.5, 1.3)
    velocity = (
        pace.lasso_strength / math.sqrt(1 - profile.momentum**2) * noise(num_rows, dim)
    )  # what noise has built up before
    first = masked_at(pace, num_rows)
    for step, rate in enumerate(profile.lrs.tolist()):
        pull = rows * (pace.lasso_strength / rows.norm(dim=1, keepdim=True).clamp_min(1e-30))
        if step < first[-1]:
            task = pace.lasso_strength * noise(num_rows, dim) - pull
            pull = pull + task * (step < first).unsqueeze(1)
        velocity.mul_(profile.momentum).add_(pull)
        rows.sub_(velocity, alpha=rate)
    return rows.norm(dim=1)


# The oracle


@pytest.mark.at_once(2)
@pytest.mark.parametrize(
    ("num_steps", "num_rows", "dim"),
    [(2_700, 200, 2), (3_000, 60, 8), (3_000, 1008, 8), (5_000, 540, 64), (8_000, 200, 3), (15_620, 540, 8)],
)
def test_every_masked_row_is_forgotten_at_the_pace_that_fits(num_steps, num_rows, dim):
    profile = profile_of(num_steps)
    pace = fit(num_rows, profile, CIFAR)
    assert pace.masking_ends(num_rows) == int(masked_at(pace, num_rows)[-1])
    assert float(final_norms(pace, num_rows, profile, dim).max()) < THRESHOLD


@pytest.mark.slow
@pytest.mark.parametrize(("num_steps", "num_rows"), [(25_000, 900), (40_000, 540)])
def test_every_masked_row_of_a_longer_run_is_forgotten_too(num_steps, num_rows):
    profile = profile_of(num_steps)
    assert float(final_norms(fit(num_rows, profile, CIFAR), num_rows, profile).max()) < THRESHOLD


@pytest.mark.at_once(2)
@pytest.mark.parametrize("momentum", [0.0, 0.5, 0.9, 0.98])
def test_the_pace_fits_the_momentum(momentum):
    profile = profile_of(4_000, momentum)
    assert float(final_norms(fit(300, profile, CIFAR), 300, profile).max()) < THRESHOLD


@pytest.mark.at_once(1)
@pytest.mark.parametrize(
    ("milestones", "threshold"), [((0.5, 0.7, 0.85), 1e-5), ((0.5, 0.7), 3e-5)], ids=["three drops", "two drops"]
)
def test_the_pace_fits_lrs_that_fall_in_steps(milestones, threshold):
    lrs = torch.tensor([RATE * 0.1 ** sum(t >= m * 8_000 for m in milestones) for t in range(8_000)])
    profile = LrProfile(lrs, MOMENTUM, threshold)
    assert float(final_norms(fit(300, profile, CIFAR), 300, profile).max()) < threshold


BROKEN = {
    "masks that never end": (MaskingPace(5e-3, 150, 100, 4), profile_of(3_000), "masking ends after 255% of the run"),
    "masks that end too late": (MaskingPace(5e-3, 150, 36, 4), profile_of(3_000), "masking ends after 95% of the run"),
    "the published strength in a short run": (
        MaskingPace(1e-4, 150, 10, 4), profile_of(3_000), "a row masked last can travel only 0",
    ),
    "a rate that stays high": (
        MaskingPace(1e-3, 250, 10, 4), LrProfile(torch.full((5_000,), RATE), MOMENTUM, THRESHOLD),
        "rows oscillate about zero by up to 5.0e-04 at the end, above the threshold 1e-05: let the learning rate fall",
    ),
    "a short rest at a much lower rate": (
        MaskingPace(1e-3, 100, 10, 40),
        LrProfile(torch.cat([torch.full((5_000,), RATE), torch.full((300,), RATE / 1000)]), MOMENTUM, THRESHOLD),
        "rows oscillate about zero",
    ),
}  # fmt: skip


@pytest.mark.at_once(2)
@pytest.mark.parametrize("case", BROKEN)
def test_a_broken_rule_is_told_and_leaves_rows_above_the_threshold(case):
    pace, profile, told = BROKEN[case]
    assert (broken_rule(pace, 300, profile) or "").startswith(told)
    assert int((final_norms(pace, 300, profile) > THRESHOLD).sum()) >= 10


def test_three_thousand_steps_at_the_strength_of_the_specification_leave_a_few_rows_slightly_above():
    pace, profile = MaskingPace(1e-2, 150, 10, 34), profile_of(3_000)
    norms = final_norms(pace, 2_000, profile)
    assert "rows oscillate about zero" in (broken_rule(pace, 2_000, profile) or "")
    assert 0 < float((norms > THRESHOLD).float().mean()) < 0.01  # 0.5 % there
    assert float(norms.max()) < pace.lasso_strength * profile.noise_floor


# The published recipes


@pytest.mark.parametrize(
    ("num_steps", "num_rows", "published", "share"),
    [(374_880, 540, CIFAR, 0.0824), (900_720, 3242, IMAGENET, 0.2079)],  # (start + 200 * ceil(rows / 4)) / steps
    ids=["ResNet-56", "ResNet-50"],
)
def test_the_published_pace_stays_for_the_published_runs(num_steps, num_rows, published, share):
    profile, end = profile_of(num_steps), published.masking_ends(num_rows)
    assert fit(num_rows, profile, published) == published
    assert broken_rule(published, num_rows, profile) is None
    assert end / num_steps == pytest.approx(share, abs=1e-4)
    assert published.lasso_strength * profile.reach(end) > 10


def test_twenty_epochs_need_ten_times_the_strength_and_masks_that_end_after_a_quarter():
    pace = fit(540, profile_of(20 * 781), CIFAR)
    assert pace == MaskingPace(lasso_strength=1e-3, start=781, interval=23, granularity=4)
    assert pace.masking_ends(540) == 3886  # by step 4000: section 9


def test_a_row_of_norm_one_travels_to_zero_in_ten_thousand_steps_at_the_published_rate():
    steady = LrProfile(torch.full((10_000,), RATE, dtype=torch.float64), MOMENTUM, THRESHOLD)
    assert 1e-4 * steady.reach(0) == pytest.approx(1)  # section 9


# Rules


def test_masks_that_end_after_two_fifths_are_warned_of():
    late, early = (MaskingPace(1e-3, 500, interval, 4) for interval in (45, 40))
    assert (broken_rule(late, 540, profile_of(15_620)) or "").startswith(
        "masking ends after 42% of the run, later than"
    )
    assert broken_rule(early, 540, profile_of(15_620)) is None


def test_masks_end_with_the_last_update_and_a_rest_of_rows_takes_one_more():
    assert MaskingPace(1e-4, 100, 10, 4).masking_ends(8) == 120
    assert MaskingPace(1e-4, 100, 10, 4).masking_ends(9) == 130


def test_a_run_that_ends_before_the_masks_is_refused():
    MaskingPace(1e-4, 100, 10, 4).require_end(8, 121)
    with pytest.raises(
        ValueError, match="masking would end at step 120, but the run has 120, so the target is not met"
    ):
        MaskingPace(1e-4, 100, 10, 4).require_end(8, 120)


def test_granularity_rises_only_where_the_interval_would_fall_below_ten_steps():
    few, many = fit(540, profile_of(8_000), CIFAR), fit(5_000, profile_of(8_000), CIFAR)
    assert (few.granularity, few.interval >= 10) == (4, True)
    assert (many.granularity > 4, many.interval >= 10) == (True, True)


@settings(max_examples=100, deadline=None, derandomize=True)
@given(
    num_steps=st.integers(2_700, 60_000), more=st.integers(20, 60_000), num_rows=st.integers(1, 5_000)
)  # by fewer steps the share at which masks end may fall on another step
def test_a_longer_run_never_needs_a_larger_strength_and_is_never_refused(num_steps, more, num_rows):
    short, longer = profile_of(num_steps), profile_of(num_steps + more)
    assert fit(num_rows, longer, CIFAR).lasso_strength <= fit(num_rows, short, CIFAR).lasso_strength


@settings(max_examples=100, deadline=None, derandomize=True)
@given(num_steps=st.integers(2_700, 60_000), num_rows=st.integers(1, 5_000), start=st.integers(0, 10_000))
def test_what_fits_breaks_no_rule_even_if_half_as_many_rows_more_are_masked(num_steps, num_rows, start):
    profile = profile_of(num_steps)
    pace = fit(num_rows, profile, replace(CIFAR, start=start))
    assert pace.start <= min(start, 0.05 * num_steps)
    assert pace.interval <= 200
    for rows in (num_rows, num_rows * 3 // 2):
        assert broken_rule(pace, rows, profile) is None


@settings(max_examples=50, deadline=None, derandomize=True)
@given(num_steps=st.integers(1, 2_500), num_rows=st.integers(1, 1_000))
def test_too_short_a_run_is_refused(num_steps, num_rows):
    with pytest.raises(ValueError, match=f"no pace lets rows die in {num_steps} optimizer steps .* smaller batch"):
        fit(num_rows, profile_of(num_steps), CIFAR)


def test_a_rate_that_does_not_come_down_is_refused_whatever_the_length():
    with pytest.raises(
        ValueError, match=r"a learning rate that ends at 0\.01: .* let the learning rate fall to near 0"
    ):
        fit(300, LrProfile(torch.full((50_000,), RATE), MOMENTUM, THRESHOLD), CIFAR)


def test_a_rate_that_is_zero_when_masks_are_complete_is_refused():
    lrs = torch.cat([torch.full((3_000,), RATE), torch.zeros(7_000)])
    with pytest.raises(ValueError, match="no pace lets rows die"):
        fit(300, LrProfile(lrs, MOMENTUM, THRESHOLD), CIFAR)


def test_a_rate_as_a_function_gives_what_its_values_give():
    for num_steps in (3_000, 374_880):  # the longer one is sampled
        lrs = cosine(num_steps)
        function = LrProfile.of(lambda step, lrs=lrs: float(lrs[step]), num_steps, MOMENTUM, THRESHOLD)
        values = LrProfile(lrs, MOMENTUM, THRESHOLD)
        assert fit(540, function, CIFAR) == fit(540, values, CIFAR)
        assert function.num_steps == num_steps
        assert function.reach(num_steps // 4) == pytest.approx(values.reach(num_steps // 4), rel=1e-3)


def test_the_longest_published_run_is_judged_in_a_moment():
    lrs = cosine(900_720)
    begin = time.perf_counter()
    fit(3242, LrProfile(lrs, MOMENTUM, THRESHOLD), IMAGENET)
    assert time.perf_counter() - begin < 2  # 0.05 s on an idle core; a loop over the steps takes longer


def test_a_pace_can_be_pasted_on_the_command_line():
    assert MaskingPace(1e-3, 781, 23, 4).overrides(steps_per_epoch=781) == (
        "gradient_reset.lasso_strength=0.001 gradient_reset.callbacks.masks.start=1 "
        "gradient_reset.callbacks.masks.interval=23 gradient_reset.callbacks.masks.granularity=4"
    )
    assert "own.callbacks.masks.start=0.25 " in MaskingPace(1e-3, 25, 23, 4).overrides(100, phase="own")
