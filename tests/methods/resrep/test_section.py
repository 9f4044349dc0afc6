import json
from dataclasses import replace

import pytest
from matplotlib.colors import to_rgba

from pruning_lit.methods.resrep.section import CompactorSection, rows_table
from pruning_lit.reports import Report, markdown, write_report
from pruning_lit.reports.plots import KEPT, REMOVED, figure_to_image, save
from tests.reports.cut import cut
from tests.reports.test_plots import num_pixels
from tests.reports.test_record import example

HEADING = "## What was forgotten"
# 1 of the 3 masked rows of conv1 is alive, in conv2 an unmasked row is dead
ROWS = [
    {"group": "conv1", "layers": ["conv1"], "rows": 8, "masked": 3, "dead": 2, "masked_alive": 1, "unmasked_dead": 0,
     "kept": 6},
    {"group": "conv2", "layers": ["conv2"], "rows": 16, "masked": 5, "dead": 6, "masked_alive": 0, "unmasked_dead": 1,
     "kept": 10},
]  # fmt: skip
BY_HAND = {
    "target_macs": 1200.9,
    "dense_macs": 2000,
    "macs": 1250,
    "threshold": 1e-5,
    "history": {
        "steps": [100, 120, 150],
        "masked": [4, 8, 8],
        "macs_by_mask": [1600, 1200, 1190],
        "macs_by_norm": [2000, 1900, 1300],
        "rows": {"conv1": [6, 4, 5], "conv2": [14, 12, 11]},
    },
    "rows": ROWS,
    "below": {"1e-03": 11, "1e-04": 9, "1e-05": 8},
    "forced": False,
    "changed": 0,
    "pictures": 10_000,
    "error": 3.4e-7,
}


def found(**changes):
    """The compaction that a cut tells of."""
    (compaction,) = CompactorSection.of([cut(compaction=BY_HAND | changes)]).compactions
    return compaction


def compaction_figure(compaction):
    return CompactorSection([compaction]).figure()


def section(**changes):
    text = markdown(example(), [CompactorSection([found(**changes)])])
    return text.partition(HEADING)[2].partition("\n## ")[0]


def with_rows(*changes):
    return [row | change for row, change in zip(ROWS, changes, strict=True)]


def transcript(num_layers, num_updates, every=200):
    """Of layers with 64 rows, each of which loses one in every update until a half is left."""
    names = [f"layer{number}.conv" for number in range(num_layers)]
    left = [max(32, 63 - update) for update in range(num_updates)]
    macs, steps = [each * num_layers for each in left], [every * update for update in range(1, num_updates + 1)]
    history = {"steps": steps, "masked": [64 * num_layers - each for each in macs], "macs_by_mask": macs}
    history |= {"macs_by_norm": macs, "rows": dict.fromkeys(names, left)}
    rows = [{**ROWS[0], "group": name, "layers": [name], "rows": 64} for name in names]
    return found(dense_macs=64 * num_layers, target_macs=32.0 * num_layers, history=history, rows=rows)


def shown(figure):
    """The heat map's edges of the columns, its shares by layer and column, and the panel of the MACs."""
    heat, macs, *_ = figure.axes
    (mesh,) = heat.collections
    return (
        mesh.get_coordinates()[0, :, 0].tolist(),
        mesh.get_array().reshape(mesh.get_coordinates().shape[0] - 1, -1),
        macs,
    )


def test_only_cuts_that_folded_compactors_tell_of_them():
    cuts = [cut(), cut(compaction=None), cut(compaction=BY_HAND | {"something_new": 1})]
    assert CompactorSection.of(cuts) == CompactorSection([found()])
    assert CompactorSection.of(cuts[:2]) is CompactorSection.of([]) is None


def test_the_target_is_met_when_the_rows_that_are_not_masked_first_have_so_few_macs():
    assert found().met_at == 120
    assert found(target_macs=1200.0).met_at == 120
    assert found(target_macs=1190.0).met_at == 150
    assert found(target_macs=1189.9).met_at is None


def test_a_cell_has_the_share_of_the_rows_that_are_not_masked():
    edges, shares, _ = shown(compaction_figure(found()))
    assert edges == [0, 100, 120, 150, 180]  # the last update lasts as long as the one before
    assert shares.tolist() == [[1, 6 / 8, 4 / 8, 5 / 8], [1, 14 / 16, 12 / 16, 11 / 16]]


def test_layers_stand_in_the_order_of_the_network_with_what_stayed():
    heat = compaction_figure(found()).axes[0]
    assert [label.get_text() for label in heat.get_yticklabels()] == ["conv1", "conv2"]
    assert heat.get_ylim() == (1.5, -0.5)  # the first one above
    (stayed,) = heat.child_axes
    assert [label.get_text() for label in stayed.get_yticklabels()] == ["6 of 8", "10 of 16"]


