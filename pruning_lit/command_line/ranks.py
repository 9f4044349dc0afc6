"""One folder and one log for processes that a launcher (torchrun, srun) has started."""

import os
import re
from collections.abc import Mapping

from pruning_lit.system.launcher import place

PLACED = re.compile(r"\+*hydra\.(run|sweep)\.dir=|resume=")


def in_one_folder(arguments: list[str], environment: Mapping[str, str] = os.environ) -> list[str]:
    """Overrides of this process; all but the first leave Hydra's files to the first, and have a log of their own.

    Args:
        arguments: as typed, for all processes the same.
        environment: by which the launcher says how many processes there are, and which of them this one is.

    Raises:
        ValueError: every process would make a folder of its own, named after its time.
    """
    rank, size = place(environment)
    if size == 1:
        return arguments
    if not any(PLACED.match(word) for word in arguments):
        raise ValueError(
            f"{size} processes were started, and each would make a folder of its own: name one for all, "
            "hydra.run.dir=outputs/<name>, or for a sweep hydra.sweep.dir=outputs/<name>"
        )
    if rank == 0:
        return arguments
    return [*arguments, "hydra.output_subdir=null", f"hydra.job.name=run_of_process_{rank}"]
