"""A network quantized to int8, and the layers of it that were left in float32: common to all formats."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

from torch import nn


@dataclass(frozen=True)
class InInt8:
    """A network quantized to int8, beside itself in float32, both as they run.

    Attributes:
        float32, int8: the networks.
        in_float: names of the layers that were left in float32.
        bits: a reduced range in words, such as ``weights of 7 bits``; empty where all have 8.
        moves: number of operations between layers that only move channels or pixels; they cost time.
    """

    float32: nn.Module
    int8: nn.Module
    in_float: list[str]
    bits: str
    moves: int


def kept_in_float(layers: Iterable[str], patterns: Sequence[str]) -> list[str]:
    """Names of the layers that a pattern matches.

    Raises:
        ValueError: a pattern matches none, or all layers are matched.
    """
    layers = list(layers)
    for pattern in patterns:
        if not any(fnmatchcase(layer, pattern) for layer in layers):
            raise ValueError(f"keep_float: no layer is called {pattern!r}; the layers are {', '.join(layers)}")
    kept = [layer for layer in layers if any(fnmatchcase(layer, pattern) for pattern in patterns)]
    if kept and len(kept) == len(layers):
        raise ValueError(f"keep_float={list(patterns)} leaves every layer in float32, so that nothing is quantized")
    return kept
