"""What holds whatever the budget: floors, multiples, rates of single groups, and how wrong settings are refused."""

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from omegaconf import OmegaConf

from pruning_lit.sparsity import DenseCost, Global, Layerwise, Limits, Macs, Uniform
from tests.sparsity.networks import noise, plain, traced

FIRST = 0  # the group that a plain network's first layer makes


def fit(size: int, width: int, **limits) -> int:
    graph = plain(size, 4)
    return Limits(**limits).fit(graph.groups[FIRST], DenseCost.of(graph), width)


def widths(sparsity, graph) -> dict[str, int]:
    return sparsity.plan(graph, noise(graph)).widths


@pytest.mark.slow
@settings(max_examples=300, deadline=None, derandomize=True)
@given(
    size=st.integers(1, 40),
    asked=st.floats(0, 1),
    multiple=st.integers(1, 16),
    least=st.integers(1, 10),
    percent=st.integers(0, 99),
)
def test_a_width_is_the_smallest_multiple_within_the_limits_or_the_whole_group(size, asked, multiple, least, percent):
    width = int(asked * size)
    wanted = min(size, max(width, least, math.ceil(size * percent / 100)))
    allowed = [each for each in range(wanted, size + 1) if each % multiple == 0] or [size]
    assert fit(size, width, min_channels=least, min_share=f"{percent / 100}", round_to=multiple) == allowed[0]


@pytest.mark.parametrize(
    ("size", "width", "expected"),
    [
        (64, 33, 40),  # up, not to the nearest
        (64, 40, 40),
        (64, 0, 8),  # never below one multiple
        (20, 13, 16),
        (20, 17, 20),  # 24 is more than there are
        (20, 16, 16),
        (6, 1, 6),  # less than one multiple from the beginning
    ],
)
def test_widths_in_multiples_of_eight(size, width, expected):
    assert fit(size, width, round_to=8) == expected


def test_a_share_of_the_dense_width_is_exact_and_rounded_up():
    assert fit(100, 0, min_share=0.29) == 29  # floating point makes 28.999999999999996 of it
    assert fit(10, 0, min_share=0.11) == 2
    assert fit(10, 0, min_channels=3, min_share=0.11) == 3


def test_the_share_that_stays_is_one_of_the_dense_width_in_every_cut():
    dense = DenseCost.of(plain(20, 20))
    between = plain(12, 12)
    assert Limits(min_share=0.5).fit(between.groups[FIRST], dense, 0) == 10


def test_an_override_replaces_the_rate_of_the_groups_it_names():
    graph = plain(20, 20, 20)
    assert widths(Uniform(0.5, overrides={"1": 0.2}), graph) == {"0": 10, "1": 16, "2": 10}
    assert widths(Layerwise([0.5, 0.1], overrides={"0": "0.3"}), graph) == {"0": 14, "1": 18}


def test_of_several_overrides_the_last_that_matches_counts():
    graph = traced("resnet_8")
    chosen = widths(Uniform(0.5, overrides={"layer*": 0, "layer2.*": 0.25, "layer2.0.conv1": 0.75}), graph)
    assert [chosen[name] for name in ("conv1", "layer1.0.conv1", "layer2.0.conv2", "layer2.0.conv1")] == [8, 16, 24, 8]


def test_an_override_gives_a_layer_a_rate_that_has_none_in_the_list():
    graph = traced("vgg_16_bn")
    sparsity = Layerwise("[0.]*12", overrides={"features.conv13": 0.5})
    sparsity.check(graph)
    assert widths(sparsity, graph) == {"features.conv13": 256}


def test_an_override_of_zero_leaves_a_layer_of_the_list_whole():
    sparsity = Layerwise([0.5, 0.5], overrides={"1": 0})
    assert widths(sparsity, plain(8, 6, 4)) == {"0": 4}


def test_the_limits_hold_for_overridden_groups_as_well():
    graph = plain(20, 20, 20)
    assert widths(Uniform(0, min_share=0.3, overrides={"0": 0.9, "1": 0.5}, round_to=4), graph) == {
        "0": 8,
        "1": 12,
        "2": 20,
    }


