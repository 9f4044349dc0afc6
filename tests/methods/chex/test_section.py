import json
from dataclasses import replace
from typing import get_args

import pytest

from pruning_lit.methods.chex.regrowth import Init
from pruning_lit.methods.chex.section import ExplorationSection
from pruning_lit.reports import Report, markdown, write_report
from pruning_lit.reports.plots import KEPT, REMOVED, figure_to_image, save
from tests.reports.cut import cut
from tests.reports.test_plots import num_pixels
from tests.reports.test_record import example

HEADING = "## What was explored"


def stage(at, widths, macs, share=0.0, kept=0, grown=0, pruned=0, survived=None):
    counts = {"num_kept": kept, "num_grown": grown, "num_pruned": pruned}
    widths = dict(zip(("conv1", "conv2"), widths, strict=True))
    return {"at": at, "share": share, **counts, "survived": survived, "macs": macs, "widths": widths}


# 24 channels, half of which are to go; 18 are active, 17, 15, and in the end 12
BY_HAND = {
    "unit": "epochs",
    "sparsity": 0.5,
    "dense_macs": 2000,
    "stages": [
        stage(0, (6, 12), 1200, share=0.25, kept=18),
        stage(2, (5, 12), 1100, share=0.2, kept=12, grown=5, pruned=3),  # 2 others have woken
        stage(4, (7, 8), 1000, share=0.1, kept=12, grown=3, pruned=3, survived=0.4),  # 2 of 5; 1 has woken
        stage(6, (4, 8), 800, kept=12, pruned=3, survived=2 / 3),  # 2 of 3
    ],
    "sizes": {"conv1": 8, "conv2": 16},
    "spent": {"macs": 3300, "dense_macs": 6000},
    "share_of_training": None,
}


def found(**changes):
    """The exploration that a cut tells of."""
    (exploration,) = ExplorationSection.of([cut(exploration=BY_HAND | changes)]).explorations
    return exploration


def exploration_figure(exploration):
    return ExplorationSection([exploration]).figure()


def section(**changes):
    text = markdown(example(), [ExplorationSection([found(**changes)])])
    return text.partition(HEADING)[2].partition("\n## ")[0]


def transcript(num_groups, num_stages, every=2):
    """Of groups with 64 channels, 32 of which are active at first, and one less from stage to stage until 16 are."""
    names = [f"layer{number}.conv" for number in range(num_groups)]
    widths = [max(16, 32 - number) for number in range(num_stages + 1)]
    stages = [
        BY_HAND["stages"][1] | {"at": every * number, "widths": dict.fromkeys(names, width), "macs": width * num_groups}
        for number, width in enumerate(widths)
    ]
    return found(dense_macs=64 * num_groups, stages=stages, sizes=dict.fromkeys(names, 64))


def shown(figure):
    """The heat map's edges of the columns, its shares by group and column, and the panels of MACs and of counts."""
    heat, macs, counts, *_ = figure.axes
    (mesh,) = heat.collections
    edges = mesh.get_coordinates()
    return edges[0, :, 0].tolist(), mesh.get_array().reshape(edges.shape[0] - 1, -1), macs, counts


def test_only_cuts_that_end_an_exploration_tell_of_it():
    cuts = [cut(), cut(exploration=None), cut(exploration=BY_HAND | {"something_new": 1})]
    assert ExplorationSection.of(cuts) == ExplorationSection([found()])
    assert ExplorationSection.of(cuts[:2]) is ExplorationSection.of([]) is None


def test_a_cut_that_does_not_know_the_end_of_the_training_is_told_all_the_same():
    known = {key: value for key, value in BY_HAND.items() if key != "share_of_training"}
    assert ExplorationSection.of([cut(exploration=known)]) == ExplorationSection([found()])


def test_who_has_woken_is_who_is_active_beyond_those_that_stayed():
    assert found().woken == [0, 2, 1, 0]


def test_survival_is_weighed_by_how_many_came_back():
    assert found().survival == pytest.approx(4 / 8)  # 2 of 5 and 2 of 3
    assert found(stages=[BY_HAND["stages"][0], BY_HAND["stages"][3] | {"survived": None}]).survival is None


def test_a_cell_has_the_share_of_the_channels_that_are_active():
    edges, shares, *_ = shown(exploration_figure(found()))
    assert edges == [0, 2, 4, 6, 8]  # the final network lasts as long as the one before
    assert shares.tolist() == [[6 / 8, 5 / 8, 7 / 8, 4 / 8], [12 / 16, 12 / 16, 8 / 16, 8 / 16]]


