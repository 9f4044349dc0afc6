"""Loading of large packages, or of their sources, without the garbage collector."""

import gc
import sys
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def loading() -> Iterator[None]:
    """Load what stays: millions of objects, no garbage among them, and to look for it takes a fifth of the time.

    Once modules have been loaded, the collector leaves all that is there alone for good.
    """
    collecting, known = gc.isenabled(), len(sys.modules)
    gc.disable()
    try:
        yield
    finally:
        if len(sys.modules) > known:
            gc.freeze()
        if collecting:
            gc.enable()
