"""Signals at any moment of a command: one sentence, the exit code of one that obeys, nothing lost."""

import os
import random
import re
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from tests.commands import EVERY, TINY, TWO, command, environment, run_command, start
from tests.stopping import STOP, stop
from tests.test_faults import assert_same_end, wait_for

POPEN = (*TWO, "trainer=ddp", "trainer.devices=2", "trainer.sync_batchnorm=true")  # otherwise as forked ones
FORKED = ("trainer=ddp_fork", "trainer.accelerator=cpu")


def ended(process, code: int = 0) -> str:
    """What a process says on leaving, when it has ended; it has said so once, or was finished before it could hear."""
    printed, _ = process.communicate(timeout=120)
    assert process.returncode in (code, 0), printed[-3000:]
    assert "Traceback" not in printed
    assert "rror" not in printed, printed[-3000:]
    told = re.findall(r"stopped as asked; .*", printed)
    assert len(told) == 1 or "report and network in" in printed, printed[-3000:]
    return told[0] if told else ""


def answers(process: Any) -> bool:
    """True if a process has a handler of its own for SIGTERM."""
    [caught] = re.findall(r"SigCgt:\t(\w+)", Path(f"/proc/{process.pid}/status").read_text())
    return bool(int(caught, 16) >> (signal.SIGTERM - 1) & 1)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_command_leaves_with_a_sentence_while_it_is_still_being_loaded(tmp_path, number):
    words = command(*TINY, "hydra.run.dir=a b")
    process = subprocess.Popen(
        words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, cwd=tmp_path, env=environment()
    )
    while not answers(process):
        time.sleep(0.005)
    process.send_signal(number)
    told = ended(process, 130)
    assert process.returncode == {signal.SIGTERM: 0, signal.SIGINT: 130}[number]
    assert told.startswith("stopped as asked; nothing was done yet, this does it: python -m pruning_lit arch=resnet8 ")
    assert told.endswith("'hydra.run.dir=a b'")
    assert not list(tmp_path.iterdir())


def test_what_a_command_has_started_ends_with_it_and_may_tidy_up(tmp_path):
    program = """
import os, signal, subprocess
from pruning_lit.system.preemption import leave_when_asked

leave_when_asked()
script = "trap 'sleep 0.2; touch tidied; exit' TERM; echo ready; while :; do sleep 0.02; done"
child = subprocess.Popen(["sh", "-c", script], stdout=subprocess.PIPE)
assert child.stdout.readline() == b"ready\\n"
print(child.pid, flush=True)
os.kill(os.getpid(), signal.SIGTERM)
"""
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True, env=environment(), check=False
    )
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "tidied").exists()
    with pytest.raises(ProcessLookupError):
        os.kill(int(done.stdout.split()[0]), 0)


@pytest.mark.slow
def test_a_command_leaves_with_a_sentence_while_it_writes_its_report(tmp_path):
    folder = tmp_path / "run"
    process = start(*TINY, f"hydra.run.dir={folder}", EVERY)
    wait_for(process, folder / "phases" / "2-finetune" / "finished.json")
    process.send_signal(signal.SIGINT)
    told = ended(process, 130)
    assert told == f"stopped as asked; this goes on: python -m pruning_lit resume={folder}"
    assert process.returncode == 130


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("settings", [(), TWO], ids=["one", "forked"])
def test_at_random_moments_a_run_leaves_and_goes_on_to_the_same_end(finished, finished_by_two, tmp_path, settings):
    folder, moments = tmp_path / "run", random.Random(os.environ.get("MOMENTS", str(settings)))
    words = [*TINY, *settings, f"hydra.run.dir={folder}", EVERY]
    for _ in range(5):
        process = start(*words)
        while not answers(process):  # Python itself is beginning
            time.sleep(0.005)
        time.sleep(moments.uniform(1, 5))
        process.send_signal(moments.choice([signal.SIGTERM, signal.SIGUSR1]))
        told = ended(process)
        if (folder / "report.json").is_file():
            break
        words = shlex.split(told.partition("pruning_lit ")[2])
    run_command(f"resume={folder}")
    assert_same_end(folder, finished_by_two if settings else finished)


@pytest.mark.slow
def test_a_process_that_is_asked_behind_the_last_batch_takes_the_others_along(finished_by_two, tmp_path):
    """The fourth checkpoint is the last of a phase: nobody waits for another batch, and nobody is left behind."""
    folder = tmp_path / "run"
    process = start(*TINY, *POPEN, *stop(save=4), f"hydra.run.dir={folder}")
    assert f"resume={folder}" in ended(process)
    assert not (folder / "phases/2-finetune").exists()
    run_command(f"resume={folder}", *FORKED, STOP[0], "~callbacks.stop")
    assert_same_end(folder, finished_by_two)


@pytest.mark.slow
def test_ctrl_c_in_a_terminal_comes_to_all_processes_and_is_told_once(finished_by_two, tmp_path):
    folder = tmp_path / "run"
    words = command(*TINY, *POPEN, f"hydra.run.dir={folder}", EVERY)
    process = subprocess.Popen(
        words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment(), start_new_session=True
    )
    wait_for(process, folder / "phases" / "1-train" / "last.ckpt")
    os.killpg(process.pid, signal.SIGINT)
    assert ended(process, 130).endswith(f"resume={folder}")
    assert process.returncode == 130
    run_command(f"resume={folder}", *FORKED)
    assert_same_end(folder, finished_by_two)