def test_groups_stand_in_the_order_of_the_network_with_what_is_left():
    heat = exploration_figure(found()).axes[0]
    assert [label.get_text() for label in heat.get_yticklabels()] == ["conv1", "conv2"]
    assert heat.get_ylim() == (1.5, -0.5)  # the first one above
    (left,) = heat.child_axes
    assert [label.get_text() for label in left.get_yticklabels()] == ["4 of 8", "8 of 16"]


def test_the_curve_is_the_share_of_the_macs_and_ends_at_the_final_one():
    _, _, macs, _ = shown(exploration_figure(found()))
    (curve,) = [line for line in macs.lines if len(line.get_xdata()) == 5]
    assert curve.get_drawstyle() == "steps-post"
    assert curve.get_ydata().tolist() == [0.6, 0.55, 0.5, 0.4, 0.4]
    assert 0.4 in [line.get_ydata()[0] for line in macs.lines if line.get_linestyle() == "--"]
    assert "in the end: 40.0 %" in [text.get_text() for text in macs.get_legend().get_texts()]


def test_who_comes_back_goes_up_and_who_falls_dormant_down():
    *_, counts = shown(exploration_figure(found()))
    values = {patch.get_label(): patch.get_data() for patch in counts.patches}
    assert values["come back"].values.tolist() == [0, 5, 3, 0]
    assert values["of these, dormant before"].values.tolist() == [0, 2, 1, 0]
    assert values["fall dormant"].values.tolist() == [0, -3, -3, -3]
    assert all(each.edges.tolist() == [0, 2, 4, 6, 8] for each in values.values())
    assert counts.yaxis.get_major_formatter()(-3, 0) == "3"


@pytest.mark.parametrize(("unit", "label"), [("epochs", "epochs"), ("steps", "optimizer steps")])
def test_all_panels_have_one_axis_in_the_unit_of_the_stages(unit, label):
    figure = exploration_figure(found(unit=unit))
    heat, macs, counts, *_ = figure.axes
    assert heat.get_xlim() == macs.get_xlim() == counts.get_xlim() == (0, 8)
    assert counts.get_xlabel() == label


@pytest.mark.slow
def test_sixty_groups_and_the_stages_of_a_whole_imagenet_run_have_room(tmp_path):
    figure = exploration_figure(transcript(60, 90))  # published for ResNet-50: 90 stages, 36 groups
    save(figure, tmp_path / "exploration.png")
    edges, shares, *_ = shown(figure)
    assert shares.shape == (60, 91)
    assert edges[-1] == 182
    assert figure.get_figwidth() <= 10
    assert figure.get_figheight() < 16
    assert (tmp_path / "exploration.png").stat().st_size < 1_000_000


@pytest.mark.at_once(1)
@pytest.mark.parametrize(("groups", "stages"), [(1, 1), (3, 40)])
def test_short_runs_of_small_networks_are_drawn(groups, stages):
    figure = exploration_figure(transcript(groups, stages))
    image = figure_to_image(figure)
    assert shown(figure)[1].shape == (groups, stages + 1)
    assert num_pixels(image, KEPT) > 50
    assert num_pixels(image, REMOVED) > 50


def test_without_groups_there_is_no_picture():
    assert exploration_figure(replace(found(), sizes={})) is None


def test_the_numbers_are_in_the_json_and_are_read_from_it():
    report = example(sections={"exploration": ExplorationSection([found()]).data()})
    assert json.loads(report.to_json())["sections"]["exploration"] == [
        {
            "unit": "epochs",
            "execution": None,
            "regrow_init": None,
            "sparsity": 0.5,
            "target_macs": None,
            "dense_macs": 2000,
            "short": [],
            "num_stages": 3,
            "first_stage": 2,
            "last_stage": 6,
            "first_macs": 1200,
            "final_macs": 800,
            "num_grown": 8,
            "num_woken": 3,
            "num_pruned": 9,
            "survival": pytest.approx(0.5),
            "groups": [
                {"group": "conv1", "size": 8, "first": 6, "widest": 7, "narrowest": 4, "final": 4},
                {"group": "conv2", "size": 16, "first": 12, "widest": 12, "narrowest": 8, "final": 8},
            ],
            "share_to_last_stage": 0.55,
            "share_of_training": None,
        }
    ]
    assert Report.from_json(report.to_json()) == report


