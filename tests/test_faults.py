"""What happens when things break: signals, damaged checkpoints, losses that are no numbers, dead processes."""

import os
import re
import shutil
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from tests.commands import EVERY, TINY, TWO, run_command, start
from tests.conftest import read_report
from tests.stopping import stop

TIMED = "date|second|latency|throughput|command|config|hardware|commits"


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / "pruned" / "model.safetensors")


def assert_same_end(folder: Path, expected: Path, curves: bool = True) -> None:
    found, wanted = weights(folder), weights(expected)
    assert [name for name, tensor in wanted.items() if not torch.equal(found[name], tensor)] == []
    assert found.keys() == wanted.keys()
    assert (folder / "metrics.csv").read_text() == (expected / "metrics.csv").read_text()
    assert without_times(read_report(folder)) == without_times(read_report(expected))
    assert not curves or curve(folder) == curve(expected)


def curve(folder: Path) -> dict[int, float]:
    """Validation accuracy by the steps of the run, as TensorBoard shows it."""
    events = EventAccumulator(str(folder / "tensorboard"))
    events.Reload()
    there = "Accuracy/val" in events.Tags()["scalars"]  # not with data that have no validation part
    return {point.step: point.value for point in events.Scalars("Accuracy/val")} if there else {}


def without_times(report: Any) -> Any:
    """A report without what is measured in time, and how the run was asked for."""
    if isinstance(report, list):
        return [without_times(each) for each in report]
    if not isinstance(report, dict):
        return report
    return {key: without_times(value) for key, value in report.items() if not re.search(TIMED, key)}


def wait_for(process: subprocess.Popen, path: Path, seconds: float = 120) -> None:
    """Until a file is there."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline and process.poll() is None and not path.is_file():
        time.sleep(0.005)
    assert path.is_file(), f"{path.name} has not appeared: {process.stdout.read()[-3000:] if process.poll() else ''}"


# Signals


def sittings(folder: Path, *settings: str) -> list[str]:
    """What a run prints in each of the sittings in which it comes to its end, though something stops it again."""
    told, words = [], [*TINY, f"hydra.run.dir={folder}", *settings]
    while not (folder / "report.json").is_file() and len(told) < 12:
        process = start(*words)
        printed, _ = process.communicate(timeout=120)
        assert process.returncode in (0, -signal.SIGKILL), printed[-3000:]
        assert "Traceback" not in printed
        told.append(printed)
        words = [f"resume={folder}", *(word for word in settings if word.startswith("allow_targets="))]
    return told


#: Optimizer steps: the last of the first epoch; the last of all. In the middle of one: two processes, below.
@pytest.mark.parametrize("step", [3, pytest.param(6, marks=pytest.mark.slow)])
def test_a_run_that_is_asked_to_leave_saves_and_says_how_to_go_on(finished, tmp_path, step):
    folder = tmp_path / "run"
    told = sittings(folder, *stop(step=step))
    assert [printed.count(f"this goes on: python -m pruning_lit resume={folder}") for printed in told] == [1, 1, 0]
    assert_same_end(folder, finished)


@pytest.mark.slow
def test_killed_before_any_checkpoint_is_replaced_a_run_comes_to_the_same_end(finished, tmp_path):
    """The fourth of an epoch of three steps is the best."""
    folder = tmp_path / "run"
    assert len(sittings(folder, EVERY, *stop(save=4, number=signal.SIGKILL))) > 2
    assert_same_end(folder, finished)


@pytest.mark.slow
def test_two_processes_have_the_figures_of_whole_epochs(finished_by_two, tmp_path):
    folder = tmp_path / "run"
    assert len(sittings(folder, *TWO, *stop(step=2))) == 3
    assert_same_end(folder, finished_by_two)


@pytest.mark.slow
def test_what_is_saved_on_leaving_is_the_state_in_the_middle_of_an_epoch(tmp_path):
    """The checkpoint that the epoch's end would have left is still far away."""
    one_by_one = ("trainer.limit_train_batches=1000", "dataset.batch_size=1", "train.epochs=1")
    process = start(*TINY, *one_by_one, f"hydra.run.dir={tmp_path}")
    wait_for(process, tmp_path / "tensorboard" / "hparams.yaml")  # training is about to begin
    time.sleep(4)
    process.send_signal(signal.SIGTERM)
    printed, _ = process.communicate(timeout=60)
    assert process.returncode == 0, printed[-3000:]
    checkpoint = torch.load(tmp_path / "phases" / "1-train" / "last.ckpt", weights_only=True)
    assert 0 < checkpoint["global_step"] < 1000


# Checkpoints


