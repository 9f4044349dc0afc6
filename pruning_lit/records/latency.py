"""Forward times of two networks at one batch size, as plain data."""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median, quantiles
from typing import Any, Self

FEWEST = 3  # timed passes: quartiles of fewer say nothing about noise


@dataclass(frozen=True)
class Timing:
    """Latency of a network: the wall time of its forward passes.

    Args:
        median_ms: wall time in milliseconds that half of the passes stayed below.
        lower_ms, upper_ms: the quartiles: the middle half of the passes took between these.
    """

    median_ms: float
    lower_ms: float
    upper_ms: float

    @classmethod
    def of(cls, seconds: Sequence[float]) -> Self:
        """The timing of these passes, at least one, given in seconds."""
        passes = [1e3 * each for each in seconds]
        lower, _, upper = quantiles(passes, n=4, method="inclusive") if len(passes) > 1 else passes * 3
        return cls(median(passes), lower, upper)


@dataclass(frozen=True)
class Latency:
    """Forward times before and after pruning.

    Args:
        batch_size: images in a pass.
        repeats: timed passes of each network.
        before, after: the dense and the pruned network.
        device: the processor they were measured on.
        threads: CPU threads that PyTorch used.
    """

    batch_size: int
    repeats: int
    before: Timing
    after: Timing
    device: str
    threads: int

    @property
    def speedup(self) -> float | None:
        """Speed-up of the pruned network, see :func:`speedup`; None: too noisy to tell."""
        return speedup(self.before, self.after, self.repeats)

    def throughput(self, timing: Timing) -> float:
        """Images per second at the median of ``timing``, one of the two."""
        return 1e3 * self.batch_size / timing.median_ms

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Self:
        """Back from the dictionary that a report keeps; what it has beside the fields is left out."""
        known = {key: data[key] for key in ("batch_size", "repeats", "device", "threads")}
        return cls(**known, before=Timing(**data["before"]), after=Timing(**data["after"]))


def speedup(before: Timing, after: Timing, repeats: int) -> float | None:
    """Ratio of two median latencies, before to after.

    Args:
        before: timing of the one network.
        after: timing of the other, measured in turns with it.
        repeats: timed passes of each.

    Returns:
        The ratio, above 1 where ``after`` is faster; None where it is too noisy to tell: the quartiles of the two
        overlap, or those of one are further apart than half its median, or there are fewer passes than :data:`FEWEST`.
    """
    apart = before.upper_ms < after.lower_ms or after.upper_ms < before.lower_ms
    steady = all(each.upper_ms - each.lower_ms < each.median_ms / 2 for each in (before, after))
    return before.median_ms / after.median_ms if apart and steady and repeats >= FEWEST else None
