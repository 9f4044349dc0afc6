"""Bound on what a builder makes: a file may ask for a network of any depth and width, before its weights are seen."""

import math
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

SIZED = (torch.empty, torch.zeros, torch.ones, torch.full, torch.rand, torch.randn)
NARROWER = 1000  # times as many weights has the dense network at most
SHALLOWER = 10  # times as many tensors, where whole branches were taken out
LEAST_TENSORS, LEAST_WEIGHTS = 200, 10_000_000


class Bounded(TorchFunctionMode):
    """Meanwhile no network can be built that is far larger than the one whose weights are given.

    Args:
        weights: of the narrower network.

    Raises:
        ValueError: more tensors are made, or larger ones, than a network has from which it can have come.
    """

    def __init__(self, weights: Iterable[Tensor]) -> None:
        super().__init__()
        sizes = [each.numel() for each in weights]
        self.told = f"{len(sizes)} tensors of {sum(sizes):,} weights"
        self.tensors = SHALLOWER * len(sizes) + LEAST_TENSORS
        self.weights = NARROWER * sum(sizes) + LEAST_WEIGHTS

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Count what is made, before it is."""
        if func in SIZED:
            size = args[0] if args and isinstance(args[0], list | tuple) else (kwargs or {}).get("size", args)
            self.tensors -= 1
            self.weights -= math.prod(each for each in size if isinstance(each, int))
            if self.tensors < 0 or self.weights < 0:
                raise ValueError(f"that would be a far larger network than the one in the file ({self.told})")
        return func(*args, **(kwargs or {}))
