"""Optimizers and averages of weights follow a network's parameters through surgery."""

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from pruning_lit.channels.modules.branch import drop_branches
from pruning_lit.channels.surgery.moves import Move, Moves, Removal
from pruning_lit.channels.surgery.numbers import Rewriting, rewrite
from pruning_lit.channels.surgery.widen import Regrowth
from pruning_lit.channels.surgery.widths import replace, sync_widths


def migrate_optimizers(optimizers: Iterable[Optimizer], moves: Moves) -> None:
    """Give optimizers the new parameters, with the part of their state (momentum, Adam's moments) that belongs to them.

    Without this they would go on stepping parameters that are no longer in the network. Parameters that have gone with
    their residual branch are forgotten.

    Raises:
        ValueError: an optimizer has a state of another shape than its parameter (Adafactor, say), of which nobody knows
            what belongs to which channel; optimizers before it have been given theirs.
    """
    gone = {move.old for move in moves.values() if isinstance(move, Removal)}
    by_old = {move.old: move for move in moves.values() if move.old not in gone}
    for optimizer in optimizers:
        require_alike(optimizer, by_old)
        for group in optimizer.param_groups:
            _forget(gone, group, optimizer)
            group["params"] = [by_old[p].new if p in by_old else p for p in group["params"]]
        for old in [p for p in optimizer.state if p in by_old]:
            move = by_old[old]
            state = optimizer.state.pop(old)
            optimizer.state[move.new] = {key: _carried(move, value) for key, value in state.items()}


def _forget(gone: set[Tensor], group: dict[str, Any], optimizer: Optimizer) -> None:
    """Take parameters, and their names where they were given with any, out of one group of an optimizer."""
    left = [number for number, parameter in enumerate(group["params"]) if parameter not in gone]
    for key in {"params", "param_names"} & group.keys():
        group[key] = [group[key][number] for number in left]
    for parameter in gone & optimizer.state.keys():
        del optimizer.state[parameter]


def carry_average(average: nn.Module, moves: Moves) -> None:
    """Give a copy of the network, whose values are averages of those it had, the new widths in place.

    Where channels have come back, their average begins with the values they came back with. Residual branches that have
    gone are taken out.

    Args:
        average: the copy, for instance ``averaged.module`` of a ``torch.optim.swa_utils.AveragedModel``.
        moves: what surgery on the network itself returned.
    """
    drop_branches(average, {move.block for move in moves.values() if isinstance(move, Removal)})
    rewrite(average, {name: move.new for name, move in moves.items() if isinstance(move, Rewriting)})
    tensors, values = average.state_dict(keep_vars=True), {}
    for name, move in moves.items():
        if isinstance(move, Removal | Rewriting):
            continue
        present, new = tensors[name].detach(), move.new.detach()
        if not new.is_floating_point():  # the source of a relabelling: never averaged, but numbered anew
            carried = new.to(present.device, copy=True)
        elif isinstance(move, Regrowth):
            carried = move.scatter(present, new.to(present))
        else:
            carried = move.gather(present)
        values[name] = _formatted(carried, present)
    replace(average, values)
    sync_widths(average)


def _carried(move: Move, value: Any) -> Any:
    """One entry of a parameter's state behind the move; numbers and counts of steps stay."""
    if isinstance(value, Tensor) and value.shape == move.old.shape:
        return _formatted(move.gather(value), value)
    return value


def _formatted(carried: Tensor, before: Tensor) -> Tensor:
    """The tensor in the memory format it had before."""
    if before.ndim == 4 and before.is_contiguous(memory_format=torch.channels_last):
        return carried.contiguous(memory_format=torch.channels_last)
    return carried


def require_alike(optimizer: Optimizer, parameters: Iterable[Tensor]) -> None:
    """ValueError where an optimizer's state has other shapes than the parameters that are to change."""
    for parameter in parameters:
        for key, value in optimizer.state.get(parameter, {}).items():
            if isinstance(value, Tensor) and value.numel() > 1 and value.shape != parameter.shape:
                raise ValueError(
                    f"the {key!r} of {type(optimizer).__name__} has the shape {tuple(value.shape)}, its parameter "
                    f"{tuple(parameter.shape)}; it cannot follow a cut, choose an optimizer such as SGD or AdamW"
                )


def require_trains(optimizer: Optimizer, model: nn.Module) -> None:
    """ValueError where an optimizer holds no parameter of the model."""
    held = {parameter for group in optimizer.param_groups for parameter in group["params"]}
    if held.isdisjoint(model.parameters()):
        raise ValueError(
            f"the {type(optimizer).__name__} holds no parameter of the {type(model).__name__}: hand over the optimizer "
            "that trains it, or build one behind the cut"
        )
