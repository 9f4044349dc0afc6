"""Columns narrow enough for the console, and wide enough for every word."""

import pytest

from pruning_lit.reports.console import column_widths

ROWS = [["name", "who writes it"], ["abcdefgh", "one two three"], ["x", "a-long-word b"]]


@pytest.mark.parametrize("total", range(19, 21))
def test_words_stay_whole_and_the_table_fits(total):
    first, second = column_widths(ROWS, total)
    assert first >= len("abcdefgh")
    assert second >= len("a-long-word")
    assert first + second <= total


@pytest.mark.parametrize("total", [22, 1000])
def test_what_fits_is_not_wrapped(total):
    widths = column_widths([*ROWS[:2], ["x", "a-long-word bc"]], total)
    assert widths == [None, None]


def test_words_that_cannot_be_fitted_in_are_left_to_the_table():
    assert column_widths(ROWS, 18) == [None, None]
