import pytest

from pruning_lit.sweeps.labels import labels
from pruning_lit.sweeps.spread import Combination

KEY = {"arch": "vgg", "dataset": "digits", "method": "chip", "criterion": "", "sparsity": "macs_50"}


def named(*asked):
    """The labels of combinations, each given as its settings and what differs in its choices."""
    return [str(label) for label in labels(Combination(KEY | choices, settings, []) for settings, choices in asked)]


def test_a_choice_is_called_by_its_name():
    assert named(((), {"sparsity": "macs_30"}), ((), {})) == ["chip, macs_30", "chip, macs_50"]


@pytest.mark.parametrize("setting", ["reduction=0.3", "rate=0.3", "threshold=0.7", "rates=[0.]+[0.4]*2"])
def test_a_budget_takes_the_place_of_the_choice_it_overrides(setting):
    assert named(((f"sparsity.{setting}",), {})) == [f"chip, {setting}"]


def test_a_setting_that_is_no_budget_stands_beside_the_choice():
    assert named((("sparsity.round_to=8",), {})) == ["chip, macs_50, round_to=8"]


def test_two_budgets_of_the_same_size_are_told_apart_by_their_choices():
    budget = ("sparsity.reduction=0.3",)
    told = named((budget, {"sparsity": "macs"}), (budget, {"sparsity": "similarity_macs"}), ((), {}))
    assert told == ["chip, macs, reduction=0.3", "chip, similarity_macs, reduction=0.3", "chip, macs_50"]


def test_of_long_paths_the_end_is_told_unless_it_is_the_same():
    first, second = (f"weights=/a/folder/with/a/long/name/{name}" for name in ("1/a.pt", "2/b.pt"))
    assert named(((first,), {}), ((second,), {})) == ["chip, macs_50, weights=…/a.pt", "chip, macs_50, weights=…/b.pt"]
    second = second.replace("b.pt", "a.pt")
    assert named(((first,), {}), ((second,), {})) == [f"chip, macs_50, {first}", f"chip, macs_50, {second}"]


def test_the_line_of_a_combination_is_the_same_for_all_its_budgets():
    one, other = labels(
        Combination(KEY, (f"sparsity.reduction={share}", "finetune.epochs=3"), []) for share in (0.3, 0.5)
    )
    assert one.series == other.series == "chip, finetune.epochs=3"
