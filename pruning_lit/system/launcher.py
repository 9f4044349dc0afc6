"""Rank and number of processes, as torchrun or srun tells them."""

import os
from collections.abc import Mapping

RANKS = (("RANK", "WORLD_SIZE"), ("SLURM_PROCID", "SLURM_NTASKS"))  # torchrun, srun


def rank(environment: Mapping[str, str] = os.environ) -> int:
    """Rank of this process in its run, whoever has started it: 0 speaks for all."""
    return place(environment)[0] or int(environment.get("LOCAL_RANK", 0))


def place(environment: Mapping[str, str] = os.environ) -> tuple[int, int]:
    """Rank of this process, and number of those that a launcher has started.

    Those that Lightning starts itself have been told their folder, and do not count here.
    """
    for rank, size in RANKS:
        if rank in environment and size in environment:
            return int(environment[rank]), int(environment[size])
    return 0, 1
