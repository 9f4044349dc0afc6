"""Batch of an optimizer step, and the processes that share it."""

from typing import TypedDict


class Batch(TypedDict):
    """``pictures`` per optimizer step: ``accumulated`` batches of ``per_process`` in each of so many ``processes``."""

    pictures: int  # the key of earlier versions' records
    per_process: int
    processes: int
    accumulated: int


def in_words(batch: Batch) -> str:
    """Size of a batch in words, with its factors where there are several processes or batches."""
    if batch["pictures"] == batch["per_process"]:
        return str(batch["pictures"])
    factors = [f"{batch['per_process']} in each of {batch['processes']} processes"] * (batch["processes"] > 1)
    factors += [f"{batch['accumulated']} batches accumulated"] * (batch["accumulated"] > 1)
    return f"{batch['pictures']} ({', '.join(factors)})"