def test_curves_are_the_macs_left_and_change_at_the_updates():
    _, _, macs = shown(compaction_figure(found()))
    curves = {line.get_color(): line for line in macs.lines if len(line.get_xdata()) == 5}
    assert {line.get_drawstyle() for line in curves.values()} == {"steps-post"}
    assert curves[REMOVED].get_ydata().tolist() == [1, 0.8, 0.6, 0.595, 0.595]
    assert curves[KEPT].get_ydata().tolist() == [1, 1, 0.95, 0.65, 0.65]
    assert all(list(line.get_xdata()) == [0, 100, 120, 150, 180] for line in curves.values())
    assert 1200.9 / 2000 in [line.get_ydata()[0] for line in macs.lines if line.get_linestyle() == "--"]
    assert "target: 60.0 %" in [text.get_text() for text in macs.get_legend().get_texts()]


def test_both_panels_have_one_axis_of_steps():
    heat, macs, *_ = (figure := compaction_figure(found())).axes
    assert heat.get_xlim() == macs.get_xlim() == (0, 180)
    figure_to_image(figure)
    assert heat.get_position().bounds[0] == pytest.approx(macs.get_position().bounds[0])
    assert heat.get_position().bounds[2] == pytest.approx(macs.get_position().bounds[2])


def test_colours_go_from_no_rows_to_all_of_them():
    (mesh,) = compaction_figure(found()).axes[0].collections
    assert mesh.get_clim() == (0, 1)
    lightness = [sum(mesh.cmap(share)[:3]) for share in (0.0, 0.25, 0.5, 0.75, 1.0)]
    assert lightness == sorted(lightness, reverse=True)
    assert to_rgba("white") != mesh.cmap(0.0)  # no rows left is not an empty place


@pytest.mark.slow
def test_sixty_layers_and_the_updates_of_a_whole_imagenet_run_have_room(tmp_path):
    figure = compaction_figure(transcript(60, 4400))  # published for ResNet-50: 4378 updates, 32 layers
    save(figure, tmp_path / "compaction.png")
    edges, shares, _ = shown(figure)
    assert shares.shape == (60, 4401)
    assert edges[-1] == 4401 * 200
    assert figure.get_figwidth() <= 10
    assert figure.get_figheight() < 15
    assert (tmp_path / "compaction.png").stat().st_size < 1_000_000


@pytest.mark.at_once(2)
@pytest.mark.parametrize(("layers", "updates"), [(1, 0), (1, 1), (2, 5), (3, 40)])
def test_short_runs_of_small_networks_are_drawn(layers, updates):
    figure = compaction_figure(transcript(layers, updates, every=3))
    image = figure_to_image(figure)
    edges, shares, _ = shown(figure)
    assert shares.shape == (layers, updates + 1)
    assert edges == [0, 1] if not updates else edges == [3 * number for number in range(updates + 2)]
    assert num_pixels(image, KEPT) > 50


def test_an_update_ahead_of_the_first_step_leaves_no_gap():
    history = BY_HAND["history"] | {"steps": [0, 10, 20]}
    edges, shares, _ = shown(compaction_figure(found(history=history)))
    assert edges == [0, 0, 10, 20, 30]
    assert shares[0].tolist()[1:] == [6 / 8, 4 / 8, 5 / 8]


def test_a_long_name_keeps_its_end():
    name = "features.denseblock3." + "denselayer12." * 3 + "conv1"
    rows = with_rows({"group": name}, {})
    history = BY_HAND["history"] | {"rows": {name: [6, 4, 5], "conv2": [14, 12, 11]}}
    label = compaction_figure(found(rows=rows, history=history)).axes[0].get_yticklabels()[0].get_text()
    assert label.startswith("…")
    assert name.endswith(label[1:])


def test_without_layers_there_is_no_picture():
    assert compaction_figure(replace(found(), rows=[])) is None


def test_the_numbers_are_in_the_json_and_are_read_from_it():
    report = example(sections={"compaction": CompactorSection([found()]).data()})
    assert json.loads(report.to_json())["sections"]["compaction"] == [
        {
            "target_macs": 1200.9,
            "dense_macs": 2000,
            "macs": 1250,
            "threshold": 1e-5,
            "updates": 3,
            "met_at": 120,
            "groups": ROWS,
            "below": {"1e-03": 11, "1e-04": 9, "1e-05": 8},
            "forced": False,
            "changed": 0,
            "pictures": 10_000,
            "error": 3.4e-7,
        }
    ]
    assert Report.from_json(report.to_json()) == report


def test_a_report_of_an_earlier_version_keeps_its_numbers():
    data = json.loads(example().to_json())
    del data["sections"]
    told = [{"target_macs": 1200.9, "groups": ROWS}]
    assert Report.from_json(json.dumps(data | {"compacted": told})) == example(sections={"compaction": told})
    assert Report.from_json(json.dumps(data)) == example()
    assert HEADING not in markdown(example())


