"""Let everything that refers to parameters follow them through surgery."""

from collections.abc import Iterable

import torch
import torch.distributed as dist
from pytorch_lightning import Trainer
from pytorch_lightning.strategies import DDPStrategy
from torch import Tensor
from torch.optim import Optimizer

from pruning_lit.channels import Moves


def carry_optimizers(optimizers: Iterable[Optimizer], moves: Moves) -> None:
    """Give optimizers the new parameters, with the part of their state (momentum, Adam's moments) that belongs to them.

    Without this they would go on stepping parameters that are no longer in the network.
    """
    by_old = {move.old: move for move in moves.values()}
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            group["params"] = [by_old[p].new if p in by_old else p for p in group["params"]]
        for old in [p for p in optimizer.state if p in by_old]:
            move = by_old[old]
            state = optimizer.state.pop(old)
            optimizer.state[move.new] = {
                key: move.gather(value) if isinstance(value, Tensor) and value.shape == old.shape else value
                for key, value in state.items()
            }


def share_buffers(net: torch.nn.Module) -> None:
    """Give all ranks the buffers of rank 0: unless batch norm is synchronised, each has statistics of its own."""
    if dist.is_available() and dist.is_initialized():
        for buffer in net.buffers():
            dist.broadcast(buffer, src=0)


def rewrap(trainer: Trainer) -> None:
    """Build the distributed wrapper anew around a module whose parameters have changed."""
    strategy = trainer.strategy
    if isinstance(strategy, DDPStrategy) and isinstance(strategy.model, torch.nn.parallel.DistributedDataParallel):
        strategy.model = strategy.lightning_module
        strategy.configure_ddp()
