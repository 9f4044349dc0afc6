"""From an exception to the one sentence that a user needs."""

import re
import sys
import sysconfig
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from hydra.errors import HydraException, InstantiationException
from omegaconf.errors import MissingMandatoryValue, OmegaConfBaseException

from pruning_lit.composition import of_the_command_line


def sentence(error: BaseException) -> str | None:
    """What a user can mend, in one sentence; None for what only we can have broken (that deserves its traceback)."""
    if isinstance(error, InstantiationException):
        if found := re.match(r"Error locating target '([^']*)'", str(error)):
            return f"{found[1]} cannot be imported; expected the dotted name of a class or a function{_where(error)}"
        if isinstance(error.__cause__, TypeError):  # a key that the constructor does not have, or lacks
            return f"the configuration does not fit: {_one_line(error.__cause__)}{_where(error)}"
        return sentence(error.__cause__) if error.__cause__ else _one_line(error)
    if isinstance(error, MissingMandatoryValue):
        return f"a value has to be given: {_short(str(error.full_key))}=…"
    if told := of_the_command_line(error):
        return told
    if isinstance(error, BrokenPipeError):  # nobody listens any more: no error of the user's
        return None
    if isinstance(error, ValueError | OSError | OmegaConfBaseException | HydraException):
        return _one_line(error)
    return _of_a_process(error)


def _of_a_process(error: BaseException) -> str | None:
    """What one of several processes, or a worker of the data, has died of."""
    kind, text = type(error).__name__, str(error)  # by name: these classes are torch's, which takes seconds to load
    if kind == "MisconfigurationException":  # of Lightning: the trainer's settings
        return f"trainer: {' '.join(text.split())}"
    if kind == "ProcessRaisedException":  # somebody else's traceback; its last line is the error
        last = text.strip().splitlines()[-1]
        raised, _, message = last.partition(": ")
        return message if raised in ("ValueError", "FileNotFoundError", "OSError") else None
    if kind == "ProcessExitedException" or "worker (pid" in text:
        return f"{' '.join(text.split())}; the others were ended, and resume=<folder> goes on from the last checkpoint"
    return None


@contextmanager
def ending_in_a_sentence() -> Iterator[None]:
    """The command ends with exit code 1 and the sentence on what a user can mend; all else is raised on."""
    try:
        yield
    except Exception as error:
        told = sentence(error)
        if told is None:
            raise
        sys.exit(f"error: {told}")


def described(error: BaseException) -> str:
    """What somebody's own code has raised, in words: message, type where the message says little, and the line.

    Args:
        error: the exception; lines of installed packages and of this one are not told.
    """
    text = next(iter(str(error).strip().splitlines()), "")
    if " " not in text or isinstance(error, KeyError):
        text = f"{type(error).__name__}: {text}".removesuffix(": ")
    return f"{text}{_own_line(error)}"


def _own_line(error: BaseException) -> str:
    paths = sysconfig.get_paths()
    others = (*(paths[key] for key in ("stdlib", "purelib", "platlib")), str(Path(__file__).parent))
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if Path(frame.filename).is_file()]
    lines = [frame for frame in frames if not frame.filename.startswith(others)]
    return f" ({Path(lines[-1].filename).name}, line {lines[-1].lineno})" if lines else ""


def _short(key: str) -> str:
    """The name under which a user sets a value: criterion and sparsity are only referred to by the pruning callback."""
    return re.sub(r"^.*\.(?=(criterion|sparsity)\.)", "", key)


def _one_line(error: BaseException) -> str:
    text = str(error)
    if isinstance(error, OSError) and error.strerror is not None:
        text = f"{error.strerror}: {error.filename}" if error.filename is not None else error.strerror
    return " ".join(text.split())


def _where(error: InstantiationException) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip().startswith("full_key:")]
    return f" ({lines[-1]})" if lines else ""
