"""Hint for a run that something outside of it has ended: the command that goes on."""

import shlex
from collections.abc import Sequence
from pathlib import Path

from pruning_lit.system.deaths import from_outside

KEPT = ("phases", "trials.jsonl")  # what a run, and an analysis of sensitivity, goes on with


def resuming(folder: Path, allowing: Sequence[str] = (), module: str = "pruning_lit") -> str:
    """Command that continues the run or the sweep in ``folder``, quoted for the shell, with these words beside it.

    Args:
        folder: of the run, the sweep or the analysis.
        allowing: overrides that no folder can give by itself.
        module: name of the command behind ``python -m``, by which it was begun.
    """
    return shlex.join(["python", "-m", module, f"resume={folder}", *allowing])


def how_to_resume(error: BaseException, folder: Path, command: str) -> str:
    """End of the sentence on an error; empty where the run itself has to change, or nothing was to be saved yet.

    Args:
        error: what has ended the run.
        folder: of the run.
        command: that continues the run, or the sweep that it belongs to.
    """
    if not from_outside(error) or not any((folder / each).exists() for each in KEPT):
        return ""
    return f"; once that is mended, go on with: {command}"
