"""Common end of the processes of one run: where one dies, the others say so and end, too.

This is for processes that Lightning starts as commands of their own (``strategy: ddp``). Lightning itself looks after
them every five seconds, and then kills all without a word.
"""

import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from pytorch_lightning.strategies.launchers import _SubprocessScriptLauncher

from pruning_lit.system.deaths import LostProcess, is_lost_connection
from pruning_lit.system.preemption import LEFT, Preempted, leave

MAIN = "PRUNING_LIT_MAIN_PROCESS"  # its number, for those that it starts
OBSERVER = "child-process-observer"  # Lightning's thread
LOOK = 0.5  # seconds between two looks at the other processes
SHORT = 2.0  # seconds within which the system tells that a process is gone
GRACE = 10.0  # seconds that a process has to find out by itself, and to say, what has gone wrong
MAIN_IS_GONE = "the process that has started this one has died"

_started: list[subprocess.Popen] = []  # by this process, in the first phase of a run, for all phases


@contextmanager
def ending_together(launcher: Any, tell: Callable[[LostProcess], None]) -> Iterator[None]:
    """Let no process stay behind when another one dies.

    Args:
        launcher: of Lightning's strategy.
        tell: says what has happened, where this process hangs and can only be ended by force.

    Raises:
        LostProcess: another process has died, of itself or of an error, which it has told.
        Preempted: another process has left, as it was asked to.
    """
    if not isinstance(launcher, _SubprocessScriptLauncher):
        yield
        return
    is_main = MAIN not in os.environ
    os.environ.setdefault(MAIN, str(os.getpid()))
    watch = _Watch(launcher, tell)
    watch.start()
    try:
        yield
    except Exception as error:  # not Preempted, by which all leave
        watch.stop()
        watch.take_over()  # of processes that were only just started
        lost = _loss(error)
        _end_all()
        if lost is not None:
            raise lost from error
        raise
    finally:
        watch.stop()
        if is_main:
            os.environ.pop(MAIN, None)


class _Watch(threading.Thread):
    """Watch over the other processes; ends this one where it does not notice by itself that they are gone."""

    def __init__(self, launcher: Any, tell: Callable[[LostProcess], None]) -> None:
        super().__init__(daemon=True, name="process-watch")
        self.launcher, self.tell = launcher, tell
        self.over = threading.Event()

    def run(self) -> None:
        while not self.over.wait(LOOK):
            self.take_over()
            if not _is_alone() and all(process.poll() in (None, 0) for process in _started):
                continue
            if self.over.wait(GRACE):
                return
            if _one_has_left():
                leave()
            self.tell(_dead_ones() or LostProcess(MAIN_IS_GONE))
            _end_all()
            os._exit(1)  # a process that waits for another in torch's C++ hears nothing else

    def stop(self) -> None:
        self.over.set()
        self.join()

    def take_over(self) -> None:
        """Take the processes over from Lightning's observer, which ends with a list that is empty."""
        if not any(thread.name == OBSERVER for thread in threading.enumerate()):
            return
        observed = getattr(self.launcher, "procs", None)
        if observed and observed[-1] not in _started:
            _started[:] = observed
            self.launcher.procs = list(observed)
            observed.clear()


def _loss(error: Exception) -> LostProcess | None:
    """Death of another process that an error comes from; None where the error is this one's own."""
    if not is_lost_connection(error):
        return None
    if _started:
        _wait(lambda: all(process.poll() is not None for process in _started), GRACE)
        if _one_has_left():
            raise Preempted from None
        return _dead_ones()
    if os.environ[MAIN] == str(os.getpid()):  # processes that somebody else has started
        return None
    _wait(_is_alone, SHORT)
    return LostProcess(MAIN_IS_GONE, by_itself=not _is_alone())  # while the main process lives, it is its to tell


def _one_has_left() -> bool:
    """True if a process that this one has started was asked to leave while nothing was to be saved there."""
    return any(process.poll() == LEFT for process in _started)


def _dead_ones() -> LostProcess | None:
    """Deaths of the processes that this one has started, in one sentence."""
    killed = [process for process in _started if (process.poll() or 0) < 0]
    if killed:
        name = signal.Signals(-killed[0].returncode).name
        return LostProcess(f"process {killed[0].pid} of this run was ended by {name}, and the others with it")
    failed = [process for process in _started if process.poll()]
    if failed:
        return LostProcess(f"process {failed[0].pid} of this run has failed, as it has told", by_itself=True)
    return None


def _is_alone() -> bool:
    """True if the main process, which has started this one, is gone."""
    return os.environ[MAIN] not in (str(os.getpid()), str(os.getppid()))


def _end_all() -> None:
    for process in _started:
        process.kill()
        process.wait()
    _started.clear()


def _wait(until: Callable[[], bool], seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline and not until():
        time.sleep(0.05)
