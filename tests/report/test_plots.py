import matplotlib
import numpy as np
import pytest
from matplotlib.colors import to_rgb

from pruning_lit.report import GroupRecord, figure_to_image, save, scores_figure, widths_figure
from pruning_lit.report.plots import BEFORE, KEPT, PROTECTED, REMOVED


def groups(num):
    reasons = [None, None, "leaves the network"]
    return [GroupRecord(f"layer{i}.conv", 64, 64 if i % 3 == 2 else 1 + i, reasons[i % 3]) for i in range(num)]


def num_pixels(image, colour):
    return int((image == np.round(255 * np.array(to_rgb(colour)))).all(axis=-1).sum())


def test_sixty_layers_have_room_in_the_picture(tmp_path):
    figure = widths_figure(groups(60))
    save(figure, tmp_path / "new" / "widths.png")
    image = matplotlib.image.imread(tmp_path / "new" / "widths.png")
    assert image.shape[:2] == (1320, 800)  # 1.2 + 60 * 0.2 inches at 100 dots per inch
    labels = [label.get_text() for label in figure.axes[0].get_yticklabels()]
    assert labels == [f"layer{i}.conv" for i in range(60)]
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["widths.png"]


def test_bars_are_as_long_as_the_layers_are_wide():
    figure = widths_figure(groups(6))
    before, after = figure.axes[0].containers
    assert [bar.get_width() for bar in before] == [64] * 6
    assert [bar.get_width() for bar in after] == [1, 2, 64, 4, 5, 64]
    image = figure_to_image(figure)
    assert all(num_pixels(image, colour) > 50 for colour in (KEPT, BEFORE, PROTECTED))


def test_an_image_is_rgb_in_bytes():
    image = figure_to_image(widths_figure(groups(2)))
    assert image.shape == (160, 800, 3)
    assert image.dtype == np.uint8
    assert image.flags.owndata


@pytest.mark.parametrize("num", [1, 16, 2048])
def test_kept_and_removed_scores_have_their_colours(num):
    scores = np.random.default_rng(0).random(num)
    image = figure_to_image(scores_figure("conv", scores, kept=range(num // 2)))
    assert (num_pixels(image, KEPT) > 500) == (num > 1)
    assert num_pixels(image, REMOVED) > 500


def test_scores_fall_from_left_to_right_and_those_not_finite_are_left_out():
    figure = scores_figure("conv", [0.5, float("inf"), -1.0, 3.0, float("nan")], kept=[1, 3])
    heights = [
        segment[1, 1] for lines in figure.axes[0].collections for segment in lines.get_segments() if len(segment)
    ]
    assert [height for height in heights if np.isfinite(height)] == [3.0, 0.5, -1.0]


def test_nothing_to_draw_is_refused():
    with pytest.raises(ValueError, match="at least one group"):
        widths_figure([])
    with pytest.raises(ValueError, match="'conv'"):
        scores_figure("conv", [], [])