def test_a_report_of_an_earlier_version_keeps_its_numbers():
    data = json.loads(example().to_json())
    del data["sections"]
    told = [{"unit": "epochs", "stages": 3}]
    assert Report.from_json(json.dumps(data | {"explored": told})) == example(sections={"exploration": told})
    assert Report.from_json(json.dumps(data)) == example()
    assert HEADING not in markdown(example())


def test_the_section_has_the_numbers_of_the_record():
    text = section()
    for expected in [
        "3 stages, the first at the start of epoch 2, the last at the start of epoch 6. Of 24 channels 18 were there "
        "at the start and 12 are left: 50.0 % went, 50.0 % were to go.",
        "8 times a channel came back, in 3 of these from dormancy; 9 times one fell dormant. Of those that came back, "
        "50.0 % were kept at the next stage.",
        "1,200 (60.0 % of the dense network's) at the start, 800 (40.0 % of the dense network's) in the end.",
        "Up to the last stage the training took 55.0 % of the MACs of a dense one",
        "since then every step takes 40.0 %.",
    ]:
        assert expected in text


def test_the_share_of_the_whole_training_is_told_where_it_is_known():
    text = section(share_of_training=0.512)
    assert "The training took 51.2 % of the MACs of a dense one" in text
    assert "Up to the last stage" not in text


def test_an_exploration_without_steps_before_its_end_says_nothing_of_its_training():
    assert "training took" not in section(spent={"macs": 0, "dense_macs": 0})


def test_a_target_of_macs_is_told_in_place_of_a_share_of_the_channels():
    assert "50.0 % went, as many as it took to be left with at most 900 MACs." in section(
        sparsity=None, target_macs=900
    )


@pytest.mark.parametrize("execution", ["narrow", "mask"])
@pytest.mark.parametrize("init", get_args(Init))
def test_how_it_was_done_is_told_for_every_setting(execution, init):
    told = section(execution=execution, regrow_init=init)
    assert f"(execution={execution}); channels came back " in told
    assert f"(regrow_init={init})." in told


def test_groups_in_which_leverage_says_nothing_are_named():
    assert "In 1 of 2 groups there are more filters than weights in each" in section(short=["conv1"])
    assert "evenly once as many filters stayed as each has weights: `conv1`." in section(short=["conv1"])
    assert "weights in each" not in section()


def test_stages_at_steps_are_told_in_steps():
    stages = [each | {"at": 1000 * each["at"]} for each in BY_HAND["stages"]]
    text = section(unit="steps", stages=stages)
    assert "the first after 2,000 optimizer steps, the last after 6,000 optimizer steps" in text
    one = section(stages=[stages[0], stages[3] | {"survived": None}])
    assert "One stage, at the start of epoch 6000." in one
    assert "Nothing came back; channels fell dormant 3 times." in one


def test_the_table_has_the_widths_of_every_group():
    assert section().strip().splitlines()[-4:] == [
        "| channels of | in all | at the start | widest | narrowest | in the end | left |",
        "| --- | ---: | ---: | ---: | ---: | ---: | ---: |",
        "| `conv1` | 8 | 6 | 7 | 4 | 4 | 50 % |",
        "| `conv2` | 16 | 12 | 12 | 8 | 8 | 50 % |",
    ]


def test_several_explorations_are_told_one_by_one():
    text = ExplorationSection([found(), found(unit="steps")]).markdown(None)
    first, second = text.split("Exploration 1 of 2:")[1].split("Exploration 2 of 2:")
    assert "epoch 2" in first
    assert "2 optimizer steps" in second


def test_the_picture_is_shown_when_there_is_one(tmp_path):
    sections = [ExplorationSection([found()])]
    (tmp_path / "exploration.png").touch()
    write_report(example(), tmp_path)
    assert "exploration.png" not in (tmp_path / "report.md").read_text()  # of an earlier run
    write_report(example(), tmp_path, sections)
    text = (tmp_path / "report.md").read_text().partition(HEADING)[2].partition("\n## ")[0]
    assert "(exploration.png)" in text
    (tmp_path / "exploration.png").unlink()
    write_report(example(), tmp_path, sections)
    assert ".png" not in (tmp_path / "report.md").read_text()