@pytest.mark.slow
def test_of_a_damaged_checkpoint_the_one_before_is_used(finished, tmp_path):
    folder = tmp_path / "run"
    process = start(*TINY, f"hydra.run.dir={folder}", EVERY)
    wait_for(process, folder / "phases" / "1-train" / "previous.ckpt")
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    last = folder / "phases" / "1-train" / "last.ckpt"
    last.write_bytes(last.read_bytes()[:5000])
    printed = run_command(f"resume={folder}")
    assert re.search(r"last.ckpt' is damaged \(\w+\).*going on from the one before it, of optimizer step \d", printed)
    assert_same_end(folder, finished)


@pytest.mark.slow
def test_a_finished_phase_that_is_damaged_begins_again_as_the_message_says(finished, tmp_path):
    folder = tmp_path / "run"
    shutil.copytree(finished, folder)
    phase = folder / "phases" / "1-train"
    content = bytearray((phase / "last.ckpt").read_bytes())
    content[len(content) // 2] ^= 1
    (phase / "last.ckpt").write_bytes(content)
    (phase / "previous.ckpt").write_bytes(b"")
    process = start(f"resume={folder}")
    printed, _ = process.communicate(timeout=120)
    assert process.returncode == 1
    assert "delete 'last.ckpt' and 'previous.ckpt' there to begin the phase again" in " ".join(printed.split())
    for name in ("last.ckpt", "previous.ckpt"):
        (phase / name).unlink()
    assert "it begins again" in run_command(f"resume={folder}")
    assert_same_end(folder, finished, curves=False)  # what TensorBoard shows of later phases was thrown away


# Another number of processes


@pytest.mark.slow
def test_a_run_goes_on_with_the_same_images_per_step_on_another_number_of_processes(tmp_path):
    folder, words = tmp_path / "run", ("allow_targets=[tests.stopping]", "trainer.accelerator=cpu")
    run_command(*TINY, *TWO, *stop(step=2), f"hydra.run.dir={folder}")  # in the middle of an epoch
    alone = (f"resume={folder}", *words, "trainer=default", "~callbacks.stop")
    process = start(*alone)
    printed = " ".join(process.communicate(timeout=120)[0].split())
    assert process.returncode == 1
    assert "16 (8 in each of 2 processes) images per step, and would go on with 8" in printed
    assert "give dataset.batch_size=16, or" in printed
    run_command(*alone, "dataset.batch_size=16")
    assert [phase["batch"]["processes"] for phase in read_report(folder)["phases"]] == [1, 1]
    run_command(*TINY, *stop(step=3), f"hydra.run.dir={tmp_path / 'other'}")  # at the end of one
    run_command(f"resume={tmp_path / 'other'}", *words, *TWO, "~callbacks.stop")
    assert [phase["batch"]["processes"] for phase in read_report(tmp_path / "other")["phases"]] == [2, 2]


# Numbers


DIVERGING = ("train.optimizer.lr=1e30", "phases=[train,finetune]")


@pytest.mark.slow
def test_a_loss_that_is_no_number_stops_the_run_or_such_steps_are_left_out(cli, tmp_path):
    code, printed = cli(*TINY, *DIVERGING, "train.epochs=9", f"hydra.run.dir={tmp_path}")
    assert code == 1
    assert re.search(r"phase train, epoch 1/9, after \d optimizer steps: the (loss|gradients)", printed)
    assert "begin again with a lower learning rate (train.optimizer.lr); or leave such steps out" in printed
    assert "Traceback" not in printed
    code, printed = cli(f"resume={tmp_path}", "on_nonfinite=skip")  # as it says
    assert code == 1  # after as many in a row as it takes to see that nothing comes of it
    assert printed.count("the step is left out") == 20
    assert "(21 steps in a row); begin again with a lower learning rate (train.optimizer.lr)\n" in printed


@pytest.mark.slow
def test_two_processes_stop_together_where_the_loss_is_no_number(tmp_path):
    process = start(*TINY, *TWO, *DIVERGING, f"hydra.run.dir={tmp_path}")
    printed, _ = process.communicate(timeout=90)
    assert process.returncode == 1
    assert "phase train, epoch 1/2, after" in printed
    assert "Traceback" not in printed


# Processes


@pytest.mark.slow
def test_where_a_process_dies_the_others_end_and_nothing_is_lost(finished_by_two, tmp_path):
    folder = tmp_path / "run"
    process = start(*TINY, *TWO, f"hydra.run.dir={folder}", EVERY)
    wait_for(process, folder / "phases" / "1-train" / "last.ckpt")
    children = [int(pid) for pid in subprocess.check_output(["pgrep", "-P", str(process.pid)], text=True).split()]
    os.kill(children[-1], signal.SIGKILL)
    printed, _ = process.communicate(timeout=60)
    assert process.returncode == 1
    assert "terminated with signal SIGKILL" in printed
    assert "Traceback" not in printed
    run_command(f"resume={folder}")
    assert_same_end(folder, finished_by_two)
