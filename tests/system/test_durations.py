"""Durations in words."""

import pytest

from pruning_lit.system.durations import in_words


@pytest.mark.parametrize(
    ("seconds", "told"),
    [
        (0.04, "0.0 s"),
        (3.14, "3.1 s"),
        (9.94, "9.9 s"),
        (9.96, "10 s"),
        (53.4, "53 s"),
        (119.4, "119 s"),
        (119.6, "2 min"),
        (719, "12 min"),
        (7169, "119 min"),
        (7171, "2 h 0 min"),
        (12_000, "3 h 20 min"),
        (360_000, "100 h 0 min"),
    ],
)
def test_a_duration_has_two_or_three_digits(seconds, told):
    assert in_words(seconds) == told
