"""From an exception to the one sentence that a user needs."""

import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from hydra.errors import HydraException, InstantiationException
from omegaconf.errors import MissingMandatoryValue, OmegaConfBaseException

from pruning_lit.command_line.composition import of_the_command_line
from pruning_lit.system.deaths import LostProcess, of_a_process


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
    if isinstance(error, ValueError | OSError | OmegaConfBaseException | HydraException | LostProcess):
        return _one_line(error)
    return of_a_process(error)


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


def _short(key: str) -> str:
    """The name under which a user sets a value: criterion and sparsity are only referred to by the pruning callback."""
    return re.sub(r"^.*\.(?=(criterion|sparsity)\.)", "", key)


def _one_line(error: BaseException) -> str:
    text = str(error)
    if isinstance(error, OSError) and error.strerror is not None:
        text = f"{error.strerror}: {error.filename}" if error.filename is not None else error.strerror
    if "Original Traceback" in text:  # from a process that prepares data; the last line is the error
        text = text.strip().splitlines()[-1].partition(": ")[2]
    return " ".join(text.split())


def _where(error: InstantiationException) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip().startswith("full_key:")]
    return f" ({lines[-1]})" if lines else ""
