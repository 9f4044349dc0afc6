"""Learning rates: the published ones of CHIP, ResRep and CHEX, milestones, warm-up."""

import json
import math
from functools import partial
from itertools import pairwise

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pruning_lit.phases import Constant, Cosine, Exponential, MultiStep, ParameterGroups, Schedule
from tests.places import VECTORS

GOLDEN = VECTORS
TABLES = json.loads((GOLDEN / "chip" / "tables.json").read_text())
RUNS = TABLES["lr_schedule"]
RESREP = json.loads((GOLDEN / "resrep" / "schedule.json").read_text())  # by the formulas of ResRep's release
ALL = [Constant, Cosine, MultiStep, Exponential]

every_schedule = pytest.mark.parametrize("make", ALL, ids=lambda make: make.__name__)


def run_name(run: dict) -> str:
    return f"{run['epochs']} epochs of {run['steps_per_epoch']} steps"


@pytest.mark.parametrize("run", RUNS, ids=run_name)
def test_the_cosine_with_warm_up_gives_the_published_rates(run):
    schedule, num_steps = Cosine(warmup_epochs=5), run["steps_per_epoch"]
    for point in run["points"]:
        factor = schedule.factor(point["epoch"] * num_steps + point["step"], num_steps, run["epochs"])
        assert run["base_lr"] * factor == pytest.approx(point["lr"], rel=1e-12), point


@every_schedule
def test_an_optimizer_takes_every_step_at_the_rate_of_that_step(make):
    schedule, num_epochs, num_steps = make(warmup_epochs=2), 6, 3
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.4)
    scheduler = schedule.attach(optimizer, num_steps, num_epochs)
    rates = []
    for _ in range(num_epochs * num_steps):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    assert rates == [0.4 * schedule.factor(step, num_steps, num_epochs) for step in range(num_epochs * num_steps)]


@every_schedule
def test_a_restored_scheduler_goes_on_where_it_was(make):
    def begin():
        optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.4)
        return optimizer, make(warmup_epochs=1).attach(optimizer, 2, 4)

    (optimizer, scheduler), (other_optimizer, other) = begin(), begin()
    for _ in range(3):
        optimizer.step()
        scheduler.step()
    other_optimizer.load_state_dict(optimizer.state_dict())
    other.load_state_dict(scheduler.state_dict())
    for one in (optimizer, scheduler, other_optimizer, other):
        one.step()
    assert scheduler.get_last_lr() == other.get_last_lr()
    assert optimizer.param_groups[0]["lr"] == other_optimizer.param_groups[0]["lr"]