def test_the_section_has_the_numbers_of_the_record():
    text = section()
    for expected in [
        "the conversion is exact",
        "Of 24 rows 8 were masked and 8 removed; 1 was masked but still alive, and kept; "
        "1 was dead without being masked. Dead means a norm below 1e-05.",
        "Norms of the rows: 11 below 1e-03, 9 below 1e-04, 8 below 1e-05.",
        "at most 1,200 MACs (60.0 % of the dense network's); the list met it after 120 optimizer steps.",
        "The pruned network has 1,250 (62.5 %).",
        "All 10,000 test images have the same predicted class before and after the conversion, so the metrics are "
        "the same to the last image. The outputs differ by at most 3e-07 of the largest.",
        "1 row could not be removed although masked",
        "train longer so that they die, or set `remove_masked`",
    ]:
        assert expected in text
    assert "not exact" not in text


def test_the_table_has_a_line_per_group_and_names_layers_only_where_they_differ():
    assert rows_table(ROWS).splitlines() == [
        "| channels of | rows | masked | dead | masked, alive | not masked, dead | stay |",
        "| --- | ---: | ---: | ---: | ---: | ---: | ---: |",
        "| `conv1` | 8 | 3 | 2 | 1 | 0 | 6 |",
        "| `conv2` | 16 | 5 | 6 | 0 | 1 | 10 |",
    ]
    assert rows_table(ROWS) in section()
    header, _, first, second = rows_table(with_rows({"layers": ["conv1", "add.conv"]}, {})).splitlines()
    assert header.startswith("| channels of | compactors behind | rows |")
    assert first.startswith("| `conv1` | `conv1`, `add.conv` | 8 |")
    assert second.startswith("| `conv2` | `conv2` | 16 |")


def test_where_all_masked_rows_died_there_is_no_advice():
    rows = with_rows({"dead": 3, "masked_alive": 0, "kept": 5}, {})
    text = section(rows=rows)
    assert "Of 24 rows 8 were masked and 9 removed; 0 were masked but still alive;" in text
    for never in ("remove_masked", "train longer", "had to stay"):
        assert never not in text


def test_pictures_of_another_class_are_counted():
    assert "1 of 10,000 test images has another predicted class" in section(changed=1)
    assert "12 of 10,000 test images have other predicted classes" in section(changed=12)
    assert "the same to the last image" not in section(changed=12)


def test_without_pictures_nothing_is_said_of_the_metrics():
    text = section(pictures=0)
    assert "picture" not in text
    assert "The outputs differ by at most 3e-07 of the largest." in text


def test_equal_outputs_are_called_so():
    assert "The outputs are the same to the last bit." in section(error=0.0)


def test_a_forced_conversion_is_not_called_exact():
    text = section(forced=True, changed=40, rows=with_rows({"kept": 5}, {}))
    assert "so the conversion was not exact" in text
    assert "the conversion is exact" not in text
    assert "1 was masked but still alive, and removed nevertheless" in text
    assert "40 of 10,000 test images have other predicted classes after the conversion than before. " in text
    assert "set `remove_masked`" not in text


def test_a_forced_conversion_that_found_nothing_alive_is_exact():
    rows = with_rows({"dead": 3, "masked_alive": 0, "kept": 5}, {})
    assert "the conversion is exact" in section(forced=True, rows=rows)


def test_a_target_that_was_not_met_is_told_with_what_to_do():
    text = section(target_macs=1000.0)
    assert "the list had not met it at the last of its 3 updates." in text
    assert "The list fell short of the target: train longer, or let it grow faster (`granularity`, `interval`)." in text
    none = {"steps": [], "masked": [], "macs_by_mask": [], "macs_by_norm": [], "rows": {"conv1": [], "conv2": []}}
    assert "training ended before the first row was put on the list." in section(history=none)


def test_rows_that_a_floor_kept_are_told():
    assert "2 rows had to stay, since widths have a floor" in section(rows=with_rows({"kept": 8}, {}))
    assert "1 row had to stay" in section(forced=True)  # of conv1, masked and alive
    assert "had to stay" not in section()


def test_several_conversions_are_told_one_by_one():
    last = found(dense_macs=1300, target_macs=650.0, macs=700)
    text = CompactorSection([found(), last]).markdown(None)
    first, second = text.split("Compactors 1 of 2:")[1].split("Compactors 2 of 2:")
    assert "1,200 MACs (60.0 %" in first
    assert "The pruned network has 1,250 (62.5 %)" in first
    assert "650 MACs (50.0 %" in second
    assert "The pruned network has 700 (53.8 %)" in second


def test_the_picture_is_shown_when_there_is_one(tmp_path):
    sections = [CompactorSection([found()])]
    (tmp_path / "compaction.png").touch()
    write_report(example(), tmp_path)
    assert "compaction.png" not in (tmp_path / "report.md").read_text()  # of an earlier run
    write_report(example(), tmp_path, sections)
    text = (tmp_path / "report.md").read_text().partition(HEADING)[2].partition("\n## ")[0]
    assert "(compaction.png)" in text
    (tmp_path / "compaction.png").unlink()
    write_report(example(), tmp_path, sections)
    assert ".png" not in (tmp_path / "report.md").read_text()
