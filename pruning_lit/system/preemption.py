"""A machine that wants its processors back says so by a signal; here the signal becomes an exception."""

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

SIGNALS = (signal.SIGTERM, signal.SIGUSR1)  # what SLURM sends at the end, and, where asked for, some time before it
Handler = Callable[[int, FrameType | None], Any]


class Preempted(Exception):
    """The run was asked to leave. What it has done is saved; continued, it ends as if nothing had happened."""


@contextmanager
def leaving_on_signal() -> Iterator[None]:
    """Meanwhile a signal ends what is going on with ``Preempted``, at once."""

    def leave(signum: int, frame: FrameType | None) -> None:
        raise Preempted

    with listening(leave):
        yield


@contextmanager
def listening(handler: Handler) -> Iterator[None]:
    """Meanwhile the signals go to ``handler``; only Python's main thread can listen."""
    before = {number: signal.getsignal(number) for number in SIGNALS}
    listen(handler)
    try:
        yield
    finally:
        for number, former in before.items():
            if _in_main_thread():
                signal.signal(number, former)


def listen(handler: Handler) -> None:
    """From now on the signals go to ``handler``."""
    for number in SIGNALS:
        if _in_main_thread():
            signal.signal(number, handler)


def _in_main_thread() -> bool:
    return threading.current_thread() is threading.main_thread()
