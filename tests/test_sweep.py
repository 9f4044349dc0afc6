"""A multirun over sparsities and seeds leaves a table with spreads."""

import csv

import pytest
import torch
from safetensors.torch import load_file

from tests.commands import TINY, run_command
from tests.conftest import read_report


@pytest.mark.slow
def test_four_jobs_leave_a_summary_with_spreads_over_seeds(tmp_path):
    printed = run_command(
        "-m", *TINY, "train.epochs=1", "finetune.epochs=1", "sparsity=macs_30,macs_50", "seed=1,2",
        f"hydra.sweep.dir={tmp_path / 'sweep'}",
    )  # fmt: skip
    with (tmp_path / "sweep/summary.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [(row["sparsity"], row["seed"], row["status"]) for row in rows] == [
        (sparsity, seed, "finished") for sparsity in ("macs_30", "macs_50") for seed in "12"
    ]
    assert all(float(row["macs_reduction"]) >= float(row["sparsity"][-2:]) / 100 for row in rows)
    summary = (tmp_path / "sweep/summary.md").read_text()
    assert "macs_30 | 2 (1, 2)" in summary
    assert "summary" in printed
    assert printed.count("phase train: 1 epoch,") == 2  # once for each seed
    assert [f"phase train is not trained again: taken over from {job}" in printed for job in range(4)] == [
        True, True, False, False
    ]  # fmt: skip
    (phase, _) = read_report(tmp_path / "sweep/2")["phases"]
    assert (phase["name"], phase["taken_over_from"]) == ("train", "0")
    assert read_metrics(tmp_path / "sweep/2", "train") == read_metrics(tmp_path / "sweep/0", "train") != []


@pytest.mark.slow
def test_a_run_that_takes_a_phase_over_ends_like_one_that_trains_it(tmp_path):
    same = (*TINY, "train.epochs=1", "finetune.epochs=1", "finetune.schedule.warmup_epochs=0")
    taking = (*same, f"shared={tmp_path / 'kept'}")
    run_command(*taking, "sparsity=macs_30", f"hydra.run.dir={tmp_path / 'first'}")
    printed = run_command(*taking, f"hydra.run.dir={tmp_path / 'second'}")
    run_command(*same, f"hydra.run.dir={tmp_path / 'alone'}")
    assert "phase train is not trained again: taken over from first" in printed
    second, alone = (load_file(tmp_path / name / "pruned/model.safetensors") for name in ("second", "alone"))
    assert [name for name, tensor in alone.items() if not torch.equal(second[name], tensor)] == []
    assert (
        read_report(tmp_path / "second")["before"]["metrics"]["accuracy"]
        == read_report(tmp_path / "alone")["before"]["metrics"]["accuracy"]
    )


def read_metrics(folder, phase):
    with (folder / "metrics.csv").open(newline="") as file:
        return [row for row in csv.DictReader(file) if row["phase"] == phase]


@pytest.mark.slow
def test_a_job_that_fails_does_not_stop_the_others(tmp_path, cli):
    code, printed = cli(
        "-m", *TINY, "train.epochs=1", "finetune.epochs=1", "sparsity.reduction=0.999,0.5",
        f"hydra.sweep.dir={tmp_path / 'sweep'}",
    )  # fmt: skip
    assert code == 1
    assert "Traceback" not in printed
    assert printed.count("cannot be met") == 2  # when it fails, and below the tables that the sweep ends with
    assert printed.index("MACs removed, %") > printed.index("job 0 has failed, the others are run all the same")
    assert "1 of 2 jobs have failed" in printed
    with (tmp_path / "sweep/summary.csv").open() as file:
        assert [row["status"] == "finished" for row in csv.DictReader(file)] == [False, True]
