"""Worker processes that fetch batches ahead of time."""

import time
from collections.abc import Iterable, Iterator
from typing import Any

import torch
from torch import Generator
from torch.utils.data import DataLoader, Dataset

from pruning_lit.system.processors import num_processors


def from_workers(dataset: Dataset, orders: Iterable[list[Any]], num_workers: int) -> Iterator[Any]:
    """Batches that a data set makes of what is ordered, some ahead of time where there are worker processes.

    Where a worker is killed while it hands over a batch, the connection breaks first; torch says what has happened when
    the system's signal comes, right after.

    Args:
        dataset: with ``__getitems__``, which takes the orders of a batch and gives the batch; each worker has a copy.
        orders: of every batch.
        num_workers: at most one per processor; 0: this process does it.

    Raises:
        RuntimeError: a worker has died.
    """
    loader = DataLoader(
        dataset,
        batch_sampler=orders,
        num_workers=min(num_workers, num_processors()),
        collate_fn=_as_it_is,
        pin_memory=torch.cuda.is_available(),
        generator=Generator(),  # else it would draw from the run's random state
    )
    try:
        yield from loader
    except (ConnectionError, EOFError, FileNotFoundError) as error:
        time.sleep(1)
        raise RuntimeError(f"DataLoader worker (pid unknown) cannot be reached: {error}") from error


def require_workers(num_workers: int) -> None:
    """ValueError where the setting is no number of processes."""
    if num_workers < 0:
        raise ValueError(f"dataset.num_workers is {num_workers}, but it is a number of processes (0: none)")


def _as_it_is(batch: Any) -> Any:
    return batch
