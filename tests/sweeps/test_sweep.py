import csv
import json
import os
import subprocess
import sys
from itertools import pairwise
from pathlib import Path
from textwrap import dedent

import pytest

import pruning_lit
from pruning_lit.records.latency import Latency, Timing
from pruning_lit.reports import Figures, GroupRecord, Report, write_report
from pruning_lit.sweeps import collect, write_summary
from pruning_lit.sweeps.failure import forget_failure, note_failure
from pruning_lit.sweeps.pareto import COLOURS, pareto_figure
from pruning_lit.sweeps.side_by_side import comparable, side_by_side_figure
from pruning_lit.sweeps.spread import Spread, combine, spread
from pruning_lit.tasks import Primary

ACCURACY = Primary("accuracy")


def job(
    folder, seed, accuracy, *, macs=50, params=600, latency=3.0, before=0.9, widths=None, command="", overrides=None,
    primary=ACCURACY, measured=(), missed=(), **choices,
):  # fmt: skip
    choices = {"arch": "vgg", "dataset": "digits", "method": "chip", "sparsity": "half", "criterion": "chip"} | choices
    before, after = ({primary.name: value} for value in (before, accuracy))
    figures = Figures(1000, 100, before, 4.0), Figures(params, macs, after, latency)
    groups = [GroupRecord(name, *sizes) for name, sizes in (widths or {}).items()]
    known = {"primary": primary, "groups": groups, "command": command, "choices": choices}
    known |= {"latency": list(measured), "missed": list(missed)}
    report = Report("e", seed, *figures, **known)
    write_report(report, folder)
    if overrides is not None:
        hydra(folder, seed, choices, overrides)


def hydra(folder, seed, choices, overrides):
    (folder / ".hydra").mkdir(parents=True)
    (folder / ".hydra" / "overrides.yaml").write_text(json.dumps(overrides))  # JSON is YAML
    (folder / ".hydra" / "config.yaml").write_text(json.dumps({"seed": seed}))
    (folder / ".hydra" / "hydra.yaml").write_text(json.dumps({"hydra": {"runtime": {"choices": choices}}}))


def test_spread_is_mean_and_sample_deviation():
    # by hand: mean of 2, 4, 9 is 5; squares 9 + 1 + 16 = 26, over n - 1 = 2: 13
    assert spread([2, 4, 9]) == Spread(5.0, pytest.approx(13**0.5), 3)
    assert spread([2, None]) == Spread(2.0, None, 1)
    assert spread([None]) is None


def test_the_summary_shows_mean_and_deviation_over_seeds(tmp_path):
    for number, accuracy in enumerate((0.80, 0.82, 0.84)):  # mean 82, deviation 2
        job(tmp_path / str(number), seed=number, accuracy=accuracy, before=0.9)
    job(tmp_path / "3", seed=0, accuracy=0.7, method="random")
    text = write_summary(tmp_path).read_text()
    assert "## vgg on digits" in text
    assert (
        "| chip | half | 3 (0, 1, 2) | 90.00 ± 0.00 | 82.00 ± 2.00 | -8.00 ± 2.00 "
        "| 50.00 ± 0.00 | 40.00 ± 0.00 | 25.00 ± 0.00 |"
    ) in text
    assert "| random | half | 1 (0) | 90.00 | 70.00 | -20.00 | 50.00 | 40.00 | 25.00 |" in text
    assert (tmp_path / "pareto.png").stat().st_size > 5000


def test_a_seed_that_was_run_twice_is_one_sample(tmp_path):
    job(tmp_path / "0", seed=1, accuracy=0.8)
    job(tmp_path / "1", seed=1, accuracy=0.8)
    (once,) = combine(collect(tmp_path))
    assert once.spread("primary") == Spread(0.8, None, 1)
    job(tmp_path / "2", seed=2, accuracy=0.6)
    (combination,) = combine(collect(tmp_path))
    assert combination.spread("primary") == Spread(pytest.approx(0.7), pytest.approx(0.02**0.5), 2)


def test_differences_are_taken_seed_by_seed(tmp_path):
    job(tmp_path / "0", seed=0, before=0.8, accuracy=0.7)
    job(tmp_path / "1", seed=1, before=0.9, accuracy=0.8)
    (combination,) = combine(collect(tmp_path))
    assert combination.spread("primary_change") == Spread(pytest.approx(-0.1), pytest.approx(0, abs=1e-9), 2)


