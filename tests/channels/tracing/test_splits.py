"""What must leave together so that a model still takes its channels apart in the right places."""

import pytest
import torch

from pruning_lit.channels.tracing.identities import Identities
from pruning_lit.channels.tracing.splits import Split, Splits, likely_sides


def outcome(split: Split) -> tuple[list[list[int]], list[int]]:
    """The sets of positions tied together, and the frozen positions."""
    identities = Identities()
    length = len(identities.of("weight", 0, len(split.identities)))
    split.apply(identities)
    labels, reasons = identities.classes()
    together = [[i for i in range(length) if labels[i] == label] for label in dict.fromkeys(labels.tolist())]
    return together, [i for i in range(length) if int(labels[i]) in reasons]


@pytest.mark.parametrize(
    ("length", "at", "together"),
    [
        (6, {3}, [[0, 3], [1, 4], [2, 5]]),
        (6, {2, 4}, [[0, 2, 4], [1, 3, 5]]),
        (8, {2}, [[0, 2, 3, 4], [1, 5, 6, 7]]),  # a quarter and the rest
        (6, {0, 6}, [[0], [1], [2], [3], [4], [5]]),
    ],
)
def test_parts_are_taken_for_shares_first(length, at, together):
    assert outcome(Splits().chunk(torch.arange(length), at, "split")) == (together, [])


def test_cuts_of_one_run_add_up():
    splits = Splits()
    for start in (0, 2, 4, 6):
        split = splits.chunk(torch.arange(8), {start, start + 2}, "slice")
    assert outcome(split)[0] == [[0, 2, 4, 6], [1, 3, 5, 7]]
    assert len(splits.found) == 1


def test_then_numbers_are_taken_for_fixed_as_far_as_they_count():
    split = Splits().chunk(torch.arange(6), {4}, "slice")
    assert split.next_assumption()
    assert outcome(split) == ([[0], [1], [2], [3], [4], [5]], [0, 1, 2, 3])
    assert split.next_assumption()
    assert outcome(split)[1] == [0, 1, 2, 3, 4, 5]
    assert not split.next_assumption()


def test_parts_without_a_common_measure_are_fixed_numbers():
    assert outcome(Splits().chunk(torch.arange(5), {2}, "slice"))[1] == [0, 1]


def test_parts_whose_widths_are_numbers_of_the_module_have_each_its_own():
    split = Splits().chunk(torch.arange(5), {2}, "slice")
    split.ruled = True
    assert outcome(split) == ([[0], [1], [2], [3], [4]], [])


def test_one_side_of_a_grid_is_computed_from_the_width():
    split = Splits().reshape(torch.arange(6), (2, 3), "view")
    assert outcome(split) == ([[0, 3], [1, 4], [2, 5]], [])
    assert split.next_assumption()
    assert outcome(split) == ([[0, 1, 2], [3, 4, 5]], [])
    assert split.next_assumption()
    assert outcome(split)[1] == [0, 1, 2, 3, 4, 5]
    assert not split.next_assumption()


def test_the_longest_side_is_the_likeliest():
    assert likely_sides((3, 2, 16)) == (2, 0)
    assert likely_sides((4, 4)) == (1, 0)
    assert likely_sides((1, 8)) == (1,)
