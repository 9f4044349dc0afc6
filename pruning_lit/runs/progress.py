"""Progress of a phase on the disk: the checkpoint to go on from, and the best one so far."""

import logging
from pathlib import Path
from typing import Any, NamedTuple

from pruning_lit.callbacks.checkpoints import LAST, previous
from pruning_lit.runs.phase_checkpoint import read_checkpoint
from pruning_lit.system.plain_data import WantsToRunCode

log = logging.getLogger(__name__)


class Progress(NamedTuple):
    """A checkpoint that can be read, with what is in it."""

    path: Path
    checkpoint: dict[str, Any]


def progress(place: Path) -> Progress | None:
    """Progress of the phase in a folder, or None: there is no checkpoint, and it is begun.

    Raises:
        ValueError: none of its checkpoints can be read.
        WantsToRunCode: somebody has put one there that would run code.
    """
    last = place / LAST
    there = [path for path in (last, previous(last)) if path.is_file()]
    advice = f"delete {' and '.join(repr(path.name) for path in there)} there to begin the phase again"
    for path in there:
        try:
            found = Progress(path, read_checkpoint(path, advice))
        except WantsToRunCode:
            raise
        except ValueError as damage:
            if path == there[-1]:
                raise
            told = str(damage).removesuffix(f"; {advice}")
        else:
            if path != last:
                told = told if last in there else f"there is no {str(last)!r} any more"
                step = found.checkpoint["global_step"]
                log.warning("%s; going on from the one before it, of optimizer step %d", told, step)
            return found
    return None


def best_score(path: Path) -> float | None:
    """Primary metric on the validation part as the best checkpoint itself notes it; None where there is none to read.

    The last checkpoint may be older than the best, where a run was killed between the two.
    """
    if not path.is_file():
        return None
    try:
        states = read_checkpoint(path, "there is no best epoch for now")["callbacks"]
    except ValueError as damage:
        log.warning("%s", damage)
        return None
    noted = [state for key, state in states.items() if key.startswith("BestCheckpoint")]
    return float(noted[0]["best_model_score"]) if noted else None
