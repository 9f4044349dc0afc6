"""Commands in processes of their own, forked from one in which everything is imported: real processes, begun at once.

A command that is started as users start it spends 5 to 9 seconds of a processor on imports. Here every process of
pytest has one server (multiprocessing's own) that imports everything once and forks itself for each command. The server
does nothing but import, so it has no thread that could hold a lock while it is forked. What only a new process can show
(launchers that start commands, the installed wheel, two nodes, late imports) the tests about it start by themselves.
"""

import atexit
import functools
import multiprocessing
import os
import runpy
import select
import signal
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from contextlib import suppress
from importlib import import_module
from multiprocessing.connection import Connection
from typing import Any

#: A run of every part in seconds: digits, a ResNet-8, a few steps.
TINY = (
    "arch=resnet8",
    "callbacks=quiet",
    "trainer.enable_progress_bar=false",
    "trainer.accelerator=cpu",
    "trainer.limit_train_batches=3",
    "trainer.log_every_n_steps=1",
    "dataset.batch_size=16",
    "criterion.num_images=32",
    "train.epochs=2",
    "finetune.epochs=2",
    "finetune.schedule.warmup_epochs=1",
    "latency.repeats=1",
    "latency.batch_size=1",
    "latency.max_seconds=0.1",
)

#: A checkpoint at every step, so that a run can be killed anywhere.
EVERY = "checkpoint.every_n_steps=1"
#: The same run by two processes.
TWO = ("trainer=ddp_fork", "dataset.batch_size=8", "trainer.accelerator=cpu")

_SERVER = multiprocessing.get_context("forkserver")
_SERVER.set_forkserver_preload(["tests.imported"])


def command(*overrides: str) -> list[str]:
    """Words of a shell that start a command as users do."""
    return [sys.executable, "-m", "pruning_lit", *overrides]


def environment() -> dict[str, str]:
    """Variables of a command: those of the test, one thread, no warnings of other packages."""
    return {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONWARNINGS": "ignore"}


def start(*overrides: str) -> "Command":
    """Start a command; what is left of it at the end of the test is killed."""
    return Command(overrides)


def run_command(*overrides: str, timeout: float = 240) -> str:
    """Run a command to its end; everything printed. A failure of the command fails the test."""
    process = start(*overrides)
    printed, _ = process.communicate(timeout)
    assert process.returncode == 0, printed[-6000:]
    return printed


class Command:
    """A command that runs, with those members of ``subprocess.Popen`` that tests use; errors come with the output."""

    def __init__(self, overrides: tuple[str, ...]) -> None:
        output, theirs = multiprocessing.Pipe(duplex=False)
        self._process = _SERVER.Process(target=_run, args=(overrides, theirs, environment(), os.getcwd()))
        self._process.start()
        theirs.close()
        self.pid: int = self._process.pid  # type: ignore[assignment]  # it has been started
        self.stdout = os.fdopen(os.dup(output.fileno()), errors="replace")
        output.close()

    def poll(self) -> int | None:
        """Exit code, that of a signal negative; None while it runs."""
        return self._process.exitcode

    returncode = property(poll)

    def wait(self, timeout: float | None = None) -> int | None:
        self._process.join(timeout)
        return self.poll()

    def send_signal(self, number: int) -> None:
        with suppress(ProcessLookupError):  # it has ended
            os.kill(self.pid, number)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)

    def communicate(self, timeout: float) -> tuple[str, None]:
        """Read what the command and all whom it has started print, until the last of them has ended.

        Raises:
            subprocess.TimeoutExpired: they have not ended in time; the command is killed.
        """
        deadline, printed = time.monotonic() + timeout, b""
        while select.select([self.stdout], [], [], max(0, deadline - time.monotonic()))[0]:
            part = os.read(self.stdout.fileno(), 1 << 16)
            if not part:
                self.wait(timeout)
                return printed.decode(errors="replace"), None
            printed += part
        self.kill()
        raise subprocess.TimeoutExpired("a command", timeout, printed)


def in_own_process(test: Callable[..., None]) -> Callable[..., None]:
    """A test that forks by itself (``ddp_fork``), in a process in which nothing else has run.

    A test before it may have made autograd begin threads, and a fork of such a process cannot train.
    """

    @functools.wraps(test)
    def run(**arguments: Any) -> None:
        with ProcessPoolExecutor(1, mp_context=_SERVER) as pool:
            pool.submit(_call, test.__module__, test.__name__, arguments).result()

    return run


def _call(module: str, test: str, arguments: dict[str, Any]) -> None:
    getattr(import_module(module), test).__wrapped__(**arguments)


def _run(overrides: tuple[str, ...], output: Connection, variables: dict[str, str], folder: str) -> None:
    """Do what ``python -m pruning_lit <overrides>`` does behind its imports; this is run by the forked process."""
    os.environ.clear()
    os.environ.update(variables)
    os.chdir(folder)
    os.dup2(output.fileno(), 1)
    os.dup2(output.fileno(), 2)
    output.close()
    sys.argv = ["pruning_lit", *overrides]
    sys.path[:0] = [folder, *filter(None, variables.get("PYTHONPATH", "").split(os.pathsep))]
    try:
        runpy.run_module("pruning_lit", run_name="__main__", alter_sys=True)
    except SystemExit:
        raise
    except BaseException:
        traceback.print_exc()
        sys.exit(1)
    finally:
        threading._shutdown()  # as a program ends: first the threads, where joblib lets its workers go, …
        atexit._run_exitfuncs()  # … then the rest; a process of multiprocessing ends without
        sys.stdout.flush()
        sys.stderr.flush()
