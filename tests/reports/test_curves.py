"""Picture of the training: epochs of all phases in a row, in the unit of the metric."""

import pytest

from pruning_lit.records.primary import Primary
from pruning_lit.reports.curves import curves_figure

LINES = [
    ["train", "0", "3", "train/accuracy", "0.5"],
    ["train", "0", "3", "train/loss", "2.0"],
    ["train", "1", "6", "train/accuracy", "0.75"],
    ["train", "1", "6", "train/loss", "1.0"],
    ["train", "1", "6", "val/accuracy", "0.7"],
    ["finetune", "0", "3", "train/accuracy", "0.6"],
    ["finetune", "0", "3", "train/loss", "1.5"],
]


def drawn(axes) -> dict[str, tuple[list[float], list[float]]]:
    lines = {line.get_label(): line for line in axes.lines}
    return {name: ([*map(float, line.get_xdata())], [*map(float, line.get_ydata())]) for name, line in lines.items()}


def test_epochs_of_a_phase_follow_those_of_the_one_before():
    loss, accuracy = curves_figure(LINES, Primary("accuracy")).axes
    assert drawn(loss)["training"] == ([1, 2, 3], [2.0, 1.0, 1.5])
    assert drawn(accuracy)["training"] == ([1, 2, 3], pytest.approx([50, 75, 60]))
    assert drawn(accuracy)["validation"] == ([2], [70])
    assert accuracy.get_ylabel() == "accuracy, %"
    assert [text.get_text() for text in loss.texts] == ["train", "finetune"]
    assert 2.5 in [line.get_xdata()[0] for line in loss.lines]


def test_what_was_not_logged_is_not_drawn():
    assert curves_figure([], Primary("accuracy")) is None
    assert len(curves_figure([line for line in LINES if "loss" in line[3]], Primary("accuracy")).axes) == 1
