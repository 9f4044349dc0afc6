"""Signals (SIGTERM, SIGUSR1, Ctrl-C), and what becomes of them in every process of a run: decided here alone.

- Within training it waits for the end of the batch: the state is saved, and ``Preempted`` is raised.
- A process that only waits for others hands it on, and ends when they have.
- At any other moment the process ends from within the signal: files are written whole or not at all, so there is
  nothing to save. No exception is raised there, which any library's ``except`` could take for an error of its own.

Whoever leaves says so in one sentence, with the command that goes on, and only the first process of a run does.
"""

import atexit
import logging
import os
import shlex
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType
from typing import NoReturn

from pruning_lit.system.console_log import IN_FILE_ONLY
from pruning_lit.system.launcher import place, rank

SIGNALS = (signal.SIGTERM, signal.SIGUSR1, signal.SIGINT)  # SLURM's at the end and some time before it, and Ctrl-C
LEFT = 75  # exit code of a process that leaves while the first one of its run goes on: "try again" in sysexits.h
PART = "PRUNING_LIT_PART_OF_A_SWEEP"  # in the environment of a command that another command has started
PATIENCE = 2.0  # seconds that the processes of a run have to end
Answer = Callable[[int], None]
log = logging.getLogger("pruning_lit")

_signals: list[int] = []  # that have come to this process so far
_words = ["the same again goes on"]  # one
_commands: set[int] = set()  # this process, if a command runs in it, not only a job of a launcher
_running: set[int] = set()  # this process, if runs are made in it, and not in a fork of it alone


class Preempted(BaseException):
    """Request to leave. What the run has done is saved; continued, it ends as if nothing had happened.

    It is no ``Exception``, so that what handles errors lets it pass.
    """


def asked() -> bool:
    """True once a signal has come."""
    return bool(_signals)


def is_impatient() -> bool:
    """True once Ctrl-C has been pressed again."""
    return _signals.count(signal.SIGINT) > 1


def exit_code() -> int:
    """Exit code of a command that leaves: that of Ctrl-C by convention, else 0."""
    return 128 + signal.SIGINT if _signals[:1] == [signal.SIGINT] else 0


def forget() -> None:
    """Begin anew, where a process goes on although a run in it has left."""
    _signals.clear()


def is_answered() -> bool:
    """True if it is from here that signals are answered; a run from Python has them answered elsewhere."""
    return getattr(signal.getsignal(signal.SIGTERM), "__module__", None) == __name__


def is_command() -> bool:
    """True in the process of a command; false in one that a launcher has made for jobs."""
    return os.getpid() in _commands


def begin_run() -> None:
    """Take down that a run is made in this process; one that is forked from here on is only part of it."""
    _running.add(os.getpid())


def is_forked() -> bool:
    """True in a process that was forked for a part of a run."""
    return os.getpid() not in _running


def last_words() -> None:
    """Say that the command leaves, and how to go on; in files of jobs, too, that others speak for."""
    if rank() == 0:
        aside = not is_command() or PART in os.environ
        log.warning("stopped as asked; %s", _words[0], extra=IN_FILE_ONLY if aside else None)


def go_on_by(words: str) -> None:
    """Let the last words be these from now on."""
    _words[:] = [words]


def begun_as(name: str, script: str | None = None) -> bool:
    """True for a module ``name`` that a program begins with: by ``python -m``, or by a script that pip has written."""
    return name == "__main__" or Path(sys.argv[0]).name == script


def leave_when_asked(module: str = "pruning_lit") -> None:
    """Leave at once on a signal, from now on.

    Args:
        module: name of the command behind ``python -m``.
    """
    if os.getpid() not in _commands:
        _commands.add(os.getpid())
        atexit.register(_ignore)  # run last; from then on Python forgets handlers, while torch takes its time to end
        typed = shlex.join(["python", "-m", module, *sys.argv[1:]])
        go_on_by(f"nothing was done yet, this does it: {typed}")
    answer(lambda signum: leave())


@contextmanager
def leaving_when_asked(module: str) -> Iterator[None]:
    """A whole command: whenever a signal comes it leaves in good order.

    The signals are answered to the end of the process, with the exit code that the command has come to.

    Args:
        module: name of the command behind ``python -m``.
    """
    leave_when_asked(module)
    code: object = 1
    try:
        yield
        code = 0
    except Preempted:
        last_words()
        sys.exit(code := exit_code())
    except SystemExit as stop:
        code = stop.code
        raise
    finally:
        ended = code if isinstance(code, int) else int(code is not None)
        answer(lambda signum: os._exit(ended))


