from itertools import chain

import numpy as np
import pytest
import torch

from pruning_lit.reports.plots import KEPT, REMOVED, figure_to_image
from pruning_lit.reports.scores import KEPT_BELOW, REMOVED_ABOVE, ScoresSection, ThresholdCut
from tests.reports.cut import cut
from tests.reports.test_plots import num_pixels

SCORES = {"a": [0.5, 0.001, 2.0], "b": [0.0, 0.002], "branch": [0.003, 3.0]}
FLOORED = ThresholdCut(
    scores={name: torch.tensor(scores, dtype=torch.float64) for name, scores in SCORES.items()},
    kept={"a": [0, 2], "b": [1], "branch": []},
    threshold=0.003,
)


def scores_figure(cuts):
    return ScoresSection(cuts).figure()


def chance(count: int) -> ThresholdCut:
    """As a threshold cuts them, without floors."""
    scores = torch.rand(count, dtype=torch.float64, generator=torch.Generator().manual_seed(0)) ** 4
    threshold = float(scores.sort().values[int(0.4 * count)])
    return ThresholdCut({"a": scores}, {"a": (scores > threshold).nonzero().flatten().tolist()}, threshold)


def drawn(axes) -> dict[str, list[tuple[float, float]]]:
    """What the legend says, and the points."""
    return {line.get_label(): list(zip(*line.get_data(), strict=True)) for line in axes.lines[:-1]}


def test_scores_of_all_groups_rise_and_the_legend_counts_what_became_of_them():
    (axes,) = scores_figure([FLOORED]).axes
    points = drawn(axes)
    assert {label: [rank for rank, _ in each] for label, each in points.items()} == {
        "removed: 3 of 7 (42.9 %)": [1, 2, 4],
        "removed, though above the threshold: 1 of 7 (14.3 %)": [7],
        "kept, though not above the threshold: 1 of 7 (14.3 %)": [3],
        "kept: 2 of 7 (28.6 %)": [5, 6],
    }
    assert [height for _, height in sorted(chain(*points.values()))] == pytest.approx(
        [3e-6, 0.001, 0.002, 0.003, 0.5, 2, 3]  # zero has no place on the axis: a millionth of the largest
    )
    assert axes.get_yscale() == "log"
    assert "smaller ones at 3e-06" in axes.get_ylabel()


def test_the_threshold_is_a_line_with_its_value():
    (axes,) = scores_figure([FLOORED]).axes
    assert list(axes.lines[-1].get_ydata()) == [0.003, 0.003]
    assert "threshold 0.003" in axes.texts[0].get_text()


@pytest.mark.at_once(1)
@pytest.mark.parametrize("count", [4, 1_000, 12_112])
def test_what_the_threshold_decides_has_two_colours(count):
    image = figure_to_image(scores_figure([chance(count)]))
    assert all(num_pixels(image, colour) >= 4 for colour in (KEPT, REMOVED))
    assert not any(num_pixels(image, colour) for colour in (KEPT_BELOW, REMOVED_ABOVE))


@pytest.mark.slow
def test_every_cut_has_its_panel():
    figure = scores_figure([chance(20), FLOORED, chance(10)])
    assert [axes.get_title() for axes in figure.axes] == ["cut 1 of 3", "cut 2 of 3", "cut 3 of 3"]
    assert figure_to_image(figure).shape[0] > 2 * figure_to_image(scores_figure([FLOORED])).shape[0]


def test_scores_that_hardly_differ_are_not_put_on_a_logarithmic_axis():
    (axes,) = scores_figure([ThresholdCut({"a": torch.tensor([0.49, 0.5])}, {"a": [1]}, 0.49)]).axes
    assert axes.get_yscale() == "linear"
    assert axes.get_ylabel() == "score"


def test_scores_that_are_all_zero_can_be_drawn():
    image = figure_to_image(scores_figure([ThresholdCut({"a": torch.zeros(3)}, {"a": [0]}, 0.0)]))
    assert image.dtype == np.uint8


def test_only_cuts_with_a_threshold_are_told():
    scores = {"a": torch.rand(4)}
    first, other = (cut({"a": [0]}, scores={"scores": scores, "threshold": each}) for each in (0.52, None))
    section = ScoresSection.of([first, other, cut()])
    assert [each.threshold for each in section.cuts] == section.data() == [0.52]
    assert len(section.figure().axes) == 1
    assert section.markdown(None).endswith("decided which channels went: 0.52.")
    assert "(scores.png)" in section.markdown("scores.png")
    assert ScoresSection.of([other]) is ScoresSection.of([]) is None
