"""Arguments of operations."""

import functools
from typing import Any

import torch


def named(operation: torch._ops.OpOverload, args: tuple, kwargs: dict) -> dict[str, Any]:
    """Arguments by name, defaults filled in."""
    names, defaults = _schema(operation)
    return defaults | dict(zip(names, args, strict=False)) | kwargs


@functools.cache  # reading a schema takes longer than most rules
def _schema(operation: torch._ops.OpOverload) -> tuple[tuple[str, ...], dict[str, Any]]:
    arguments = operation._schema.arguments
    return tuple(each.name for each in arguments), {each.name: each.default_value for each in arguments}
