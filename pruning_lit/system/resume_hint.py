"""Hint for a run that something outside of it has ended: the command that goes on."""

import shlex
from collections.abc import Sequence
from pathlib import Path

from pruning_lit.system.deaths import from_outside


def resuming(folder: Path, allowing: Sequence[str] = ()) -> str:
    """Command that continues the run or the sweep in ``folder``, quoted for the shell, with these words beside it."""
    return shlex.join(["python", "-m", "pruning_lit", f"resume={folder}", *allowing])


def how_to_resume(error: BaseException, folder: Path, command: str) -> str:
    """End of the sentence on an error; empty where the run itself has to change, or nothing was to be saved yet.

    Args:
        error: what has ended the run.
        folder: of the run.
        command: that continues the run, or the sweep that it belongs to.
    """
    if not from_outside(error) or not (folder / "phases").is_dir():
        return ""
    return f"; once that is mended, go on with: {command}"
