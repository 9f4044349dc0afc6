"""Number of threads that torch computes with on the processor: what is available and worth it, the same on resume.

With more threads sums are split in other ways, so that a run keeps the number it was begun with.
"""

import copy
import json
import logging
import os
import time
from pathlib import Path
from typing import Any

import torch
from lightning_utilities.core.apply_func import apply_to_collection
from pytorch_lightning.utilities import rank_zero_only
from torch import Tensor, nn

from pruning_lit.channels import cost, trace
from pruning_lit.channels.tracing.operations import tensors_of
from pruning_lit.system.atomic import write_text
from pruning_lit.system.processors import num_processors
from pruning_lit.tasks.base import forward

log = logging.getLogger(__name__)
BY_DEFAULT = torch.get_num_threads()  # of torch, before a run has chosen any
SAID_BY = ("OMP_NUM_THREADS", "MKL_NUM_THREADS")
MACS_PER_PASS = 3e8  # of a tried pass: a tenth of a second of one thread
PASSES = 3  # of each number of threads, in turns
MOST = 1024  # threads that a file may ask for
WORTH_IT = 1.2  # times as fast as with half as many


def stay_within_quota() -> None:
    """Lower the number of threads to that of the processors which this process may use."""
    torch.set_num_threads(min(torch.get_num_threads(), num_processors()))


def settle_threads(
    folder: Path,
    net: nn.Module,
    example: Any,
    batch_size: int,
    asked: int | None = None,
    processes: int | None = 1,
    trying: bool = True,
) -> None:
    """Set the number of torch's threads, and keep it in the folder for whoever goes on there.

    It is ``asked``, what the folder says, what the environment says, or else found: all processors that may be used
    are shared among the processes, and one process tries more and more threads for as long as they are worth it.
    Where a phase has been begun and no number kept, an earlier version has trained, with as many as torch has.

    Args:
        folder: of the run.
        net: the network; a copy of it is tried.
        example: inputs of a batch of one.
        batch_size: of the training.
        asked: by the user; None: nothing.
        processes: that train on this machine; None: several, nobody knows how many.
        trying: the processor trains, and what the machine does beside may have a say in the last bits.
    """
    kept, usable = folder / "threads.json", min(BY_DEFAULT, num_processors())
    if asked is not None:
        number, why = asked, "as trainer.threads says"
    elif (begun_with := _read(kept)) is not None:
        number, why = begun_with, "as at the beginning of this run"
    elif said := next((name for name in SAID_BY if name in os.environ), None):
        number, why = torch.get_num_threads(), f"as {said} says"
    elif (folder / "phases").is_dir():
        number, why = BY_DEFAULT, "as torch has by default"
    elif processes != 1 or not trying:
        number, why = max(1, usable // (processes or usable)), f"of {usable} processors that may be used"
    else:
        macs = max(1, cost(trace(net, example)).macs)
        number, why = fastest(net, example, max(1, min(batch_size, round(MACS_PER_PASS / macs))), usable)
    torch.set_num_threads(number)
    if getattr(rank_zero_only, "rank", 0) == 0:
        log.info("threads of torch: %d, %s; trainer.threads=… sets their number", number, why)
        write_text(kept, json.dumps({"threads": number}) + "\n")


def fastest(net: nn.Module, example: Any, batch_size: int, most: int) -> tuple[int, str]:
    """The number of threads, 1, 2, 4 … ``most``, up to which each step is worth it; and the sentence that says why."""
    inputs = apply_to_collection(example, Tensor, lambda each: each.repeat_interleave(batch_size, 0))
    trial, number = copy.deepcopy(net), 1
    while number < most:
        more = min(2 * number, most)
        passes = [[_seconds(trial, inputs, threads) for threads in (number, more)] for _ in range(1 + PASSES)]
        before, after = (sum(each) for each in zip(*passes[1:], strict=True))  # the first ones set things up
        if before < WORTH_IT * after:
            return number, f"as {more} are {before / after:.2f} times as fast; {most} processors may be used"
        number = more
    return number, "as many as there are processors that may be used"


def _read(path: Path) -> int | None:
    """The number that a run was begun with; None where there is none, or the file is damaged."""
    try:
        number = json.loads(path.read_text(encoding="utf-8"))["threads"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return number if isinstance(number, int) and 1 <= number <= MOST else None


def _seconds(net: nn.Module, inputs: Any, threads: int) -> float:
    """Wall time of a pass forwards and backwards."""
    torch.set_num_threads(threads)
    begun = time.perf_counter()
    with torch.random.fork_rng(devices=[]), torch.enable_grad():
        outputs = [each for each in tensors_of(forward(net.eval(), inputs)) if each.requires_grad]
        torch.autograd.backward(outputs, [torch.ones_like(each) for each in outputs])
    return time.perf_counter() - begun
