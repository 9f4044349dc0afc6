"""Errors of a disk, told with the file that it refused."""

import os
import shutil
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from errno import ENOSPC
from pathlib import Path

LITTLE = 2**16  # bytes: with less a disk counts as full


@contextmanager
def naming(path: str | Path) -> Iterator[None]:
    """Name ``path`` in errors of the disk that do not say where they happened.

    Writing into an open file tells no name.
    """
    try:
        yield
    except OSError as error:
        if error.strerror is not None and error.filename is None:
            error.filename = str(path)
        raise


def require_room(folder: Path) -> None:
    """Require room for a few pages: OSError, in one sentence, where they cannot be written."""
    probe = folder / f".room.{os.getpid()}"
    try:
        probe.write_bytes(bytes(LITTLE))
    except OSError as error:
        raise OSError(f"nothing can be written into '{folder}' ({error.strerror}): mend that first") from error
    finally:
        with suppress(OSError):
            probe.unlink(missing_ok=True)


def reason(folder: Path, error: Exception) -> str:
    """Reason why a library could not write: many hide a full disk behind an error of their own.

    Args:
        folder: where it wrote; what it has written so far is still there.
        error: what it has raised.
    """
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    free = shutil.disk_usage(folder).free
    return os.strerror(ENOSPC) if free < LITTLE else f"{' '.join(str(error).split())} ({free // 2**20} MiB are free)"


@contextmanager
def quiet_threads() -> Iterator[None]:
    """Silence threads that end on a full disk: those who wait for them tell."""
    before = threading.excepthook

    def hook(arguments: threading.ExceptHookArgs) -> None:
        if not isinstance(arguments.exc_value, OSError):
            before(arguments)

    threading.excepthook = hook
    try:
        yield
    finally:
        threading.excepthook = before