@pytest.mark.slow
def test_the_csv_has_one_line_per_job_in_the_order_of_their_numbers(tmp_path):
    for number in (10, 2, 0):
        job(tmp_path / str(number), seed=number, accuracy=0.5)
    write_summary(tmp_path)
    with (tmp_path / "summary.csv").open(newline="") as file:
        lines = list(csv.DictReader(file))
    assert [line["job"] for line in lines] == ["0", "2", "10"]
    assert lines[1]["accuracy"] == "0.5"
    assert lines[1]["macs_before"] == "100"
    assert lines[1]["status"] == "finished"


@pytest.mark.parametrize(("file", "text"), [("overrides.yaml", ""), ("hydra.yaml", "a: ["), ("config.yaml", "- {")])
def test_what_hydra_has_written_by_half_is_of_no_account(tmp_path, file, text):
    job(tmp_path / "0", seed=1, accuracy=0.5)
    hydra(tmp_path / "1", 2, {"method": "chip"}, ["method=chip", "seed=2"])
    (tmp_path / "1" / ".hydra" / file).write_text(text)
    assert [row["status"] for row in collect(tmp_path)] == ["finished", "unfinished"]


@pytest.mark.slow
def test_jobs_without_a_readable_report_are_listed(tmp_path):
    job(tmp_path / "0", seed=1, accuracy=0.5)
    hydra(tmp_path / "1", 2, {"method": "chip"}, ["method=chip", "seed=2"])
    job(tmp_path / "2", seed=3, accuracy=0.5)
    (tmp_path / "2" / "report.json").write_text("{")
    rows = collect(tmp_path)
    assert [row["status"] for row in rows] == ["finished", "unfinished", "damaged report.json"]
    assert (rows[1]["seed"], rows[1]["method"]) == (2, "chip")
    text = write_summary(tmp_path).read_text()
    assert "3 jobs, 1 of them finished" in text
    assert "- `1` (seed 2): chip: unfinished" in text


def test_a_failed_job_is_listed_with_its_sentence_until_it_ends_well(tmp_path):
    job(tmp_path / "0", 1, 0.5, overrides=["method=chip", "seed=1", "sparsity.rate=0.1"])
    hydra(tmp_path / "1", 2, {"method": "chip", "sparsity": "uniform"}, ["method=chip", "seed=2", "sparsity.rate=7"])
    note_failure(tmp_path / "1", "sparsity.rate is a share, got 7")
    text = write_summary(tmp_path).read_text()
    assert "- `1` (seed 2): chip, rate=7: failed: sparsity.rate is a share, got 7" in text
    with (tmp_path / "summary.csv").open(newline="") as file:
        assert [line["error"] for line in csv.DictReader(file)] == ["", "sparsity.rate is a share, got 7"]
    forget_failure(tmp_path / "1")
    assert collect(tmp_path)[1]["status"] == "unfinished"


@pytest.mark.slow
def test_a_finished_job_that_missed_its_budget_is_listed_with_the_reason(tmp_path):
    job(tmp_path / "0", 1, 0.5)
    job(tmp_path / "1", 2, 0.5, missed=["The budget is not met: too few."])
    text = write_summary(tmp_path).read_text()
    assert "2 jobs, 2 of them finished" in text
    assert "## Budgets that were not met\n\n- `1` (seed 2): chip, half: The budget is not met: too few.\n" in text
    assert "> **Warning.** The budget is not met: too few." in (tmp_path / "1" / "report.md").read_text()
    with (tmp_path / "summary.csv").open(newline="") as file:
        assert [line["error"] for line in csv.DictReader(file)] == ["", "The budget is not met: too few."]


def test_other_commands_leave_no_jobs(tmp_path):
    job(tmp_path / "0", 1, 0.5)
    (tmp_path / "inspected" / ".hydra").mkdir(parents=True)
    (tmp_path / "inspected" / ".hydra" / "hydra.yaml").write_text('{"hydra": {"job": {"config_name": "inspect"}}}')
    assert [row["job"] for row in collect(tmp_path)] == ["0"]


