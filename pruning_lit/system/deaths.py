"""Deaths of processes, as another one hears of them."""

import builtins

from pruning_lit.system.preemption import LEFT

NOT_DETERMINISTIC = "does not have a deterministic implementation"  # torch's words


GONE = ("ProcessExitedException", "TerminatedWorkerError", "UncompletedJobError")  # of torch, joblib and submitit


class LostProcess(Exception):
    """Death of a process of the run, in one sentence.

    Args:
        told: the sentence.
        by_itself: the process has said why, before it ended.
    """

    def __init__(self, told: str, by_itself: bool = False) -> None:
        super().__init__(told)
        self.by_itself = by_itself


def left(error: BaseException) -> bool:
    """True if another process of the run has left as it was asked to."""
    return getattr(error, "exit_code", None) == LEFT  # of torch's ProcessExitedException


def is_lost(error: BaseException) -> bool:
    """True if another process has died, whatever for."""
    gone = isinstance(error, LostProcess) or _raised(error)[0] in GONE
    return gone or is_dead_worker(error) or is_lost_connection(error)


def is_lost_connection(error: BaseException) -> bool:
    """True if a process could not reach another one any more, as when that one has died."""
    kind, text = _raised(error)
    return kind.startswith("Dist") or (kind == "RuntimeError" and ("gloo" in text or "closed by peer" in text))


def is_dead_worker(error: BaseException) -> bool:
    """True if a process that prepares data has died; torch raises it from a signal, in the middle of anything."""
    return _raised(error)[1].startswith("DataLoader worker (pid")


def from_outside(error: BaseException) -> bool:
    """True if the run has failed for a disk, data, or a process, and can go on as it is once that is mended."""
    kind, _ = _raised(error)
    return (
        issubclass(getattr(builtins, kind, type(error)), OSError | LostProcess)
        or kind in ("UnreadableImage", "ProcessExitedException")
        or is_dead_worker(error)
        or is_lost_connection(error)
    )


def process_error(error: BaseException) -> str | None:
    """Sentence on the death of a process or of a data worker; None for other errors."""
    kind, text = _raised(error)
    if kind == "MisconfigurationException":  # of Lightning: the trainer's settings
        return f"trainer: {' '.join(text.split())}"
    if NOT_DETERMINISTIC in text:
        return f"deterministic=true: {text.partition(',')[0].strip()} on this device; leave it out, or run on the CPU"
    if is_dead_worker(error):
        return f"a process that prepares images has died, for want of memory perhaps ({text.strip().rstrip('.')})"
    if kind == "ProcessExitedException":
        return f"{' '.join(text.split())}; the others were ended"
    if kind == "UncompletedJobError":  # of submitit, whose message is the job's whole log
        return "a job of the sweep has ended without a result; its log is in .submitit, and resume=<folder> goes on"
    if kind == "TerminatedWorkerError":
        return "a process that runs jobs of the sweep has died, for want of memory perhaps; resume=<folder> goes on"
    if is_lost_connection(error):
        return "another process of this run has died, and this one was ended: look at the messages of the others"
    mendable = kind == "UnreadableImage" or issubclass(getattr(builtins, kind, Exception), ValueError | OSError)
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
