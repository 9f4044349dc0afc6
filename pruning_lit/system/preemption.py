"""Preemption: the signal of a machine that wants its processors back becomes an exception."""

import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType
from typing import Any

SIGNALS = (signal.SIGTERM, signal.SIGUSR1)  # what SLURM sends at the end, and, where asked for, some time before it
Handler = Callable[[int, FrameType | None], Any]


class Preempted(Exception):
    """Request to leave. What the run has done is saved; continued, it ends as if nothing had happened."""


@contextmanager
def leaving_on_signal() -> Iterator[None]:
    """Raise ``Preempted`` on a signal, at once."""

    def leave(signum: int, frame: FrameType | None) -> None:
        raise Preempted

    with listening(leave):
        yield


@contextmanager
def passing_on() -> Iterator[None]:
    """Pass signals on to the processes that this one has started, for a launcher's jobs run in them.

    Where there are none it ends what is going on with ``Preempted``.
    """

    def pass_on(signum: int, frame: FrameType | None) -> None:
        if not (started := _started()):
            raise Preempted
        for process in started:
            with suppress(ProcessLookupError):
                os.kill(process, signal.SIGTERM)

    with listening(pass_on):
        yield


def _started() -> list[int]:
    """Processes that this one has started and that are still there, as far as the system tells."""
    with suppress(OSError):
        return [int(each) for each in Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()]
    return []


@contextmanager
def listening(handler: Handler) -> Iterator[None]:
    """Send the signals to ``handler`` for a while; only Python's main thread can listen."""
    before = {number: signal.getsignal(number) for number in SIGNALS}
    listen(handler)
    try:
        yield
    finally:
        for number, former in before.items():
            if _in_main_thread():
                signal.signal(number, former)


def listen(handler: Handler) -> None:
    """Send the signals to ``handler`` from now on."""
    for number in SIGNALS:
        if _in_main_thread():
            signal.signal(number, handler)


def _in_main_thread() -> bool:
    return threading.current_thread() is threading.main_thread()
