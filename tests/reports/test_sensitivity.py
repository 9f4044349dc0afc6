"""Table and picture of the sensitivity of groups."""

import pytest

from pruning_lit.records.primary import Primary
from pruning_lit.reports.sensitivity import sensitivity_figure, sensitivity_table
from pruning_lit.sparsity.sensitivity import Point, Sensitivity
from pruning_lit.sparsity.trials import Trial

PRIMARY = Primary("accuracy", "accuracy")
WHOLE = Trial(0.8, 1.0)


def losing(*metrics: float, loss: float = 1.0, size: int = 8) -> Sensitivity:
    """A group of 8 that is tried at 6, 4 and 2 channels."""
    points = [
        Point(width, Trial(metric, loss), loss - WHOLE.loss, 1 - metric / WHOLE.metric)
        for width, metric in zip((6, 4, 2), metrics, strict=False)
    ]
    return Sensitivity(size, points)


def test_the_table_begins_with_what_loses_most_of_the_metric_with_half_of_its_channels():
    found = {
        "little": losing(0.8, 0.7, 0.1, loss=9.0),  # its loss is the largest, and its metric, later
        "stopped": losing(0.3),  # was not tried further: with half of them it would lose nearly all
        "most": losing(0.5, 0.1),
        "equal": losing(0.8, 0.7, 0.7, loss=10.0),  # as much as the first, with a larger loss
    }
    table = sensitivity_table(found, WHOLE, PRIMARY)
    assert [*table.columns[0].cells] == ["stopped", "most", "equal", "little"]


@pytest.mark.parametrize("num_groups", [1, 4, 5, 7, 8])
def test_the_picture_has_a_panel_per_group_and_no_empty_one(num_groups):
    figure = sensitivity_figure({f"layer{n}": losing(0.7, 0.6) for n in range(num_groups)}, WHOLE, PRIMARY)
    shown = [axes for axes in figure.axes if axes.get_visible()]
    assert [axes.get_title() for axes in shown] == [f"layer{n} (8)" for n in range(num_groups)]
    ticked = [axes for axes in shown if axes.xaxis.get_tick_params()["labelbottom"]]
    assert ticked == shown[-4:]  # below which nothing stands
