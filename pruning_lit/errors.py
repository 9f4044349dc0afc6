"""From an exception to the one sentence that a user needs."""

import builtins
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
    if isinstance(error, ValueError | OSError | OmegaConfBaseException | HydraException | LostProcess):
        return _one_line(error)
    return _of_a_process(error)


class LostProcess(Exception):
    """A process of the run has died; which, in one sentence.

    Args:
        told: the sentence.
        by_itself: the process has said why, before it ended.
    """

    def __init__(self, told: str, by_itself: bool = False) -> None:
        super().__init__(told)
        self.by_itself = by_itself


def is_lost_connection(error: BaseException) -> bool:
    """Whether a process could not reach another one any more, as when that one has died."""
    kind, text = _raised(error)
    return kind.startswith("Dist") or (kind == "RuntimeError" and ("gloo" in text or "closed by peer" in text))


def is_dead_worker(error: BaseException) -> bool:
    """Whether a process that prepares data has died; torch raises it from a signal, in the middle of anything."""
    return _raised(error)[1].startswith("DataLoader worker (pid")


def from_outside(error: BaseException) -> bool:
    """Whether the run has failed for a disk, data, or a process, so that it can go on as it is once that is mended."""
    kind, _ = _raised(error)
    return (
        issubclass(getattr(builtins, kind, type(error)), OSError | LostProcess)
        or kind in ("UnreadablePicture", "ProcessExitedException")
        or is_dead_worker(error)
        or is_lost_connection(error)
    )


def _of_a_process(error: BaseException) -> str | None:
    """What one of several processes, or a worker of the data, has died of."""
    kind, text = _raised(error)
    if kind == "MisconfigurationException":  # of Lightning: the trainer's settings
        return f"trainer: {' '.join(text.split())}"
    if is_dead_worker(error):
        return f"a process that prepares pictures has died, for want of memory perhaps ({text.strip().rstrip('.')})"
    if kind == "ProcessExitedException":
        return f"{' '.join(text.split())}; the others were ended"
    if is_lost_connection(error):
        return "another process of this run has died, and this one was ended: look at the messages of the others"
    mendable = kind == "UnreadablePicture" or issubclass(getattr(builtins, kind, Exception), ValueError | OSError)
    return text if mendable else None


def _raised(error: BaseException) -> tuple[str, str]:
    """Name and message of an error; of a process' traceback those in its last line.

    By name: these classes are torch's and the data's, which take seconds to load.
    """
    kind, text = type(error).__name__, str(error)
    if kind != "ProcessRaisedException":
        return kind, text
    raised, _, message = text.strip().splitlines()[-1].partition(": ")
    return raised.rpartition(".")[2], message


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
    if "Original Traceback" in text:  # from a process that prepares data; the last line is the error
        text = text.strip().splitlines()[-1].partition(": ")[2]
    return " ".join(text.split())


def _where(error: InstantiationException) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip().startswith("full_key:")]
    return f" ({lines[-1]})" if lines else ""
