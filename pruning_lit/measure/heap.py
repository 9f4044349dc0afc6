"""Freed memory that stays with the process, so that one pass of a network takes as long as the next."""

import ctypes
import sys
from collections.abc import Iterator
from contextlib import contextmanager

TRIM_THRESHOLD, MMAP_THRESHOLD = -1, -3  # parameters of mallopt
KEPT = 1 << 30  # bytes
ADAPTED = 32 << 20  # bytes: what glibc's own threshold grows to at most, which it does not once it has been set


@contextmanager
def freed_memory_kept() -> Iterator[None]:
    """Let glibc keep the memory of freed tensors of the CPU, and give it back afterwards; elsewhere nothing happens.

    By itself it gives large tensors back to the system as soon as they are freed, or does not, depending on all that
    was allocated before: passes of a network then take longer, for the pages that are asked for anew each time.
    Runtimes with an arena of their own do not give them back either.
    """
    library = ctypes.CDLL(None) if sys.platform == "linux" else None
    if library is None or not hasattr(library, "mallopt"):
        yield
        return
    library.mallopt(MMAP_THRESHOLD, KEPT)
    library.mallopt(TRIM_THRESHOLD, KEPT)
    try:
        yield
    finally:
        library.mallopt(MMAP_THRESHOLD, ADAPTED)
        library.mallopt(TRIM_THRESHOLD, 2 * ADAPTED)
        library.malloc_trim(0)
