"""Lock on a run's folder: one command at a time writes there.

The system takes the lock away from a process that ends, however it ends. It is asked directly (``flock``), for a disk
without locks has to be told from a lock that another process has.
"""

import fcntl
import logging
import os
import platform
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

from pruning_lit.system.launcher import rank

NAME = ".lock"
PATIENCE = 30.0  # seconds within which processes end whose run was killed; data workers look every five
log = logging.getLogger("pruning_lit")

_held: dict[Path, IO[str]] = {}


@contextmanager
def alone_in(folder: Path) -> Iterator[None]:
    """Have a folder to oneself; a process that has it may ask again, and of a run's processes the first one asks.

    Raises:
        ValueError: another command has it.
    """
    path = folder.resolve() / NAME
    if path in _held or rank() != 0:
        yield
        return
    hold(folder)
    try:
        yield
    finally:
        release(path)


def hold(folder: Path) -> None:
    """Take a folder, until ``release``, or the end of the process; errors are those of ``alone_in``."""
    path = folder.resolve() / NAME
    if path in _held or rank() != 0:
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    file = path.open("a+", encoding="utf-8")  # "a": who has it is written there, and not to be lost by asking
    deadline = time.monotonic() + PATIENCE
    while True:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            break
        except BlockingIOError:
            file.seek(0)
            owner = file.read().strip()
            if not _has_died(owner) or time.monotonic() > deadline:
                file.close()
                raise ValueError(
                    f"another command is at work in '{folder}' ({owner or 'it has only just begun'}): wait for its "
                    "end, or name another folder"
                ) from None
            time.sleep(0.1)
        except OSError as error:  # some network file systems
            log.warning("'%s' cannot be locked (%s): see to it that no other command works there", folder, error)
            break
    with suppress(OSError):  # a full disk
        file.truncate(0)
        file.write(f"process {os.getpid()} on {platform.node()}")
        file.flush()
    _held[path] = file


def release(*paths: Path) -> None:
    """Give these locks back; without any named, all."""
    for path in paths or [*_held]:
        with suppress(OSError):
            _held.pop(path).close()


def _has_died(owner: str) -> bool:
    """True if the owner of a lock was a process of this machine that is gone; others may have it for a moment yet."""
    found = re.fullmatch(r"process (\d+) on (.*)", owner)
    if found is None or found[2] != platform.node():
        return False
    try:
        os.kill(int(found[1]), 0)
    except ProcessLookupError:
        return True
    except OSError:  # somebody else's
        return False
    return False
