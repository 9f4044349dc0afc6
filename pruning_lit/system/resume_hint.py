"""How to go on with a run that something outside of it has ended."""

from pathlib import Path

from pruning_lit.system.deaths import from_outside


def way_on(error: BaseException, folder: Path, command: str) -> str:
    """The end of the sentence on an error; empty where the run itself has to change, or nothing was to be saved yet.

    Args:
        error: what has ended the run.
        folder: of the run.
        command: that continues the run, or the sweep that it belongs to.
    """
    if not from_outside(error) or not (folder / "phases").is_dir():
        return ""
    return f"; once that is mended, go on with: {command}"
