"""Hint for a run that something outside of it has ended: the command that goes on."""

from pathlib import Path

from pruning_lit.system.deaths import from_outside


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
