"""``sparsity=search`` and ``.sensitivity`` from the command line: two processes find what one finds, and both go on."""

import csv
import json
import signal
import subprocess
import sys

import pytest

from tests.commands import TINY, run_command, start
from tests.conftest import read_report
from tests.test_faults import wait_for

SEARCH = [word for word in TINY if not word.startswith("criterion.")]
SEARCH += ["method=magnitude", "sparsity=search", "sparsity.moves=4", "sparsity.num_examples=32", "phases=[finetune]"]
SEARCH += ["finetune.epochs=1", "finetune.schedule.warmup_epochs=0", "trainer.limit_train_batches=1"]


def widths(folder):
    return {group["name"]: group["kept"] for group in read_report(folder)["groups"]}


def lines(folder):
    return (folder / "trials.jsonl").read_text().splitlines()


@pytest.mark.slow
def test_a_search_goes_on_where_it_was_killed_and_two_processes_find_what_one_finds(tmp_path):
    one, again, two = (tmp_path / name for name in ("one", "again", "two"))
    run_command(*SEARCH, "dataset.batch_size=16", f"hydra.run.dir={one}")
    report = read_report(one)
    assert report["after"]["macs"] <= report["before"]["macs"] / 2
    assert "Widths were searched by" in (one / "report.md").read_text()
    again.mkdir()
    made = lines(one)
    (again / "trials.jsonl").write_text("\n".join(made[: len(made) // 2]) + '\n{"key": "12')
    run_command(*SEARCH, "dataset.batch_size=16", f"hydra.run.dir={again}")
    assert widths(again) == widths(one)
    assert len(lines(again)) <= len(made) + 1  # none is made again
    run_command(*SEARCH, "trainer=ddp_fork", "dataset.batch_size=8", f"hydra.run.dir={two}")
    assert widths(two) == widths(one)
    assert sorted(lines(two)) == sorted(made)


@pytest.mark.slow
@pytest.mark.parametrize("processes", [1, 2])
def test_a_search_that_is_asked_to_leave_does_so_after_a_trial_and_goes_on(tmp_path, processes):
    alone, left = tmp_path / "alone", tmp_path / "left"
    words = (
        [*SEARCH, "trainer=ddp_fork", "dataset.batch_size=8"] if processes == 2 else [*SEARCH, "dataset.batch_size=16"]
    )
    run_command(*words, f"hydra.run.dir={alone}")
    process = start(*words, f"hydra.run.dir={left}")
    wait_for(process, left / "trials.jsonl")
    process.send_signal(signal.SIGTERM)
    told, _ = process.communicate(timeout=60)
    assert process.returncode == 0
    assert told.count("stopped as asked; this goes on: python -m pruning_lit resume=") == 1
    assert "Traceback" not in told
    assert len(lines(left)) <= len(lines(alone)) / 2
    run_command(f"resume={left}")
    assert widths(left) == widths(alone)


@pytest.mark.slow
def test_the_sensitivity_of_every_group_is_told_and_goes_on(tmp_path):
    run_command(*TINY, "phases=[train]", "train.epochs=1", f"hydra.run.dir={tmp_path / 'run'}")
    words = [
        sys.executable,
        "-m",
        "pruning_lit.sensitivity",
        "arch=resnet8",
        "dataset.batch_size=16",
        "rates=[0.5,0.25]",
    ]
    words += ["dataset.batch_size=16"]
    words += [f"weights={tmp_path / 'run'}", "num_examples=48", "criterion=magnitude", "trainer=cpu", "stop_at=1"]
    folder = tmp_path / "looked"
    subprocess.run([*words, f"hydra.run.dir={folder}"], capture_output=True, text=True, check=True, timeout=300)
    with (folder / "sensitivity.csv").open() as file:
        rows = [*csv.DictReader(file)]
    found = json.loads((folder / "sensitivity.json").read_text())
    assert found["num_examples"] == 48
    assert [row["group"] for row in rows] == [point["group"] for point in found["points"]]
    by_group = {}
    for row in rows:
        by_group.setdefault(row["group"], []).append((int(row["width"]), float(row["accuracy"])))
    assert all([width for width, _ in points] == [points[0][0], 3 * points[0][0] // 4, points[0][0] // 2]
               for points in by_group.values())  # fmt: skip
    assert (folder / "sensitivity.png").stat().st_size > 1000
    before = (folder / "trials.jsonl").read_text()
    subprocess.run([*words, f"hydra.run.dir={folder}"], capture_output=True, text=True, check=True, timeout=300)
    assert (folder / "trials.jsonl").read_text() == before


def test_sensitivity_of_an_untrained_network_is_refused(tmp_path):
    words = [sys.executable, "-m", "pruning_lit.sensitivity", "arch=resnet8", f"hydra.run.dir={tmp_path}"]
    told = subprocess.run(words, capture_output=True, text=True, check=False, timeout=120)
    assert told.returncode == 1
    assert "weights=… is missing: the sensitivity of a network that was never trained says nothing" in told.stdout
