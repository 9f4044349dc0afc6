"""Errors of a user's own code, in one line."""

import sysconfig
import traceback
from pathlib import Path

PACKAGE = Path(__file__).parents[1]


def in_one_line(error: BaseException) -> str:
    """Error of a user's own code in one line: message, type where the message says little, and the place.

    Args:
        error: the exception; lines of installed packages and of this one are not told.
    """
    text = next(iter(str(error).strip().splitlines()), "")
    if " " not in text or isinstance(error, KeyError):
        text = f"{type(error).__name__}: {text}".removesuffix(": ")
    return f"{text}{_own_line(error)}"


def _own_line(error: BaseException) -> str:
    paths = sysconfig.get_paths()
    others = (*(paths[key] for key in ("stdlib", "purelib", "platlib")), str(PACKAGE))
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if Path(frame.filename).is_file()]
    lines = [frame for frame in frames if not frame.filename.startswith(others)]
    return f" ({Path(lines[-1].filename).name}, line {lines[-1].lineno})" if lines else ""