def test_jobs_of_several_folders_are_named_by_what_these_do_not_share(tmp_path):
    job(tmp_path / "a" / "0", 1, 0.5)
    job(tmp_path / "b", 1, 0.5)
    assert [row["job"] for row in collect([tmp_path / "a", tmp_path / "b", tmp_path / "a" / "0"])] == ["a/0", "b"]
    assert [row["job"] for row in collect(tmp_path / "b")] == ["b"]


def test_jobs_that_differ_in_a_number_are_not_seeds_of_the_same(tmp_path):
    for number, rate in enumerate((0.1, 0.01)):
        job(tmp_path / str(number), 0, 0.5, overrides=["+method=chip", "seed=0", f"optimizer.lr={rate}", "epochs=3"])
    combinations = combine(collect(tmp_path))
    assert [each.settings for each in combinations] == [("optimizer.lr=0.1",), ("optimizer.lr=0.01",)]


def test_settings_that_say_nothing_of_the_result_do_not_keep_jobs_apart(tmp_path):
    job(tmp_path / "0", 0, 0.5, overrides=["name=a", "callbacks=quiet", "epochs=3"])
    job(tmp_path / "1", 1, 0.5, overrides=["epochs=3", "name=b"])
    (combination,) = combine(collect(tmp_path))
    assert combination.seeds == [0, 1]
    assert "callbacks=quiet" in collect(tmp_path)[0]["settings"]  # the table of all jobs has them


def test_where_only_reports_were_kept_their_commands_tell_the_settings(tmp_path):
    for number, rate in enumerate((0.1, 0.2)):
        job(tmp_path / str(number), 0, 0.5, command=f"python -m pruning_lit method=chip seed=0 sparsity.rate={rate}")
    assert [each.settings for each in combine(collect(tmp_path))] == [("sparsity.rate=0.1",), ("sparsity.rate=0.2",)]


def test_jobs_of_a_sweep_whose_values_are_not_known_are_not_taken_for_seeds(tmp_path):
    for number in range(2):
        command = "python -m pruning_lit -m method=chip seed=1,2 sparsity.rate=0.1,0.2 'mean=[1,2]'"
        job(tmp_path / "a" / str(number), number, 0.5, command=command)
        job(tmp_path / "b" / str(number), number, 0.5, command=command.replace("0.1,0.2", "0.1"))
    found = [(each.settings, each.seeds) for each in combine(collect(tmp_path))]
    assert found == [(("job=a/0",), [0]), (("job=a/1",), [1]), (("sparsity.rate=0.1", "mean=[1,2]"), [0, 1])]


def test_the_criterion_is_named_where_it_tells_jobs_apart(tmp_path):
    job(tmp_path / "0", 0, 0.5, method="magnitude", criterion="l1")
    job(tmp_path / "1", 0, 0.5, method="magnitude", criterion="l2")
    job(tmp_path / "2", 0, 0.5, method="chip", criterion="channel_independence")
    assert [each.method for each in combine(collect(tmp_path))] == ["chip", "magnitude (l1)", "magnitude (l2)"]


def test_the_table_tells_sizes_latencies_and_the_dense_network(tmp_path):
    job(tmp_path / "0", 0, 0.5, macs=50, latency=2.0)
    job(tmp_path / "1", 1, 0.5, macs=52, latency=3.0)
    text = write_summary(tmp_path).read_text()
    assert "The dense network: accuracy 90.00 ± 0.00 %, 100 MACs, 1,000 parameters, latency 4.00 ms." in text
    # by hand: deviations of two values are their difference over the root of 2
    assert "| chip | half | 51.0 ± 1.4 | 600 | 2.50 ± 0.71 | 4.00 | - | - |" in text


@pytest.mark.slow
def test_tables_and_pictures_are_in_the_unit_of_the_metric_of_the_task(tmp_path):
    distance = Primary("chamfer_distance", higher_is_better=False, percent=False)
    for seed, value in enumerate((2.5, 3.5)):
        job(tmp_path / str(seed), seed, value, before=2.0, primary=distance)
    text = write_summary(tmp_path).read_text()
    assert "The dense network: chamfer distance 2 ± 0, 100 MACs" in text
    assert "| seeds | dense | pruned | change | MACs removed, % |" in text
    assert "| 2 (0, 1) | 2 ± 0 | 3 ± 0.71 | 1 ± 0.71 | 50.00 ± 0.00 |" in text
    row, *_ = list(csv.DictReader((tmp_path / "summary.csv").open()))
    assert (row["chamfer_distance_before"], row["chamfer_distance"], row["chamfer_distance_change"]) == (
        "2.0",
        "2.5",
        "0.5",
    )
    figure = pareto_figure(combine(collect(tmp_path)))
    assert figure.axes[0].get_ylabel() == "chamfer distance, lower is better"
    assert panels_of(figure)[0]["chip"] == [pytest.approx([50, 3])]


