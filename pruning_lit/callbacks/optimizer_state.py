"""Surgery in training: optimizer state, averaged weights and DDP follow the parameters, on all ranks alike."""

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
import torch.distributed as dist
from pytorch_lightning import Callback, Trainer
from pytorch_lightning.callbacks import StochasticWeightAveraging, WeightAveraging
from pytorch_lightning.strategies import DDPStrategy
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.swa_utils import AveragedModel

from pruning_lit.channels import Move, Moves, Regrowth, Removal
from pruning_lit.channels.modules.branch import drop_branches
from pruning_lit.channels.surgery.widths import replace, sync_widths


def migrate(trainer: Trainer, moves: Moves) -> None:
    """Let the optimizers of a trainer, and the averages that its callbacks keep, follow the parameters."""
    migrate_optimizers(trainer.optimizers, moves)
    migrate_averages(trainer.callbacks, moves)  # type: ignore[attr-defined]


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
        _require_like_parameters(optimizer, by_old)
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


def migrate_averages(callbacks: Iterable[Callback], moves: Moves) -> None:
    """Let the averaged copies of ``net`` follow that Lightning's weight averaging callbacks keep."""
    for callback in callbacks:
        if isinstance(callback, WeightAveraging | StochasticWeightAveraging) and callback._average_model is not None:
            average: Any = callback._average_model
            if isinstance(average, AveragedModel):
                average = average.module
            carry_average(average.net, moves)


def has_averages(trainer: Trainer) -> bool:
    """True where a callback keeps averaged weights."""
    callbacks = trainer.callbacks  # type: ignore[attr-defined]
    return any(isinstance(callback, WeightAveraging | StochasticWeightAveraging) for callback in callbacks)


def carry_average(average: nn.Module, moves: Moves) -> None:
    """Give a copy of the network, whose values are averages of those it had, the new widths in place.

    Where channels have come back, their average begins with the values they came back with. Residual branches that have
    gone are taken out.

    Args:
        average: the copy, for instance ``averaged.module`` of a ``torch.optim.swa_utils.AveragedModel``.
        moves: what surgery on the network itself returned.
    """
    drop_branches(average, {move.block for move in moves.values() if isinstance(move, Removal)})
    tensors, values = average.state_dict(keep_vars=True), {}
    for name, move in moves.items():
        if isinstance(move, Removal):
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


def _require_like_parameters(optimizer: Optimizer, by_old: dict[Tensor, Move]) -> None:
    for old in by_old:
        for key, value in optimizer.state.get(old, {}).items():
            if isinstance(value, Tensor) and value.numel() > 1 and value.shape != old.shape:
                raise ValueError(
                    f"the {key!r} of {type(optimizer).__name__} has the shape {tuple(value.shape)}, its parameter "
                    f"{tuple(old.shape)}; it cannot follow a cut, choose an optimizer such as SGD or AdamW"
                )


def broadcast_buffers(net: nn.Module) -> None:
    """Give all ranks the buffers of rank 0: unless batch norm is synchronised, each has statistics of its own."""
    if dist.is_available() and dist.is_initialized():
        for buffer in net.buffers():
            dist.broadcast(buffer, src=0)


def rebuild_ddp(trainer: Trainer) -> None:
    """Build the distributed wrapper anew around a module whose parameters have changed."""
    strategy = trainer.strategy
    if isinstance(strategy, DDPStrategy) and isinstance(strategy.model, nn.parallel.DistributedDataParallel):
        strategy.model = strategy.lightning_module
        strategy.configure_ddp()


def require_same_on_all_ranks(trainer: Trainer, kept: Mapping[str, Sequence[int]]) -> None:
    """Compare digests of the choice; ranks that cut differently would drift apart without any error."""
    digest = hashlib.sha256(json.dumps(kept, sort_keys=True).encode()).hexdigest()
    if dist.is_available() and dist.is_initialized():
        digests: list[Any] = [None] * trainer.world_size
        dist.all_gather_object(digests, digest)
        assert len(set(digests)) == 1, f"ranks chose different channels: {digests}"