@every_schedule
def test_warm_up_rises_in_equal_shares_of_the_epochs_rate(make):
    warm, cold, num_steps, num_epochs = make(warmup_epochs=3), make(), 7, 20
    for step in range(3 * num_steps):
        base = warm.base(step // num_steps, num_epochs)
        assert warm.factor(step, num_steps, num_epochs) == pytest.approx(base * (step + 1) / (3 * num_steps))
    if make is not Cosine:  # whose length depends on the warm-up
        rest = range(3 * num_steps, num_epochs * num_steps)
        assert [warm.factor(s, num_steps, num_epochs) for s in rest] == [
            cold.factor(s, num_steps, num_epochs) for s in rest
        ]


@every_schedule
def test_the_last_step_of_the_warm_up_is_at_the_full_rate_of_its_epoch(make):
    schedule = make(warmup_epochs=2)
    assert schedule.factor(2 * 5 - 1, 5, 30) == pytest.approx(schedule.base(1, 30))


@every_schedule
def test_without_warm_up_the_first_step_is_at_the_base_rate(make):
    assert make().factor(0, 10, 20) == 1.0


@every_schedule
def test_a_rate_holds_for_a_whole_epoch(make):
    schedule = make(warmup_epochs=1)
    for epoch in range(1, 12):
        assert len({schedule.factor(epoch * 9 + step, 9, 12) for step in range(9)}) == 1


@every_schedule
def test_a_negative_warm_up_is_refused(make):
    with pytest.raises(ValueError, match="warmup_epochs must not be negative, got -1"):
        make(warmup_epochs=-1)


def test_the_cosine_falls_from_one_and_ends_above_zero():
    factors = [Cosine().base(epoch, 40) for epoch in range(40)]
    assert factors == sorted(factors, reverse=True)
    assert factors[20] == pytest.approx(0.5)
    assert factors[-1] == pytest.approx((1 - math.cos(math.pi / 40)) / 2)


@pytest.mark.parametrize(
    ("num_epochs", "milestones", "epochs"),
    [
        (160, [0.5, 0.75], [80, 120]),
        (10, [0.5, 0.75], [5, 7]),  # 7.5: the epoch in which it lies
        (99, [0.5, 0.75], [49, 74]),  # where Network Slimming's release never lowers the rate
        (100, [0.55], [55]),  # 0.55 * 100 is above 55 in floating point
        (100, [0.07, 0.14, 0.28, 0.56, 0.57, 0.58], [7, 14, 28, 56, 57, 58]),
        (3, [], []),
    ],
)
def test_milestones_are_shares_of_the_phase(num_epochs, milestones, epochs):
    schedule = MultiStep(milestones, gamma=0.1)
    factors = [schedule.base(epoch, num_epochs) for epoch in range(num_epochs)]
    assert [epoch for epoch in range(1, num_epochs) if factors[epoch] < factors[epoch - 1]] == epochs
    assert factors[-1] == pytest.approx(0.1 ** len(epochs))


@settings(max_examples=200, deadline=None, derandomize=True)
@given(percent=st.integers(1, 99), num_epochs=st.integers(1, 1000))
def test_a_milestone_is_the_whole_epoch_in_which_its_share_lies(percent, num_epochs):
    schedule = MultiStep([percent / 100], gamma=0.5)
    first = max(1, percent * num_epochs // 100)  # the first epoch always has the full rate
    assert schedule.base(first, num_epochs) == 0.5
    assert schedule.base(first - 1, num_epochs) == 1.0


@pytest.mark.parametrize("milestones", [[0.0], [1.0], [0.5, 80], [-0.1]])
def test_milestones_that_are_no_shares_are_refused(milestones):
    with pytest.raises(ValueError, match=r"milestones are shares of the epochs, in \(0, 1\), or whole"):
        MultiStep(milestones)


def test_the_exponential_falls_by_its_factor_after_every_epoch():
    assert [Exponential(0.5).base(epoch, 99) for epoch in range(4)] == [1.0, 0.5, 0.25, 0.125]


def rates(schedule: Schedule, base: float, step: int, steps_per_epoch: int, epochs: int) -> list[float]:
    """Of weights and of biases, with ResRep's groups, at an optimizer step."""
    optimizer = ParameterGroups(bias_lr=2.0, decay_biases=False).make(
        partial(torch.optim.SGD, lr=base), torch.nn.Linear(1, 1)
    )
    scheduler = schedule.attach(optimizer, steps_per_epoch, epochs)
    scheduler.last_epoch = step - 1  # as if the steps before had been made
    optimizer.step()
    scheduler.step()
    return [group["lr"] for group in optimizer.param_groups]


@pytest.mark.parametrize("name", ["src56", "resnet50"])
def test_the_cosine_per_step_gives_the_published_rates_of_weights_and_biases(name):
    run = RESREP[name]
    assert run["total_iters"] == run["epochs"] * run["iters_per_epoch"]
    for step, expected in run["lr_at"].items():
        found = rates(Cosine(per="step"), 0.01, int(step), run["iters_per_epoch"], run["epochs"])
        assert found == pytest.approx(expected, rel=1e-12, abs=0), step


def test_the_milestones_of_the_dense_training_are_the_published_ones():
    run = RESREP["src56_base_training"]
    steps_per_epoch, epochs = run["iters_per_epoch"], 240
    assert run["total_iters"] == epochs * steps_per_epoch
    firsts = [0, *run["milestone_iters"]]
    lasts = [*(first - 1 for first in run["milestone_iters"]), run["total_iters"] - 1]
    for first, last, *expected in zip(firsts, lasts, run["lr"], run["bias_lr"], strict=True):
        for step in (first, last):
            found = rates(MultiStep([0.5, 0.75]), 0.1, step, steps_per_epoch, epochs)
            assert found == pytest.approx(expected, rel=1e-12), step


def test_the_cosine_per_step_falls_at_every_step_behind_the_warm_up_from_one_to_zero():
    schedule, num_steps, num_epochs = Cosine(warmup_epochs=2, per="step"), 5, 6
    factors = [schedule.factor(step, num_steps, num_epochs) for step in range(num_steps * num_epochs + 1)]
    assert factors[:10] == pytest.approx([(step + 1) / 10 for step in range(10)])  # the warm-up, to the full rate
    assert factors[10] == 1.0
    assert all(later < earlier for earlier, later in pairwise(factors[10:]))
    assert factors[20] == pytest.approx(0.5)  # halfway through the 20 steps left
    assert factors[-1] == 0.0  # behind the last step


def test_per_step_and_per_epoch_agree_at_the_start_of_every_epoch():
    for epoch in range(7):
        assert Cosine(per="step").factor(9 * epoch, 9, 7) == pytest.approx(Cosine().factor(9 * epoch, 9, 7))


def test_a_phase_of_nothing_but_warm_up_per_step_rises_to_the_full_rate():
    factors = [Cosine(warmup_epochs=2, per="step").factor(step, 4, 2) for step in range(8)]
    assert factors == pytest.approx([(step + 1) / 8 for step in range(8)])


def test_a_cosine_per_anything_else_is_refused():
    with pytest.raises(ValueError, match="a cosine falls per 'epoch' or per 'step', got 'batch'"):
        Cosine(per="batch")


def chex_rate(epoch: int) -> float:
    """By the formula of CHEX's release, for 250 epochs of ImageNet."""
    return 1.024 * (epoch + 1) / 8 if epoch < 8 else 1.024 * 0.5 * (1 + math.cos(math.pi * (epoch - 8) / 242))


def test_the_cosine_with_a_warm_up_per_epoch_gives_the_published_rates_of_all_epochs():
    schedule, num_steps = Cosine(warmup_epochs=8, warmup="epoch"), 1251
    for epoch in range(250):
        for step in (0, 625, 1250):
            factor = schedule.factor(epoch * num_steps + step, num_steps, 250)
            assert 1.024 * factor == pytest.approx(chex_rate(epoch), rel=1e-14), (epoch, step)


@every_schedule
def test_a_warm_up_per_epoch_rises_after_every_epoch_in_equal_shares_of_the_epochs_rate(make):
    warm, num_steps, num_epochs = make(warmup_epochs=3, warmup="epoch"), 7, 40
    for step in range(num_epochs * num_steps):
        epoch = step // num_steps
        expected = warm.base(epoch, num_epochs) * min(1, (epoch + 1) / 3)
        assert warm.factor(step, num_steps, num_epochs) == pytest.approx(expected)


@pytest.mark.parametrize("per", ["epoch", "step"])
def test_a_warm_up_per_epoch_ends_at_the_full_rate_of_a_cosine(per):
    schedule = Cosine(warmup_epochs=4, per=per, warmup="epoch")
    assert [schedule.factor(5 * epoch, 5, 100) for epoch in range(5)] == [0.25, 0.5, 0.75, 1.0, 1.0]
    assert schedule.factor(5 * 99 + 4, 5, 100) < 0.001


@every_schedule
def test_one_warm_up_or_the_other_without_epochs_for_it_are_alike(make):
    per_step, per_epoch = make(warmup="step"), make(warmup="epoch")
    assert all(per_step.factor(step, 3, 9) == per_epoch.factor(step, 3, 9) for step in range(27))


@every_schedule
def test_a_warm_up_per_anything_else_is_refused(make):
    with pytest.raises(ValueError, match="a warm-up rises per 'step' or per 'epoch', got 'batch'"):
        make(warmup="batch")


def test_mask_rcnn_rises_from_a_third_over_steps_and_falls_at_steps():
    case = json.loads((GOLDEN / "detection" / "networks.json").read_text())["maskrcnn_learning_rate"]
    schedule = MultiStep(case["milestones"], warmup_steps=case["warmup_iterations"], warmup_from=case["warmup_factor"])
    for iteration, rate in case["iteration_lr"]:
        assert case["base_lr"] * schedule.factor(iteration, 3665, 74) == pytest.approx(rate, rel=1e-12), iteration


def test_ssd_rises_over_300_steps_and_reaches_the_rate_of_which_its_release_stays_short():
    (case,) = json.loads((GOLDEN / "detection" / "ssd.json").read_text())["learning_rate"]
    per_epoch, epochs = case["iterations_per_epoch"], case["epochs"]
    schedule = MultiStep([0.66, 0.8293], warmup_steps=case["warmup"])
    for iteration, _, rate in case["iteration_epoch_lr"]:
        short = 1 if iteration < case["warmup"] else (case["warmup"] - 1) / case["warmup"]
        ours = case["base_lr"] * schedule.factor(iteration, per_epoch, epochs)
        assert short * ours == pytest.approx(rate, rel=1e-9), iteration


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ({"warmup_epochs": 2, "warmup_steps": 10}, "both say how long the warm-up is"),
        ({"warmup_steps": -1}, "warmup_steps must not be negative"),
        ({"warmup_steps": 5, "warmup_from": 1.5}, "0 to 1"),
        ({"milestones": [0.5, 100]}, "shares of the epochs, in"),
    ],
)
def test_a_warm_up_and_milestones_that_cannot_be_are_refused(arguments, sentence):
    with pytest.raises(ValueError, match=sentence):
        MultiStep(**arguments)


def test_a_phase_that_ends_before_its_warm_up_or_its_milestones_is_told():
    schedule = MultiStep([210_000, 250_000], warmup_steps=500)
    assert schedule.warnings(270_000) == []
    assert [each.split(":")[0] for each in schedule.warnings(400)] == [
        "it has 400 optimizer steps, and ends within the 500 of its warm-up",
        "it has 400 optimizer steps, and its rate is to fall at 210000, 250000",
    ]
    assert MultiStep([0.5]).warnings(1) == []


def test_milestones_end_at_the_lowest_factor():
    schedule = MultiStep([0.2, 0.4, 0.6], gamma=0.1, lowest=0.05)
    assert [schedule.base(epoch, 10) for epoch in (1, 2, 4, 9)] == pytest.approx([1, 0.1, 0.05, 0.05])
    in_steps = MultiStep([2, 4], gamma=0.1, lowest=0.05)
    assert [in_steps.base_at(step, 3, 10) for step in (1, 2, 4)] == pytest.approx([1, 0.1, 0.05])
    with pytest.raises(ValueError, match=r"schedule\.lowest is a factor on the rate, 0 to 1, got 2"):
        MultiStep([0.5], lowest=2)