@pytest.mark.slow
def test_jobs_of_several_tasks_keep_their_metrics_apart(tmp_path):
    job(tmp_path / "0", 0, 0.5)
    job(tmp_path / "1", 0, 0.4, primary=Primary("mean_iou"), dataset="segmented")
    text = write_summary(tmp_path).read_text()
    assert "accuracy 90.00 %" in text
    assert "mean IoU 90.00 %" in text
    rows = list(csv.DictReader((tmp_path / "summary.csv").open()))
    assert [(row["metric"], row["primary"]) for row in rows] == [("accuracy", "0.5"), ("mean_iou", "0.4")]
    labels = [axes.get_ylabel() for axes in pareto_figure(combine(collect(tmp_path))).axes]
    assert sorted(filter(None, labels)) == ["accuracy, %", "mean IoU, %"]


@pytest.mark.slow
def test_a_latency_that_is_too_noisy_in_one_job_has_no_mean_over_the_others(tmp_path):
    for seed, upper in enumerate((3.5, 4.5)):  # against 3.9 at the least
        passes = Latency(1, 30, Timing(4.0, 3.9, 4.1), Timing(3.0, 2.9, upper), "one abacus", 2)
        job(tmp_path / str(seed), seed, 0.5, measured=[passes])
        job(tmp_path / f"{seed}_random", seed, 0.5, method="random")
    rows = {row["job"]: row["latency_reduction"] for row in collect(tmp_path)}
    assert rows == {"0": 0.25, "1": None, "0_random": 0.25, "1_random": 0.25}
    text = write_summary(tmp_path).read_text()
    assert "| chip | half | 2 (0, 1) | 90.00 ± 0.00 | 50.00 ± 0.00 | -40.00 ± 0.00 | 50.00 ± 0.00 | 40.00" in text
    assert text.count("| too noisy to tell |") == 1
    figure = pareto_figure(combine(collect(tmp_path)))
    assert set(panels_of(figure)[2]) == {"random"}
    assert [text.get_text() for text in figure.axes[2].texts] == ["1 of 2 too noisy to tell"]


def test_no_bar_reaches_where_no_value_can_be(tmp_path):
    for seed, (accuracy, latency) in enumerate([(0.01, 0.1), (0.02, 0.1), (0.3, 3.9)]):
        job(tmp_path / str(seed), seed, accuracy, latency=latency, before=1 - accuracy)
    for axes in pareto_figure(combine(collect(tmp_path))).axes:
        (container,) = axes.containers
        ends = [end for bars in container[2] for bar in bars.get_segments() for end in bar]
        assert len(ends) == 4
        assert min(min(end) for end in ends) >= 0
        (band,) = axes.patches
        assert band.get_y() + band.get_height() <= 100


def test_a_point_that_another_hides_has_a_ring(tmp_path):
    for number, (method, macs) in enumerate([("chip", 50), ("magnitude", 50), ("random", 50), ("random", 20)]):
        job(tmp_path / str(number), 0, 0.5, macs=macs, method=method, sparsity=f"macs_{macs}")
    axes = pareto_figure(combine(collect(tmp_path))).axes[0]
    rings = {line.get_markeredgecolor(): line for line in axes.lines if line.get_markerfacecolor() == "none"}
    assert list(rings) == list(COLOURS[:2])  # of CHIP and magnitude; random is on top
    assert all(ring.get_xydata().tolist() == [[50, 50]] for ring in rings.values())
    sizes = [ring.get_markersize() for ring in rings.values()]
    assert sizes[0] > sizes[1]


def panels_of(figure):
    """Points of every line, by panel (in reading order) and name."""
    return [
        {each.get_label(): each[0].get_xydata().tolist() for each in axes.containers}
        for axes in figure.axes
        if axes.get_xlabel()
    ]


