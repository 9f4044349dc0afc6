"""Why a job failed, told in its folder: one sentence in a file, for the summary of the sweep."""

from contextlib import suppress
from pathlib import Path

from pruning_lit.system.atomic import write_text

FAILED_NAME = "failed.txt"


def note_failure(folder: Path, told: str) -> None:
    """Write the sentence into the job's folder; where nothing can be written, the log has it all the same."""
    with suppress(OSError):  # a full disk, say, which may be the very failure
        write_text(folder / FAILED_NAME, told + "\n")


def forget_failure(folder: Path) -> None:
    """The job has ended well after all."""
    (folder / FAILED_NAME).unlink(missing_ok=True)


def noted_failure(folder: Path) -> str | None:
    """The sentence, or None: the job has not failed, or was ended by force."""
    path = folder / FAILED_NAME
    return path.read_text(encoding="utf-8").strip() if path.is_file() else None
