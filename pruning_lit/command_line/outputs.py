"""Errors of the folder for outputs, which Hydra makes before the work begins."""

import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from hydra.errors import HydraException  # one of them, on a config that is missing, is an OSError


@contextmanager
def naming_outputs(work: Callable[..., Any]) -> Iterator[None]:
    """Name the folder for outputs in errors of the disk that did not come out of ``work``.

    Raises:
        OSError: in one sentence.
    """
    try:
        yield
    except OSError as error:
        if (
            isinstance(error, BrokenPipeError | HydraException)
            or error.__cause__ is not None
            or _came_out_of(work, error)
        ):
            raise
        place = f" {str(error.filename)!r}" if error.filename is not None else ""
        raise OSError(
            f"the folder for outputs{place} cannot be written ({error.strerror or error}): mend that, or name another "
            "one, hydra.run.dir=… (of a sweep hydra.sweep.dir=…)"
        ) from error


def _came_out_of(work: Callable[..., Any], error: BaseException) -> bool:
    code = work.__code__
    return any(frame.f_code is code for frame, _ in traceback.walk_tb(error.__traceback__))
