"""Latency of forward passes on this machine: measured, several networks in turns."""

from collections.abc import Sequence
from time import perf_counter
from typing import Any

import torch
from lightning_utilities.core.apply_func import apply_to_collection
from torch import Tensor, nn

from pruning_lit.channels.tracing.operations import evaluating
from pruning_lit.measure.heap import freed_memory_kept
from pruning_lit.measure.machine import hardware
from pruning_lit.records.latency import FEWEST, Latency, Timing

Example = Tensor | tuple[Any, ...]


class Stopwatch:
    """Times the forward passes of two networks against each other.

    The passes alternate, and so does which network goes first, so that a machine whose load drifts slows both alike.

    Args:
        batch_size: images in a pass; one number, or several to be measured one after the other.
        repeats: timed passes of each network.
        warmup: passes of each network before them that are not timed.
        max_seconds: when a batch size has taken that long, it ends with the passes made so far, at least three.

    Raises:
        ValueError: a setting is out of its range.
    """

    def __init__(
        self,
        batch_size: int | Sequence[int] = (1, 64),
        repeats: int = 30,
        warmup: int = 5,
        max_seconds: float = 20.0,
    ) -> None:
        self.batch_sizes = list(batch_size) if isinstance(batch_size, Sequence) else [batch_size]
        if not self.batch_sizes or any(not isinstance(size, int) or size < 1 for size in self.batch_sizes):
            raise ValueError(f"latency.batch_size is {batch_size}, but a batch has at least 1 image")
        if repeats < 1 or warmup < 0:
            raise ValueError(
                f"latency.repeats is {repeats} and latency.warmup {warmup}, "
                "but measuring takes at least 1 timed pass and no less than 0 before it"
            )
        if max_seconds < 0:
            raise ValueError(f"latency.max_seconds is {max_seconds}, but a time is not negative")
        self.repeats, self.warmup, self.max_seconds = repeats, warmup, max_seconds

    def compare(self, before: nn.Module, after: nn.Module, example: Tensor) -> list[Latency]:
        """Time two networks in eval mode and without gradients, on the device and in the precision of their parameters.

        Args:
            before: the dense network; its train/eval modes are as before afterwards.
            after: the pruned network, likewise.
            example: shape ``(N, C, H, W)``; its first image is repeated to fill the batches.

        Returns:
            One comparison per batch size, in their order.
        """
        return [self._compare(before, after, example, batch_size) for batch_size in self.batch_sizes]

    def _compare(self, before: nn.Module, after: nn.Module, example: Tensor, batch_size: int) -> Latency:
        repeat = lambda each: torch.cat([each[:1]] * batch_size)  # noqa: E731 - cat, not expand: keeps channels_last
        batch = apply_to_collection(example, Tensor, repeat)
        dense, pruned = seconds_in_turns([before, after], batch, self.repeats, self.warmup, self.max_seconds)
        device = hardware(_device(after))
        return Latency(batch_size, len(dense), Timing.of(dense), Timing.of(pruned), device, torch.get_num_threads())


def seconds_in_turns(
    nets: Sequence[nn.Module], example: Example, repeats: int, warmup: int, max_seconds: float = float("inf")
) -> list[list[float]]:
    """Wall times in seconds of the timed passes, as many for each network; see :class:`Stopwatch`.

    Args:
        nets: the networks, each on the device of its parameters.
        example: input, shape ``(N, C, H, W)``, or a tuple of arguments; moved to the devices of the networks.
        repeats: as for :class:`Stopwatch`, like the next two.
        warmup: passes of each network that are not timed.
        max_seconds: when passes are left out.
    """
    devices = [_device(net) for net in nets]
    arguments = [_moved(example if isinstance(example, tuple) else (example,), device) for device in devices]
    times: list[list[float]] = [[] for _ in nets]
    deadline = perf_counter() + max_seconds
    with evaluating(*nets, fused=True), torch.inference_mode(), freed_memory_kept():
        for turn in range(-warmup, repeats):
            late = perf_counter() > deadline
            if late and (-warmup < turn < 0 or turn >= FEWEST):  # one pass warms up a network that is so slow
                continue
            order = range(len(nets)) if turn % 2 == 0 else reversed(range(len(nets)))
            for i in order:
                seconds = _time(nets[i], arguments[i], devices[i])
                if turn >= 0:
                    times[i].append(seconds)
    return times


def _time(net: nn.Module, arguments: tuple[Any, ...], device: torch.device) -> float:
    _wait(device)
    start = perf_counter()
    net(*arguments)
    _wait(device)
    return perf_counter() - start


def _wait(device: torch.device) -> None:
    if device.type != "cpu":  # kernels are only queued by the forward pass
        torch.accelerator.synchronize(device)


def _device(net: nn.Module) -> torch.device:
    tensor = next(net.parameters(), next(net.buffers(), torch.empty(0)))
    return tensor.device


def _moved(value: Any, device: torch.device) -> Any:
    if isinstance(value, Tensor):
        return value.to(device)
    if isinstance(value, (tuple, list)):
        return type(value)(_moved(item, device) for item in value)
    if isinstance(value, dict):
        return {key: _moved(item, device) for key, item in value.items()}
    return value
