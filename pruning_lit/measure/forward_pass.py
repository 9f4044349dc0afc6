"""Cost of a forward pass on this machine: the time and the memory that one batch takes."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from lightning_utilities.core.apply_func import apply_to_collection
from torch import Tensor, nn

from pruning_lit.measure.memory import peak_memory
from pruning_lit.measure.stopwatch import Example, Stopwatch, seconds_in_turns
from pruning_lit.records.latency import Timing


@dataclass(frozen=True)
class ForwardPass:
    """One network and one size of batches.

    Args:
        batch_size: images in a batch.
        repeats: timed passes.
        timing: wall time of a pass.
        peak_memory: most bytes in use, see ``peak_memory``.
    """

    batch_size: int
    repeats: int
    timing: Timing
    peak_memory: int

    @property
    def throughput(self) -> float:
        """Images per second at the median."""
        return 1e3 * self.batch_size / self.timing.median_ms


def forward_passes(
    nets: Sequence[nn.Module], example: Example, stopwatch: Stopwatch, device: torch.device
) -> list[list[ForwardPass]]:
    """Measure all networks: their memory one by one, their time in turns.

    Args:
        nets: on the CPU; afterwards they are on the device.
        example: one image, ``(1, C, H, W)``; or several tensors, each an argument.
        stopwatch: says how large batches are and how often they are timed.
        device: where to measure; nothing else may lie there.

    Returns:
        For every network one record per size of batches.
    """
    batches = [_repeated(example, size) for size in stopwatch.batch_sizes]
    memory = []
    for net in nets:
        memory.append([peak_memory(net.to(device), batch) for batch in batches])
        net.cpu()  # out of the way of the next one
    there = [net.to(device) for net in nets]
    limits = (stopwatch.repeats, stopwatch.warmup, stopwatch.max_seconds)
    seconds = [seconds_in_turns(there, batch, *limits) for batch in batches]  # by batch, then by network
    return [
        [
            ForwardPass(size, len(times[which]), Timing.of(times[which]), peak)
            for size, times, peak in zip(stopwatch.batch_sizes, seconds, peaks, strict=True)
        ]
        for which, peaks in enumerate(memory)
    ]


def _repeated(example: Example, size: int) -> Any:
    return apply_to_collection(example, Tensor, lambda each: torch.cat([each] * size))
