"""Widths that modules keep as numbers (``self.sizes``, ``self.hidden``): rewritten and saved with the layers.

A number that surgery has rewritten has a buffer beside it, ``width_of_<attribute>``, by which it is in the state dict:
checkpoints and files bring it along, and ``adopt`` restores it.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from pruning_lit.channels.modules.branch import joined
from pruning_lit.channels.surgery.moves import Move
from pruning_lit.channels.tracing.graph import ChannelGraph

PREFIX = "width_of_"


@dataclass(frozen=True)
class Rewriting(Move):
    """Numbers of a module before and after surgery, shape ``(count,)``.

    Attributes:
        old, new: before and after.
        index: empty.
        first: whether the state dict had no such buffer before.
    """

    first: bool

    @classmethod
    def between(cls, model: nn.Module, full: str, values: Tensor) -> "Rewriting":
        """The rewriting of an attribute of ``model``, by the state-dict name of the buffer beside it."""
        path, _, key = full.rpartition(".")
        module = model.get_submodule(path)
        old = torch.tensor(numbers_of_module(module)[key.removeprefix(PREFIX)])
        return cls(old, values, {}, first=key not in module._buffers)

    def gather(self, companion: Tensor) -> Tensor:
        """The numbers after surgery: they have no averages and no momentum."""
        return self.new


def numbers_of_module(module: nn.Module) -> dict[str, list[int]]:
    """The attributes of a module that are an int, or a list or tuple of ints."""
    found = {}
    for name, value in vars(module).items():
        each = [value] if type(value) is int else value
        if type(value) in (int, list, tuple) and each and all(type(one) is int for one in each):
            found[name] = list(each)
    return found


def put_number(module: nn.Module, name: str, values: list[int]) -> None:
    """Give an attribute other numbers, as many as it has."""
    kind = type(vars(module)[name])
    vars(module)[name] = values[0] if kind is int else kind(values)


def entry(path: str, name: str) -> str:
    """State-dict name of the buffer beside an attribute of the module at ``path``."""
    return joined(path, f"{PREFIX}{name}")


def is_number(name: str) -> bool:
    """True for the state-dict name of such a buffer."""
    return name.rpartition(".")[2].startswith(PREFIX)


def rewrite(model: nn.Module, numbers: Mapping[str, Tensor]) -> dict[str, Rewriting]:
    """Rewrite attributes, in place, by the state-dict name of the buffer that is to be beside each; what moved."""
    moves = {}
    for full, values in numbers.items():
        moves[full] = Rewriting.between(model, full, values)
        path, _, key = full.rpartition(".")
        module = model.get_submodule(path)
        put_number(module, key.removeprefix(PREFIX), values.tolist())
        module.register_buffer(key, values.clone())
    return moves


def undo(model: nn.Module, moves: Mapping[str, Any]) -> dict[str, Rewriting]:
    """Give attributes back what they were before the moves, in place; what moved."""
    undone = {full: move for full, move in moves.items() if isinstance(move, Rewriting)}
    back = rewrite(model, {full: move.old for full, move in undone.items()})
    for full, move in undone.items():
        if move.first:
            path, _, key = full.rpartition(".")
            del model.get_submodule(path)._buffers[key]
    return back


def adopt_numbers(model: nn.Module, state: Mapping[str, Tensor], prefix: str = "") -> None:
    """Give attributes the numbers that a state dict has beside them; only smaller ones, and as many as there are."""
    if not any(is_number(name) for name in state):
        return
    for path, module in model.named_modules():
        for name, present in numbers_of_module(module).items():
            saved = state.get(prefix + entry(path, name))
            if saved is None or saved.dtype != torch.int64 or saved.shape != (len(present),):
                continue
            if all(0 < new <= old for new, old in zip(saved.tolist(), present, strict=True)):
                rewrite(model, {entry(path, name): saved.detach().cpu().clone()})


def numbers_after(model: nn.Module, graph: ChannelGraph, removed: Tensor) -> dict[str, Tensor]:
    """The numbers of modules once channels are removed, by state-dict name; those that change."""
    after: dict[str, Tensor] = {}
    for number in graph.numbers:
        full = entry(number.module, number.name)
        present = numbers_of_module(model.get_submodule(number.module))[number.name]
        left = int((~removed[number.channels]).sum())
        if left != present[number.at]:
            after.setdefault(full, torch.tensor(present))[number.at] = left
    return after