def test_the_picture_has_a_line_per_method_and_a_row_of_panels_per_network(tmp_path):
    for number, (method, macs) in enumerate([("chip", 30), ("chip", 70), ("random", 50)]):
        job(
            tmp_path / str(number), 0, macs / 100, macs=macs, params=5 * macs, latency=macs / 25,
            method=method, sparsity=f"macs_{macs}",
        )  # fmt: skip
    job(tmp_path / "9", 0, 0.5, arch="resnet")
    figure = pareto_figure(combine(collect(tmp_path)))
    assert [axes.get_title(loc="left") for axes in figure.axes] == ["resnet on digits", "", "", "vgg on digits", "", ""]
    macs, params, latency = panels_of(figure)[3:]
    assert set(macs) == {"chip", "random"}
    # accuracy 70 % at 70 of 100 MACs, 350 of 1000 parameters, 2.8 of 4 ms
    assert macs["chip"] == [pytest.approx([70, 70]), pytest.approx([30, 30])]
    assert params["chip"] == [pytest.approx([35, 70]), pytest.approx([15, 30])]
    assert latency["chip"] == [pytest.approx([70, 70]), pytest.approx([30, 30])]


def test_a_cost_that_was_not_measured_is_said_in_its_panel(tmp_path):
    job(tmp_path / "0", 0, 0.5, latency=None)
    figure = pareto_figure(combine(collect(tmp_path)))
    texts = [[text.get_text() for text in axes.texts] for axes in figure.axes]
    assert texts == [[], [], ["not measured"]]


@pytest.mark.slow
@pytest.mark.parametrize("num_settings", [1, 2])
def test_lines_can_be_told_apart_and_all_names_are_inside_the_picture(tmp_path, num_settings):
    for number in range(7 * num_settings):
        job(
            tmp_path / str(number), 0, 0.5, method=f"a_rather_long_name_of_a_method_{number % 7}",
            overrides=[f"finetune.optimizer.lr={number // 7}"],
        )  # fmt: skip
    figure = pareto_figure(combine(collect(tmp_path)))
    figure.draw_without_rendering()
    styles = {
        (line.get_color(), line.get_linestyle(), line.get_marker())
        for line in (container[0] for container in figure.axes[0].containers)
    }
    assert len(styles) == 7 * num_settings
    assert len({colour for colour, *_ in styles}) == len(COLOURS)
    (legend,) = figure.legends
    box, panels = legend.get_window_extent(), [axes.get_window_extent() for axes in figure.axes]
    assert box.x0 >= 0
    assert box.x1 <= figure.bbox.x1
    assert all(box.y0 >= panel.y1 for panel in panels)
    assert all(panel.height > 200 for panel in panels)


@pytest.mark.slow
def test_widths_stand_side_by_side_as_means_over_seeds(tmp_path):
    for seed, kept in enumerate((2, 4)):
        job(tmp_path / f"0{seed}", seed, 0.5, widths={"conv1": (8, kept), "conv2": (16, 16)})
    job(tmp_path / "1", 0, 0.5, method="random", widths={"conv1": (8, 8), "conv2": (16, 4)})
    figure = side_by_side_figure(combine(collect(tmp_path)))
    axes = figure.axes[0]
    (mesh,) = axes.collections
    assert mesh.get_array().tolist() == [[0.375, 1.0], [1.0, 0.25]]
    assert [label.get_text() for label in axes.get_xticklabels()] == ["chip, half", "random, half"]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["conv1", "conv2"]
    assert [text.get_text() for text in axes.texts] == ["38", "100", "100", "25"]
    assert "![share of the channels that are left, by group](widths.png)" in write_summary(tmp_path).read_text()
    assert (tmp_path / "widths.png").stat().st_size > 5000


def test_networks_with_other_groups_do_not_stand_side_by_side(tmp_path):
    job(tmp_path / "0", 0, 0.5, widths={"conv1": (8, 4)})
    job(tmp_path / "1", 0, 0.5, method="random", widths={"conv1": (8, 4), "select": (8, 2)})
    job(tmp_path / "2", 0, 0.5, method="seeds", widths={"conv1": (8, 4)})
    job(tmp_path / "3", 1, 0.5, method="seeds", widths={"conv1": (9, 4)})  # no mean over these
    job(tmp_path / "4", 0, 0.5, method="unknown")
    panels = comparable(combine(collect(tmp_path))).values()
    assert [[str(label) for label, _ in panel] for panel in panels] == [["chip, half"], ["random, half"]]
    assert len(side_by_side_figure(combine(collect(tmp_path))).subfigs) == 2
    with pytest.raises(ValueError, match="got none"):
        side_by_side_figure([])


