import matplotlib
import numpy as np
import pytest
from matplotlib.colors import to_rgb

from pruning_lit.reports import GroupRecord
from pruning_lit.reports.plots import BEFORE, KEPT, PROTECTED, figure_to_image, save, widths_figure


def groups(num):
    reasons = [None, None, "leaves the network"]
    return [GroupRecord(f"layer{i}.conv", 64, 64 if i % 3 == 2 else 1 + i, reasons[i % 3]) for i in range(num)]


def num_pixels(image, colour):
    return int((image == np.round(255 * np.array(to_rgb(colour)))).all(axis=-1).sum())


@pytest.mark.slow
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


def test_nothing_to_draw_is_refused():
    with pytest.raises(ValueError, match="at least one group"):
        widths_figure([])
