"""Inputs of a network: one tensor, or lists, tuples and dictionaries of them."""

from typing import Any

from torch import Tensor


def first_tensor(nested: Any) -> Tensor:
    """First tensor of inputs that may be nested; ValueError where there is none."""
    while not isinstance(nested, Tensor):
        if not isinstance(nested, list | tuple | dict) or not nested:
            raise ValueError(
                f"inputs are of type {type(nested).__name__}, expected tensors: give the data set a transform such as "
                "torchvision.transforms.ToTensor()"
            )
        nested = next(iter(nested.values() if isinstance(nested, dict) else nested))
    return nested
