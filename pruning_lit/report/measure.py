"""How fast a network is on this machine: latency of one forward pass, and pictures per second."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from statistics import median
from time import perf_counter
from typing import Any

import torch
from torch import Tensor, nn

Example = Tensor | tuple[Any, ...]


def latency_ms(net: nn.Module, example: Example, repeats: int = 30, warmup: int = 5) -> float:
    """Median wall time of one forward pass, in milliseconds, in eval mode and without gradients.

    Args:
        net: network, measured on the device of its parameters; its train/eval modes are as before afterwards.
        example: input, shape ``(N, C, H, W)``, or a tuple of arguments; moved to the device of the network.
        repeats: number of timed passes.
        warmup: number of passes before them that are not timed.

    Raises:
        ValueError: ``repeats`` is below 1.
    """
    return 1e3 * _median_seconds([net], example, repeats, warmup)[0]


def compare_latency(
    before: nn.Module, after: nn.Module, example: Example, repeats: int = 30, warmup: int = 5
) -> tuple[float, float]:
    """Latencies of two networks in milliseconds, ``(before, after)``, measured in turns.

    The passes alternate, and so does which network goes first, so that a machine whose load drifts slows both alike.
    Arguments and errors are those of :func:`latency_ms`.
    """
    first, second = _median_seconds([before, after], example, repeats, warmup)
    return 1e3 * first, 1e3 * second


def throughput(net: nn.Module, example: Tensor, batch_size: int = 64, repeats: int = 10, warmup: int = 2) -> float:
    """Pictures per second when whole batches go through the network, in eval mode and without gradients.

    Args:
        net: network, measured on the device of its parameters; its train/eval modes are as before afterwards.
        example: shape ``(N, C, H, W)``; its first picture is repeated ``batch_size`` times.
        batch_size: number of pictures in a pass.
        repeats: number of timed passes; the median counts.
        warmup: number of passes before them that are not timed.

    Raises:
        ValueError: ``repeats`` or ``batch_size`` is below 1.
    """
    return batch_size / _median_seconds([net], _batch(example, batch_size), repeats, warmup)[0]


def compare_throughput(
    before: nn.Module, after: nn.Module, example: Tensor, batch_size: int = 64, repeats: int = 10, warmup: int = 2
) -> tuple[float, float]:
    """Pictures per second of two networks, ``(before, after)``, measured in turns like :func:`compare_latency`.

    Arguments and errors are those of :func:`throughput`.
    """
    first, second = _median_seconds([before, after], _batch(example, batch_size), repeats, warmup)
    return batch_size / first, batch_size / second


def _batch(example: Tensor, batch_size: int) -> Tensor:
    if batch_size < 1:
        raise ValueError(f"throughput needs batches of at least 1 picture, got batch_size={batch_size}")
    return torch.cat([example[:1]] * batch_size)  # cat, not expand: keeps channels_last


def _median_seconds(nets: Sequence[nn.Module], example: Example, repeats: int, warmup: int) -> list[float]:
    if repeats < 1:
        raise ValueError(f"measuring time needs at least 1 timed pass, got repeats={repeats}")
    devices = [_device(net) for net in nets]
    arguments = [_moved(example if isinstance(example, tuple) else (example,), device) for device in devices]
    times: list[list[float]] = [[] for _ in nets]
    with _evaluating(nets):
        for turn in range(-warmup, repeats):
            order = range(len(nets)) if turn % 2 == 0 else reversed(range(len(nets)))
            for i in order:
                seconds = _time(nets[i], arguments[i], devices[i])
                if turn >= 0:
                    times[i].append(seconds)
    return [median(each) for each in times]


def _time(net: nn.Module, arguments: tuple[Any, ...], device: torch.device) -> float:
    _wait(device)
    start = perf_counter()
    net(*arguments)
    _wait(device)
    return perf_counter() - start


def _wait(device: torch.device) -> None:
    if device.type != "cpu":  # kernels are only queued by the forward pass
        torch.accelerator.synchronize(device)


@contextmanager
def _evaluating(nets: Sequence[nn.Module]) -> Iterator[None]:
    modes = [(module, module.training) for net in nets for module in net.modules()]
    try:
        for net in nets:
            net.eval()
        with torch.no_grad():  # not inference_mode: what a network caches in a pass must stay usable for training
            yield
    finally:
        for module, training in modes:  # one by one: parts may have been frozen in eval mode
            module.training = training


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
