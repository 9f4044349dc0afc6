"""Where several output channels of a layer leave at once, limits and messages are still about output channels."""

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pruning_lit.sparsity import DenseCost, Global, Limits, Macs, Uniform
from tests.sparsity.networks import halves, noise

WIDTH, TIMES = 64, {"pair": 2, "tail": 3}
GRAPH = halves(WIDTH, 3)


def test_the_network_is_what_these_tests_take_it_for():
    assert {group.name: group.multiplicity for group in GRAPH.prunable} == TIMES
    assert {group.name: group.size for group in GRAPH.prunable} == {"pair": WIDTH // 2, "tail": 8}


@pytest.mark.slow
@settings(max_examples=200, deadline=None, derandomize=True)
@given(
    name=st.sampled_from(sorted(TIMES)),
    asked=st.floats(0, 1),
    multiple=st.integers(1, 16),
    least=st.integers(1, 20),
    percent=st.integers(0, 99),
)
def test_output_channels_are_the_smallest_multiple_within_the_limits_or_all(name, asked, multiple, least, percent):
    group, times = GRAPH[name], TIMES[name]
    size, width = group.size * times, int(asked * group.size)
    limits = Limits(min_channels=least, min_share=f"{percent / 100}", round_to=multiple)
    floor = min(size, max(width * times, least, math.ceil(size * percent / 100)))
    allowed = [each for each in range(0, size + 1, times) if each >= floor and each % multiple == 0] or [size]
    fitted = limits.fit(group, DenseCost.of(GRAPH), width)
    assert fitted * times == allowed[0]
    assert (limits.why_unrounded(group, DenseCost.of(GRAPH), width) is None) == (fitted * times % multiple == 0)


@pytest.mark.parametrize("make", [Uniform, Global, Macs, lambda rate, **each: Macs(rate, "global", **each)])
def test_plans_of_every_budget_hold_the_limits_in_output_channels(make):
    plan = make(0.5, round_to=8, min_channels=12).plan(GRAPH, noise(GRAPH))
    for name, width in plan.widths.items():
        assert width * TIMES[name] >= 12
        assert width * TIMES[name] % 8 == 0


def test_a_share_of_all_channels_counts_output_channels():
    plan = Global(0.5).plan(GRAPH, noise(GRAPH))
    total, stays = WIDTH + 24, sum(width * TIMES[name] for name, width in plan.widths.items())
    assert 0 <= total // 2 - stays < max(TIMES.values())


def test_an_unreachable_share_is_refused_in_output_channels():
    with pytest.raises(ValueError, match=r"of 88 channels at most 44 can go, a share of 0\.500"):
        Global(0.9, min_share=0.5).check(GRAPH)


def test_notes_are_about_output_channels():
    plan = Uniform(0.4, round_to=16).plan(GRAPH, noise(GRAPH))
    assert plan.widths == {"pair": 24, "tail": 8}  # 19 and 4 were asked for: 38 and 12 channels
    assert plan.notes == [
        "Whole, because it cannot be rounded up to a multiple of 16: `tail` (has 24 channels, of which at least 12 "
        "were to stay).",
        "Rounding up to multiples of 16 keeps 22 channel(s) more.",
    ]


def test_limits_that_leave_everything_whole_are_refused_in_output_channels():
    with pytest.raises(ValueError, match=r"the groups have \{'pair': 64, 'tail': 24\} channels"):
        Uniform(0.5, min_channels=64).check(GRAPH)
