"""One command at a time in a folder, and never a lock that nobody has."""

import errno
import fcntl
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from pruning_lit.system import folder_lock
from pruning_lit.system.folder_lock import alone_in, hold, release
from tests.commands import EVERY, TINY, start
from tests.test_faults import wait_for

HOLDER = """
import sys, time
from pathlib import Path
from pruning_lit.system.folder_lock import hold
hold(Path(sys.argv[1]))
print("held", flush=True)
time.sleep(100)
"""


@pytest.fixture(autouse=True)
def given_back():
    yield
    release()


@pytest.fixture
def holder(tmp_path):
    """Another process that has the folder."""
    process = subprocess.Popen([sys.executable, "-c", HOLDER, str(tmp_path)], stdout=subprocess.PIPE)
    assert process.stdout.readline() == b"held\n"
    yield process
    process.kill()
    process.communicate()


def test_a_folder_that_another_command_has_is_refused_and_free_once_that_is_killed(holder, tmp_path, cli):
    told = rf"another command is at work in '{tmp_path}' \(process {holder.pid} on .*\): wait for its end, or name "
    for _ in range(2):  # asking does not take away who has it
        with pytest.raises(ValueError, match=told), alone_in(tmp_path):
            pass
    code, printed = cli(f"hydra.run.dir={tmp_path}", "seed=7")
    assert code == 1
    assert re.fullmatch(f"error: {told}another folder", printed.strip())
    assert not (tmp_path / ".hydra").exists()  # how the run was begun is not written over
    code, printed = cli("-m", f"hydra.sweep.dir={tmp_path}", "seed=7,8")
    assert code == 1
    assert re.fullmatch(f"error: {told}another folder", printed.strip())
    holder.send_signal(signal.SIGKILL)
    holder.wait()
    with alone_in(tmp_path):
        pass


def test_a_process_may_ask_again_and_other_ranks_need_not(tmp_path, monkeypatch):
    with alone_in(tmp_path), alone_in(tmp_path):
        hold(tmp_path)
        child = subprocess.run([sys.executable, "-c", HOLDER, str(tmp_path)], capture_output=True, text=True)
        assert "another command is at work" in child.stderr
    monkeypatch.setenv("LOCAL_RANK", "1")
    (tmp_path / "locked_by_rank_0").mkdir()
    with alone_in(tmp_path / "locked_by_rank_0"):
        assert list((tmp_path / "locked_by_rank_0").iterdir()) == []


@pytest.mark.slow
def test_what_a_killed_command_has_forked_is_waited_for(tmp_path):
    """It writes there until it has noticed."""
    forking = HOLDER.replace("print(", "import os\nif os.fork() == 0:\n    time.sleep(1)\n    os._exit(0)\nprint(")
    process = subprocess.Popen([sys.executable, "-c", forking, str(tmp_path)], stdout=subprocess.PIPE)
    assert process.stdout.readline() == b"held\n"
    process.kill()
    process.wait()
    before = time.monotonic()
    with alone_in(tmp_path):
        assert time.monotonic() - before > 0.3


def test_on_a_disk_without_locks_the_run_goes_on_with_a_warning(tmp_path, monkeypatch, caplog):
    def refuse(*_: object) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(fcntl, "flock", refuse)
    with alone_in(tmp_path):
        assert "cannot be locked" in caplog.text
    assert folder_lock._held == {}


@pytest.mark.slow
def test_a_run_that_is_under_way_is_not_resumed_beside_itself(tmp_path):
    folder = tmp_path / "run"
    first = start(*TINY, f"hydra.run.dir={folder}", EVERY)
    wait_for(first, folder / "phases" / "1-train" / "last.ckpt")
    second = start(f"resume={folder}")
    printed, _ = second.communicate(60)
    assert second.returncode == 1
    assert printed.count("another command is at work") == 1
    printed, _ = first.communicate(120)
    assert first.returncode == 0, printed[-3000:]
    assert Path(folder / "report.json").is_file()