@contextmanager
def leaving_at_once() -> Iterator[None]:
    """Leave at once on a signal, as a kill would, but with the last words."""
    with answering(lambda signum: leave()):
        yield


@contextmanager
def passing_on() -> Iterator[None]:
    """Pass signals on to the processes that this one has started, and go on waiting for them.

    Where there are none it leaves at once, and so on a second Ctrl-C.
    """
    with answering(pass_on):
        yield


def pass_on(signum: int) -> None:
    """Answer a signal as ``passing_on`` does."""
    started = [process for process in _children() if not _ignores(process, signal.SIGTERM)]
    if not started or is_impatient():
        leave()
    send(signal.SIGTERM, started)


def leave() -> NoReturn:
    """End this process with its last words, and those that it has started; for here nothing is to be saved."""
    with suppress(Exception):  # a log on a full disk, say
        last_words()
    _end([process for process in _children() if not _ignores(process, signal.SIGTERM)])
    for stream in (sys.stdout, sys.stderr):
        with suppress(Exception):
            stream.flush()
    os._exit(LEFT if PART in os.environ or rank() != place()[0] else exit_code())


def leave_together() -> NoReturn:
    """Leave where all processes of a run have come to and nothing is to be saved: within training, but between steps.

    Raises:
        Preempted: in the process of the command, or of a job; one that was forked ends.
    """
    if is_forked():
        sys.exit(LEFT)  # to torch an error would be somebody's traceback
    raise Preempted


@contextmanager
def answering(how: Answer | None) -> Iterator[None]:
    """Answer signals in this way for a while; None: as they are, until somebody inside changes that."""
    before = {number: signal.getsignal(number) for number in SIGNALS}
    if how is not None:
        answer(how)
    try:
        yield
    finally:
        for number, former in before.items():
            if _in_main_thread() and former is not None:
                signal.signal(number, former)


def answer(how: Answer) -> None:
    """Answer signals in this way from now on; only Python's main thread can, and Ctrl-C may be ignored on purpose."""
    owner = os.getpid()

    def handle(signum: int, frame: FrameType | None) -> None:
        if os.getpid() == owner:
            _signals.append(signum)
            how(signum)
        elif signum == signal.SIGTERM or os.getppid() != owner:  # in a fork, whose parent hears the others, too
            os._exit(LEFT)

    for number in SIGNALS:
        if _in_main_thread() and (number != signal.SIGINT or signal.getsignal(number) != signal.SIG_IGN):
            signal.signal(number, handle)


def send(signum: int, processes: list[int]) -> None:
    """Send a signal to those of the processes that are still there."""
    for process in processes:
        with suppress(ProcessLookupError):
            os.kill(process, signum)


def _end(processes: list[int]) -> None:
    """End processes that this one has started: by force those that hang, perhaps waiting for this one."""
    send(signal.SIGTERM, processes)  # others may have to tidy up: a git that is killed leaves its lock behind
    deadline = time.monotonic() + PATIENCE
    while processes and time.monotonic() < deadline:
        processes = [process for process in processes if _runs(process)]
        time.sleep(0.01)
    send(signal.SIGKILL, processes)


def _runs(process: int) -> bool:
    """True for a child that has not ended."""
    try:
        return os.waitpid(process, os.WNOHANG) == (0, 0)
    except ChildProcessError:  # somebody else has waited for it
        return False


def _children() -> list[int]:
    """Processes that this one has started and that are still there, as far as the system tells."""
    with suppress(OSError):
        return [int(each) for each in Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()]
    import multiprocessing  # late: most commands have no need of it

    return [each.pid for each in multiprocessing.active_children() if each.pid is not None]


def _ignores(process: int, signum: int) -> bool:
    """True for a process that takes no notice of the signal, such as those that only tidy up behind others."""
    with suppress(OSError):
        for line in Path(f"/proc/{process}/status").read_text().splitlines():
            if line.startswith("SigIgn:"):
                return bool(int(line.split()[1], 16) >> (signum - 1) & 1)
    return False


def _ignore() -> None:
    """Take no notice of signals any more: the command has ended, and said how."""
    for number in SIGNALS:
        if _in_main_thread():
            signal.signal(number, signal.SIG_IGN)


def _in_main_thread() -> bool:
    return threading.current_thread() is threading.main_thread()
