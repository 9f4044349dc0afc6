"""Kinds of operations: what they are called, which are copies, and by which values decide the course of a pass."""

import functools

import torch
from torch import Tensor

Operation = torch._ops.OpOverload
VIEWS = frozenset({"_unsafe_view", "_reshape_alias", "reshape", "unflatten"})
MASKS = (torch.bool, torch.uint8)
COPIES = frozenset({"clone", "_to_copy", "detach", "alias", "lift_fresh", "contiguous"})  # come and go with the strides


@functools.cache
def short_name(operation: Operation) -> str:
    """The name of an operation without its name space; the ways to change a shape are one."""
    name = operation._schema.name.rpartition("::")[2]
    return "view" if name in VIEWS else name


def takes_all(operation: Operation, given: list[Tensor], outputs: list[Tensor]) -> bool:
    """True for a slice that leaves nothing out; some versions of PyTorch leave the operation itself out then."""
    return short_name(operation) == "slice" and outputs[0].shape == given[0].shape


@functools.cache
def _is_of_any_length(operation: Operation) -> bool:
    return torch.Tag.dynamic_output_shape in operation.tags or short_name(operation) == "nms"


def counts_values(operation: Operation, given: list[Tensor]) -> bool:
    """True where the values that go in decide how many come out."""
    if _is_of_any_length(operation):
        return True
    return short_name(operation) == "index" and any(tensor.dtype in MASKS for tensor in given[1:])


@functools.cache
def gives_views(operation: Operation) -> bool:
    """True where what comes out may lie in the memory of what went in, and is not that itself."""
    return any(each.alias_info is not None and not each.alias_info.is_write for each in operation._schema.returns)


@functools.cache
def gives_numbers(operation: Operation) -> bool:
    """True where values come out as numbers of Python."""
    returns = operation._schema.returns
    return bool(returns) and not any("Tensor" in str(each.type) for each in returns)
