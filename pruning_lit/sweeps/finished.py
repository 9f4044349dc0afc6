"""Settings of a finished job, kept in its folder: who asks for the same again need not wait for it.

Hydra writes down overrides and config as well, but anew at every start, before anybody can look at the old ones.
"""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from pruning_lit.reports.record import JSON_NAME
from pruning_lit.system.atomic import write_text

FINISHED_NAME = "finished.json"  # in .hydra


def note_finished(folder: Path, settings: dict[str, Any], overrides: Sequence[str]) -> None:
    """Write down what was asked for.

    Args:
        folder: of the job.
        settings: plain nested data; all that decides the result, and nothing else.
        overrides: as on the command line.
    """
    write_text(_place(folder), _text({"overrides": list(overrides), "settings": settings}))


def is_finished(
    folder: Path, settings: dict[str, Any], present: Callable[[dict[str, Any]], dict[str, Any]] = dict
) -> bool:
    """True if the folder has the report of a job with these settings.

    Args:
        folder: of the job.
        settings: all that decides the result.
        present: gives former settings their present names.
    """
    noted = _noted(folder).get("settings")
    return (folder / JSON_NAME).is_file() and noted is not None and present(noted) == json.loads(_text(settings))


def finished_with(folder: Path) -> list[str] | None:
    """The overrides of the job that was finished there; None where they were not written down."""
    return _noted(folder).get("overrides")


def _noted(folder: Path) -> dict[str, Any]:
    try:
        return json.loads(_place(folder).read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):  # not finished, or damaged: the job is looked at once more
        return {}


def _place(folder: Path) -> Path:
    return folder / ".hydra" / FINISHED_NAME


def _text(data: dict[str, Any]) -> str:
    return json.dumps(data, indent=2, default=str) + "\n"
