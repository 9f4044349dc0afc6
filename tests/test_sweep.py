"""A multirun over sparsities and seeds leaves a table with spreads."""

import csv

from tests.conftest import TINY, run_command


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


def test_a_job_that_fails_does_not_stop_the_others(tmp_path, cli):
    code, printed = cli(
        "-m", *TINY, "train.epochs=1", "finetune.epochs=1", "sparsity.reduction=0.999,0.5",
        f"hydra.sweep.dir={tmp_path / 'sweep'}",
    )  # fmt: skip
    assert code == 1
    assert "cannot be met" in printed
    with (tmp_path / "sweep/summary.csv").open() as file:
        assert [row["status"] == "finished" for row in csv.DictReader(file)] == [False, True]
