"""Replica of a model: the same modules anew, so that a forward pass may change, remember and count as it likes."""

import copy
import types
from collections import OrderedDict
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

#: Types of what cannot change, or, as code, is not the model's.
FIXED = frozenset(
    {type(None), bool, int, float, complex, str, bytes, type, range, torch.dtype, torch.device, torch.Size}
    | {types.FunctionType, types.BuiltinFunctionType, types.ModuleType}
)
CONTAINERS = (dict, OrderedDict, list, set)
HELD = ("_parameters", "_buffers", "_modules")
DEEPEST = 8  # nested containers and objects in which tensors are looked for


def replica(model: nn.Module, tensor: Callable[[Tensor], Tensor]) -> nn.Module:
    """A copy of ``model`` in which every tensor is replaced, also those that modules remember as attributes.

    As ``copy.deepcopy`` does, but without copying the data first, and also where tensors are results of a pass with
    gradients, or attributes cannot be copied: those are shared.

    Args:
        model: any module.
        tensor: a parameter, buffer or remembered tensor to what is to be in its place. What is used in several places
            stays shared.
    """
    return _Replica(tensor).module(model)


def own_state(tensor: Tensor) -> Tensor:
    """Parameters as they are, and a copy of all else: what forward passes write over."""
    return tensor if isinstance(tensor, nn.Parameter) else tensor.detach().clone()


class _Replica:
    def __init__(self, tensor: Callable[[Tensor], Tensor]) -> None:
        self.tensor = tensor
        self.memo: dict[int, Any] = {}

    def module(self, module: nn.Module) -> nn.Module:
        if id(module) in self.memo:
            return self.memo[id(module)]
        if not _is_plain(type(module)):
            self._remember_tensors(module)
            return copy.deepcopy(module, self.memo)
        new = self.memo[id(module)] = module.__class__.__new__(module.__class__)
        attributes = dict(module.__dict__)
        attributes.pop("_compiled_call_impl", None)  # of the original
        new.__dict__.update(attributes)
        children = attributes["_modules"].items()
        new.__dict__["_modules"] = {name: None if child is None else self.module(child) for name, child in children}
        for held in ("_parameters", "_buffers"):
            new.__dict__[held] = {name: self._held(one) for name, one in attributes[held].items()}
        for name, value in attributes.items():
            kind = type(value)
            if kind not in FIXED and name not in HELD:
                new.__dict__[name] = kind() if kind in CONTAINERS and not value else self.value(value)
        return new

    def _held(self, tensor: Tensor | None) -> Tensor | None:
        if tensor is not None and id(tensor) not in self.memo:
            self.memo[id(tensor)] = self.tensor(tensor)
        return None if tensor is None else self.memo[id(tensor)]

    def value(self, value: Any) -> Any:
        """A copy of an attribute; the attribute itself where it cannot be copied."""
        if type(value) is tuple and FIXED.issuperset(map(type, value)):
            return value
        self._remember_tensors(value)
        try:
            return copy.deepcopy(value, self.memo)
        except Exception:  # a lock, an open file, a generator: whatever cannot be copied
            return value

    def _remember_tensors(self, value: Any, depth: int = 0) -> None:
        """Decide on the tensors in ``value``, before it is copied."""
        if isinstance(value, Tensor):
            self._held(value)
        elif isinstance(value, torch.Generator):
            self.memo[id(value)] = value.clone_state()
        elif isinstance(value, nn.Module) and _is_plain(type(value)):
            self.module(value)
        elif depth < DEEPEST and type(value) not in FIXED:
            if isinstance(value, Mapping):
                inner = list(value.values())
            elif isinstance(value, list | tuple | set | frozenset):
                inner = list(value)
            else:
                inner = list(getattr(value, "__dict__", {}).values())
            for one in inner:
                self._remember_tensors(one, depth + 1)


def _is_plain(kind: type[nn.Module]) -> bool:
    """True where instances are copied as their attributes are."""
    return not hasattr(kind, "__deepcopy__") and kind.__reduce_ex__ is nn.Module.__reduce_ex__