@pytest.mark.parametrize("make", [Uniform, Global, Macs])
def test_what_is_excluded_stays_whole_even_if_an_override_names_it(make):
    chosen = widths(make(0.5, exclude=["1"], overrides={"*": 0.25}), plain(8, 8, 8))
    assert chosen == {"0": 6, "2": 6}
    assert widths(Layerwise([0.5, 0.5], exclude=["1"]), plain(8, 8, 8)) == {"0": 4}


def test_names_that_are_numbers_may_be_written_as_numbers():
    assert Limits(overrides=OmegaConf.create({0: 0.5})).overrides == Limits(overrides={"0": "0.5"}).overrides


@pytest.mark.parametrize(
    ("limits", "told"),
    [
        ({"min_channels": 0}, r"sparsity.min_channels must be a whole number of at least 1, got 0"),
        ({"round_to": 0}, r"sparsity.round_to must be a whole number of at least 1, got 0"),
        ({"round_to": 8.0}, r"sparsity.round_to must be a whole number of at least 1, got 8.0"),
        ({"round_to": True}, r"sparsity.round_to must be .*, got True"),
        ({"min_share": 1}, r"sparsity.min_share 1 lies outside \[0, 1\): it is the share .* that stays"),
        ({"min_share": "a lot"}, r"sparsity.min_share 'a lot' is not a number"),
        ({"exclude": "layer1.*"}, r"sparsity.exclude must be a list of patterns .*, got 'layer1\.\*'"),
        ({"overrides": 0.5}, r"sparsity.overrides must map patterns to rates .*, got 0.5"),
        ({"overrides": {"conv1": 1}}, r"sparsity.overrides: the rate of 'conv1', 1 lies outside \[0, 1\)"),
        ({"overrides": {"conv1": None}}, r"sparsity.overrides: the rate of 'conv1', None is not a number"),
    ],
)
def test_a_limit_out_of_range_is_refused_by_name(limits, told):
    with pytest.raises(ValueError, match=told):
        Uniform(0.5, **limits)


def test_an_unknown_limit_is_refused_by_name():
    with pytest.raises(TypeError, match="round_two"):
        Uniform(0.5, round_two=8)


SPARSITIES = [Uniform, Global, Macs, lambda rate, **limits: Layerwise([rate] * 6, **limits)]


@pytest.mark.parametrize("make", SPARSITIES)
@pytest.mark.parametrize(
    ("limits", "told"),
    [
        ({"exclude": ["layer9.*"]}, r"sparsity.exclude: no group is called 'layer9\.\*'.*'conv1', 'layer1.0.conv1'"),
        ({"overrides": {"layer9.*": 0.1}}, r"sparsity.overrides: no group is called 'layer9\.\*'.*'conv1'"),
        ({"overrides": {"linear": 0.1}}, r"what 'linear' matches has to stay whole: \{'linear': 'it leaves the model"),
        (
            {"overrides": {"conv1": 0.1}, "exclude": ["conv?"]},
            r"what 'conv1' matches has to stay whole.*'excluded by sparsity.exclude'",
        ),
    ],
)
def test_a_pattern_that_can_have_no_effect_is_refused_before_any_training(make, limits, told):
    with pytest.raises(ValueError, match=told):
        make(0.3, **limits).check(traced("resnet_8"))


def test_limits_that_leave_everything_whole_are_refused():
    with pytest.raises(ValueError, match=r"nothing can be pruned with min_channels=1, round_to=128: .*'conv1': 16"):
        Uniform(0.5, round_to=128).check(traced("resnet_8"))


def test_why_a_group_stays_whole_is_its_protection_or_its_exclusion():
    graph = traced("resnet_8")
    limits = Limits(exclude=["layer1.*", "linear"])
    assert limits.why_whole(graph["layer1.0.conv1"]) == "excluded by sparsity.exclude"
    assert limits.why_whole(graph["linear"]) == graph["linear"].protected
    assert limits.why_whole(graph["conv1"]) is None


def test_where_all_is_excluded_the_reasons_are_told():
    with pytest.raises(ValueError, match=r"nothing can be pruned: conv1, .* others: excluded by sparsity.exclude;"):
        Uniform(0.5, exclude=["*"]).check(traced("resnet_8"))
