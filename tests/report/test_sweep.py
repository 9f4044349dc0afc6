import csv
import json
import os
import subprocess
import sys
from pathlib import Path
from textwrap import dedent

import pytest

import pruning_lit
from pruning_lit.report import Figures, Report, collect, write_summary
from pruning_lit.report.pareto import pareto_figure
from pruning_lit.report.spread import Spread, combine, spread


def job(folder, seed, accuracy, *, macs=50, before=0.9, overrides=None, **choices):
    choices = {"arch": "vgg", "dataset": "digits", "method": "chip", "sparsity": "half", "criterion": "chip"} | choices
    figures = Figures(1000, 100, before, 4.0), Figures(600, macs, accuracy, 3.0)
    Report("e", seed, *figures, choices=choices).write(folder)
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


def test_differences_are_taken_seed_by_seed(tmp_path):
    job(tmp_path / "0", seed=0, before=0.8, accuracy=0.7)
    job(tmp_path / "1", seed=1, before=0.9, accuracy=0.8)
    (combination,) = combine(collect(tmp_path))
    assert combination.spread("accuracy_change") == Spread(pytest.approx(-0.1), pytest.approx(0, abs=1e-9), 2)


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


def test_jobs_without_a_readable_report_are_listed(tmp_path):
    job(tmp_path / "0", seed=1, accuracy=0.5)
    hydra(tmp_path / "1", 2, {"method": "chip"}, ["method=chip", "seed=2"])
    job(tmp_path / "2", seed=3, accuracy=0.5)
    (tmp_path / "2" / "report.json").write_text("{")
    rows = collect(tmp_path)
    assert [row["status"] for row in rows] == ["finished", "failed or unfinished", "damaged report.json"]
    assert (rows[1]["seed"], rows[1]["method"]) == (2, "chip")
    text = write_summary(tmp_path).read_text()
    assert "3 jobs, 1 of them finished" in text
    assert "- `1` (seed 2): failed or unfinished" in text


def test_jobs_that_differ_in_a_number_are_not_seeds_of_the_same(tmp_path):
    for number, rate in enumerate((0.1, 0.01)):
        job(tmp_path / str(number), 0, 0.5, overrides=["+method=chip", "seed=0", f"optimizer.lr={rate}", "epochs=3"])
    combinations = combine(collect(tmp_path))
    assert [each.key["settings"] for each in combinations] == ["optimizer.lr=0.1", "optimizer.lr=0.01"]


def test_the_criterion_is_named_where_it_tells_jobs_apart(tmp_path):
    job(tmp_path / "0", 0, 0.5, method="magnitude", criterion="l1")
    job(tmp_path / "1", 0, 0.5, method="magnitude", criterion="l2")
    job(tmp_path / "2", 0, 0.5, method="chip", criterion="channel_independence")
    assert [each.method for each in combine(collect(tmp_path))] == ["chip", "magnitude (l1)", "magnitude (l2)"]


def test_the_picture_has_a_line_per_method_and_a_panel_per_network(tmp_path):
    for number, (method, macs) in enumerate([("chip", 30), ("chip", 70), ("random", 50)]):
        job(tmp_path / str(number), 0, macs / 100, macs=macs, method=method, sparsity=f"macs_{macs}")
    job(tmp_path / "9", 0, 0.5, arch="resnet")
    figure = pareto_figure(combine(collect(tmp_path)))
    panels = {axes.get_title(): axes for axes in figure.axes}
    assert set(panels) == {"vgg on digits", "resnet on digits"}
    lines = {each.get_label(): each[0].get_xydata().tolist() for each in panels["vgg on digits"].containers}
    assert set(lines) == {"chip", "random"}
    assert lines["chip"] == [pytest.approx([30, 30]), pytest.approx([70, 70])]


def test_a_sweep_without_results_has_a_summary_without_a_picture(tmp_path):
    hydra(tmp_path / "0", 1, {}, [])
    assert "1 jobs, 0 of them finished" in write_summary(tmp_path).read_text()
    assert not (tmp_path / "pareto.png").exists()
    with pytest.raises(ValueError, match="got none"):
        pareto_figure([])


def test_a_missing_folder_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="nowhere"):
        collect([tmp_path, tmp_path / "nowhere"])


APPLICATION = """
    import hydra
    from hydra.core.hydra_config import HydraConfig
    from pruning_lit.report import Figures, Report

    @hydra.main(version_base=None, config_path=None, config_name="config")
    def main(config):
        if config.seed == 13:
            raise ValueError("bad luck")
        report = Report("e", config.seed, Figures(10, 10, 0.9), Figures(5, 5, 0.8), choices={"method": "chip"})
        report.write(HydraConfig.get().runtime.output_dir)

    if __name__ == "__main__":
        from hydra.core.config_store import ConfigStore
        callbacks = {"summary": {"_target_": "pruning_lit.report.SweepSummary"}}
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