@pytest.mark.at_once(1)
@pytest.mark.parametrize("num", [3, 36])
def test_columns_are_readable_with_few_and_with_many_networks(tmp_path, num):
    for number in range(num):
        job(tmp_path / str(number), 0, 0.5, sparsity=f"budget_{number:02}", widths={f"l{i}": (8, 4) for i in range(20)})
    figure = side_by_side_figure(combine(collect(tmp_path)))
    figure.draw_without_rendering()
    labels = [label.get_window_extent() for label in figure.axes[0].get_xticklabels()]
    assert len(labels) == num
    assert all(left.x1 < right.x0 for left, right in pairwise(labels))
    assert all(label.y0 >= 0 for label in labels)


def test_a_sweep_without_results_has_a_summary_without_a_picture(tmp_path):
    hydra(tmp_path / "0", 1, {}, [])
    assert "1 job, 0 of them finished" in write_summary(tmp_path).read_text()
    assert not (tmp_path / "pareto.png").exists()
    with pytest.raises(ValueError, match="got none"):
        pareto_figure([])


def test_a_missing_folder_is_named(tmp_path):
    job(tmp_path / "0", 0, 0.5)
    with pytest.raises(FileNotFoundError, match="nowhere"):
        collect([tmp_path, tmp_path / "nowhere"])


def test_a_folder_without_runs_is_named(tmp_path):
    job(tmp_path / "0", 0, 0.5)
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match=r"no runs in '.*empty'"):
        collect([tmp_path, tmp_path / "empty"])


def test_a_run_keeps_its_own_pictures(tmp_path):
    job(tmp_path, 0, 0.5)
    with pytest.raises(ValueError, match="is the folder of a run, and keeps its own pictures"):
        write_summary(tmp_path)
    assert write_summary(tmp_path, tmp_path / "summary").is_file()


APPLICATION = """
    import hydra
    from hydra.core.hydra_config import HydraConfig
    from pruning_lit.records.latency import Latency, Timing
    from pruning_lit.reports import Figures, Report, write_report

    @hydra.main(version_base=None, config_path=None, config_name="config")
    def main(config):
        if config.seed == 13:
            raise ValueError("bad luck")
        figures = Figures(10, 10, {"accuracy": 0.9}), Figures(5, 5, {"accuracy": 0.8})
        report = Report("e", config.seed, *figures, choices={"method": "chip"})
        write_report(report, HydraConfig.get().runtime.output_dir)

    if __name__ == "__main__":
        from hydra.core.config_store import ConfigStore
        callbacks = {"summary": {"_target_": "pruning_lit.sweeps.SweepSummary"}}
        hydra_config = {"callbacks": callbacks, "sweep": {"dir": "sweep"}, "job": {"chdir": True}}
        ConfigStore.instance().store("config", {"seed": 0, "hydra": hydra_config})
        main()
"""


@pytest.mark.slow
@pytest.mark.parametrize(("seeds", "finished"), [("1,2", 2), ("1,13,3", 2)])
def test_a_multirun_leaves_a_summary_even_when_a_job_fails(tmp_path, seeds, finished):
    (tmp_path / "application.py").write_text(dedent(APPLICATION))
    command = [sys.executable, "application.py", "-m", f"seed={seeds}"]
    environment = os.environ | {"PYTHONPATH": str(Path(pruning_lit.__file__).parents[1])}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    text = (tmp_path / "sweep" / "summary.md").read_text()
    assert f"{seeds.count(',') + 1} jobs, {finished} of them finished" in text
    assert (tmp_path / "sweep" / "pareto.png").exists()
    assert "UserWarning" not in done.stderr  # Hydra turns errors of callbacks into warnings
    if "13" in seeds:
        assert done.returncode != 0
    else:
        assert done.returncode == 0, done.stderr
        assert "80.00" in done.stdout
        assert "summary.md" in done.stdout
