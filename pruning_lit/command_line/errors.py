"""Exceptions told in one sentence."""

import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from hydra.errors import HydraException, InstantiationException
from omegaconf.errors import MissingMandatoryValue, OmegaConfBaseException

from pruning_lit.command_line.composition import composition_error
from pruning_lit.system.deaths import LostProcess, process_error


def sentence(error: BaseException) -> str | None:
    """Sentence for an error that a user can mend; None for others, which deserve their traceback."""
    if isinstance(error, InstantiationException):
        if found := re.match(r"Error locating target '([^']*)'", str(error)):
            return f"{found[1]} cannot be imported; expected the dotted name of a class or a function{_where(error)}"
        if isinstance(error.__cause__, TypeError):  # a key that the constructor does not have, or lacks
            return f"the configuration does not fit: {_one_line(error.__cause__)}{_where(error)}"
        return sentence(error.__cause__) if error.__cause__ else _one_line(error)
    if isinstance(error, MissingMandatoryValue):
        return f"a value has to be given: {_short(str(error.full_key))}=…"
    if told := composition_error(error):
        return told
    if isinstance(error, BrokenPipeError):  # nobody listens any more: no error of the user's
        return None
    if isinstance(error, ValueError | OSError | OmegaConfBaseException | HydraException | LostProcess):
        return _one_line(error)
    return process_error(error)


@contextmanager
def ending_in_a_sentence() -> Iterator[None]:
    """End the command with a sentence and exit code 1 on errors that a user can mend; raise the others on."""
    try:
        yield
    except Exception as error:
        told = sentence(error)
        if told is None:
            raise
        sys.exit(f"error: {told}")


def _short(key: str) -> str:
    """Key under which a user sets a value: criterion and sparsity are only referred to by the pruning callback."""
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
