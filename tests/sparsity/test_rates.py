"""The papers' list notation, and widths without binary floating point."""

import json
from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pruning_lit.sparsity.rates import parse_rate, parse_rates, width_after
from tests.places import VECTORS

TABLES = json.loads((VECTORS / "chip" / "tables.json").read_text())


@pytest.mark.parametrize("case", TABLES["parse"], ids=lambda case: case["expr"])
def test_the_published_lists_are_read_as_published(case):
    rates = parse_rates(case["expr"])
    assert [float(rate) for rate in rates] == case["values"]
    assert rates == [Fraction(str(value)) for value in case["values"]]  # 0.15 is 3/20, not its nearest double


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("[0]", [0]),  # no decimal point
        ("[0]*2+[.5]", [0, 0, Fraction(1, 2)]),
        ("[0.]+[00.250]*1", [0, Fraction(1, 4)]),
        (" [ 0.1 ] * 2 + [0.2]* 1 ", [Fraction(1, 10), Fraction(1, 10), Fraction(1, 5)]),  # blanks anywhere
        ("[0.3] *2", [Fraction(3, 10)] * 2),  # the released parser drops this multiplier in silence
        ([0.1, "0.2", 0], [Fraction(1, 10), Fraction(1, 5), 0]),  # a list of its own
    ],
)
def test_decimals_and_blanks_may_be_written_freely(text, expected):
    assert parse_rates(text) == expected


@pytest.mark.parametrize(
    ("text", "term"),
    [
        ("", ""),
        ("0.5", "0.5"),
        ("[0.5", "[0.5"),
        ("[]", "[]"),
        ("[.]", "[.]"),
        ("[a]*2", "[a]*2"),
        ("[-0.1]", "[-0.1]"),
        ("[1e-1]", "[1e-1]"),
        ("[0.1,0.2]", "[0.1,0.2]"),
        ("[0.5]*", "[0.5]*"),
        ("[0.5]*1.5", "[0.5]*1.5"),
        ("[0.5]*-2", "[0.5]*-2"),
        ("[0.5]*2*3", "[0.5]*2*3"),
        ("[0.5][0.5]", "[0.5][0.5]"),
        ("[0.1]++[0.2]", ""),
        ("[0.1]+", ""),
    ],
)
def test_a_malformed_term_is_named(text, term):
    with pytest.raises(ValueError, match="cannot read the term") as refusal:
        parse_rates(text)
    assert f"cannot read the term {term!r}," in str(refusal.value)


def test_a_count_of_zero_is_refused():
    with pytest.raises(ValueError, match=r"the count in '\[0.5\]\*0' must be 1 to 10,000"):
        parse_rates("[0.1]+[0.5]*0")


@pytest.mark.parametrize("rates", ["[1]", "[1.0]*3", "[2.5]", [1], [-0.1], ["1"]])
def test_a_rate_outside_the_interval_is_refused(rates):
    with pytest.raises(ValueError, match=r"lies outside \[0, 1\)"):
        parse_rates(rates)


@pytest.mark.parametrize("rate", ["x", "", None, float("nan"), float("inf"), "1/0", True])
def test_what_is_not_a_number_is_refused_by_name(rate):
    with pytest.raises(ValueError, match=r"sparsity\.rate .* is not a number"):
        parse_rate(rate, "sparsity.rate")


@pytest.mark.parametrize(
    ("size", "rate", "width"),
    [(64, "0.21", 50), (32, "0.15", 27), (256, "0.1", 230), (128, "0.35", 83), (16, "0", 16)],
)
def test_widths_of_the_published_settings(size, rate, width):
    assert width_after(size, Fraction(rate)) == width


@pytest.mark.parametrize("size", [10, 20, 40, 80, 160, 320, 640, 1280])
@pytest.mark.parametrize("rate", ["0.8", "0.9"])
def test_whole_products_are_not_one_short(size, rate):
    assert width_after(size, parse_rate(rate)) == size * (10 - int(rate[-1])) // 10
    assert int(size * (1 - float(rate))) == width_after(size, parse_rate(rate)) - 1  # what floating point would give


@pytest.mark.parametrize("size", [240, 480, 960])
def test_whole_products_at_0_55_are_not_one_short(size):
    assert width_after(size, parse_rate("0.55")) == size * 45 // 100


def test_a_hundred_channels_lose_as_many_as_there_are_per_cent():
    assert [width_after(100, parse_rate(f"0.{percent:02}")) for percent in range(100)] == list(range(100, 0, -1))


@settings(max_examples=200, deadline=None, derandomize=True)
@given(size=st.integers(1, 4096), thousandths=st.integers(0, 999))
def test_a_width_is_the_exact_product_rounded_down(size, thousandths):
    width = width_after(size, parse_rate(f"{thousandths / 1000:.3f}"))
    assert width == size * (1000 - thousandths) // 1000
