"""A phase that several runs have in common is trained by one and taken over, whole, by the others."""

import json
import multiprocessing
import os
import signal
import time

import pytest
import torch

from pruning_lit.records.metrics_table import lines_of, replace_lines
from pruning_lit.runs.shared_phases import SharedPhase

SETTINGS = {"seed": 1, "train": {"epochs": 2}}
TRAINED = [["train", "0", "3", "val/accuracy", "0.5"], ["train", "1", "6", "val/accuracy", "0.7"]]


def trained(run, with_best=True):
    """A run's folder with a finished phase in it."""
    phase = run / "phases" / "1-train"
    phase.mkdir(parents=True)
    torch.save({"weight": torch.arange(5.0)}, phase / "last.ckpt")
    if with_best:
        torch.save({"weight": torch.arange(6.0)}, phase / "best.ckpt")
    (phase / "finished.json").write_text(json.dumps({"epochs": 2}))
    replace_lines(run / "metrics.csv", "train", TRAINED)
    return phase


def test_what_one_run_has_finished_the_next_one_has(tmp_path):
    shared = SharedPhase(tmp_path / "shared", "train", SETTINGS)
    phase = trained(tmp_path / "0")
    shared.publish(phase, tmp_path / "0" / "metrics.csv", tmp_path / "0")
    other, metrics = tmp_path / "1" / "phases" / "1-train", tmp_path / "1" / "metrics.csv"
    assert shared.take_over(other, metrics)
    for name in ("last.ckpt", "best.ckpt"):
        assert (other / name).read_bytes() == (phase / name).read_bytes()
    assert lines_of(metrics, "train") == TRAINED
    assert json.loads((other / "finished.json").read_text()) == {"epochs": 2, "run": "0"}


def test_nothing_is_taken_over_that_nobody_has_finished(tmp_path):
    shared = SharedPhase(tmp_path / "shared", "train", SETTINGS)
    assert not shared.take_over(tmp_path / "1" / "phases" / "1-train", tmp_path / "1" / "metrics.csv")
    assert not (tmp_path / "1").exists()


def test_what_is_damaged_is_not_taken_over_but_trained_again(tmp_path, caplog):
    shared = SharedPhase(tmp_path / "shared", "train", SETTINGS)
    phase = trained(tmp_path / "0")
    shared.publish(phase, tmp_path / "0" / "metrics.csv", tmp_path / "0")
    whole = (phase / "last.ckpt").read_bytes()
    (phase / "last.ckpt").write_bytes(whole.replace(torch.arange(5.0).numpy().tobytes(), bytes(20)))  # of both names
    other, metrics = tmp_path / "1" / "phases" / "1-train", tmp_path / "1" / "metrics.csv"
    assert not shared.take_over(other, metrics)
    assert "; the phase is trained again" in caplog.text
    again = trained(tmp_path / "2")
    shared.publish(again, tmp_path / "2" / "metrics.csv", tmp_path / "2")
    assert shared.take_over(other, metrics)
    assert (other / "last.ckpt").read_bytes() == whole


def test_a_shared_phase_whose_last_checkpoint_was_deleted_is_replaced(tmp_path):
    shared = SharedPhase(tmp_path / "shared", "train", SETTINGS)
    shared.publish(trained(tmp_path / "0"), tmp_path / "0" / "metrics.csv", tmp_path / "0")
    (shared.place / "last.ckpt").unlink()
    other, metrics = tmp_path / "1" / "phases" / "1-train", tmp_path / "1" / "metrics.csv"
    assert not shared.take_over(other, metrics)
    shared.publish(trained(tmp_path / "2"), tmp_path / "2" / "metrics.csv", tmp_path / "2")
    assert shared.take_over(other, metrics)


@pytest.mark.parametrize("changed", [{"seed": 2}, {"train": {"epochs": 3}}, {"arch": "resnet20"}])
def test_a_phase_of_other_settings_is_another_phase(tmp_path, changed):
    phase = trained(tmp_path / "0")
    SharedPhase(tmp_path / "shared", "train", SETTINGS).publish(phase, tmp_path / "0/metrics.csv", tmp_path / "0")
    other = SharedPhase(tmp_path / "shared", "train", SETTINGS | changed)
    assert not other.take_over(tmp_path / "1" / "phases" / "1-train", tmp_path / "1" / "metrics.csv")


def test_what_a_killed_sitting_has_left_is_replaced(tmp_path):
    shared = SharedPhase(tmp_path / "shared", "train", SETTINGS)
    phase = trained(tmp_path / "0", with_best=False)
    shared.publish(phase, tmp_path / "0/metrics.csv", tmp_path / "0")
    other, metrics = trained(tmp_path / "1"), tmp_path / "1" / "metrics.csv"
    (other / "previous.ckpt").write_bytes(b"older")
    (other / "finished.json").unlink()
    replace_lines(metrics, "train", [["train", "0", "3", "val/accuracy", "0.1"]])
    assert shared.take_over(other, metrics)
    assert sorted(path.name for path in other.iterdir()) == ["finished.json", "last.ckpt"]
    assert lines_of(metrics, "train") == TRAINED


def test_a_run_that_goes_on_training_does_not_change_what_is_shared(tmp_path):
    """The files are second names of the same ones; a checkpoint is replaced, never written into."""
    shared = SharedPhase(tmp_path / "shared", "train", SETTINGS)
    phase = trained(tmp_path / "0")
    before = (phase / "last.ckpt").read_bytes()
    shared.publish(phase, tmp_path / "0/metrics.csv", tmp_path / "0")
    (phase / "last.ckpt.part").write_bytes(b"another")
    os.replace(phase / "last.ckpt.part", phase / "last.ckpt")
    assert (shared.place / "last.ckpt").read_bytes() == before


def train_it(root, run, trainings):
    shared = SharedPhase(root / "shared", "train", SETTINGS)
    with shared.reserved():
        if not shared.take_over(run / "phases" / "1-train", run / "metrics.csv"):
            time.sleep(0.3)  # long enough for the others to come
            shared.publish(trained(run), run / "metrics.csv", run)
            trainings.put(run.name)


def test_of_runs_that_begin_together_one_trains(tmp_path):
    context = multiprocessing.get_context("fork")
    trainings = context.Queue()
    runs = [context.Process(target=train_it, args=(tmp_path, tmp_path / str(job), trainings)) for job in range(3)]
    for run in runs:
        run.start()
    for run in runs:
        run.join(30)
    assert [run.exitcode for run in runs] == [0, 0, 0]
    trainer = trainings.get(timeout=5)
    assert trainings.empty()
    for job in "012":
        finished = json.loads((tmp_path / job / "phases/1-train/finished.json").read_text())
        assert finished.get("run") == (None if job == trainer else trainer)


def hold(shared, begun):
    with shared.reserved():
        begun.set()
        time.sleep(60)


def test_the_place_of_a_killed_run_is_free(tmp_path):
    shared = SharedPhase(tmp_path / "shared", "train", SETTINGS)
    context = multiprocessing.get_context("fork")
    begun = context.Event()
    holder = context.Process(target=hold, args=(shared, begun))
    holder.start()
    assert begun.wait(30)
    os.kill(holder.pid, signal.SIGKILL)
    holder.join()
    began = time.monotonic()
    with shared.reserved():
        pass
    assert time.monotonic() - began < 20
