"""Sizes: the numbers by which a model cuts tensors up or gives them another shape, among which there may be widths."""

import sys
from typing import Any

import torch

from pruning_lit.channels.tracing.arguments import named

KEYS = {
    "view": "size",
    "_unsafe_view": "size",
    "reshape": "shape",
    "split_with_sizes": "split_sizes",
}
SIZED = {f"aten::{name}": key for name, key in KEYS.items()} | {"aten::split": "split_size"}


def sizes_of(operation: torch._ops.OpOverload, args: tuple, kwargs: dict[str, Any]) -> tuple[int, ...]:
    """The sizes among the arguments of an operation; none for operations of another kind.

    Of a slice its start and its end, of a split the lengths that are asked for, of a view the shape.
    """
    name = operation._schema.name
    if name in SIZED:
        sizes = named(operation, args, kwargs).get(SIZED[name], ())
        return (sizes,) if isinstance(sizes, int) else tuple(sizes) if isinstance(sizes, list | tuple) else ()
    if name == "aten::unflatten":
        given = named(operation, args, kwargs)
        dim, shape = given["dim"] % args[0].ndim, tuple(args[0].shape)
        return (*shape[:dim], *given["sizes"], *shape[dim + 1 :])
    if name == "aten::slice":
        given = named(operation, args, kwargs)
        if (given["start"] or 0, given["step"]) == (0, 1) and given["end"] in (None, sys.maxsize):
            return ()  # a bare colon, which some versions of PyTorch leave out
        return slice(given["start"], given["end"]).indices(args[0].shape[given["dim"]])[:2]
    if name == "aten::narrow":
        given = named(operation, args, kwargs)
        return (given["start"], given["start"] + given["length"])
    return ()


def numbers_in(*trees: Any) -> tuple[object, ...]:
    """The numbers and words in nested arguments, in order."""
    found: list[object] = []
    for tree in trees:
        for each in tree.values() if isinstance(tree, dict) else tree:
            if isinstance(each, int | float | str):
                found.append(each)
            elif isinstance(each, list | tuple | dict):
                found += numbers_in(each)
    return tuple(found)
