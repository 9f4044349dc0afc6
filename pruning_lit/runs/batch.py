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


def require_same_size(then: Batch | None, now: Batch, phase: str) -> None:
    """Refuse to go on with other images per step: ValueError that says how to have the same.

    Args:
        then: of the sitting before; None where an earlier version has trained.
        now: of this one.
        phase: its name.
    """
    if then is None or then["pictures"] == now["pictures"]:
        return
    per_step = now["processes"] * now["accumulated"]
    size, rest = divmod(then["pictures"], per_step)
    shared = f"dataset.batch_size={size}" if not rest else f"a number of processes that divides {then['pictures']}"
    raise ValueError(
        f"phase {phase} was begun with {in_words(then)} images per step, and would go on with {in_words(now)}, which "
        f"is another training: give {shared}, or as many processes as before ({then['processes']}) and "
        f"trainer.accumulate_grad_batches={then['accumulated']}"
    )
