"""Surgery in training: optimizer state, averaged weights and DDP follow the parameters, on all ranks alike."""

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch.distributed as dist
from pytorch_lightning import Callback, Trainer
from pytorch_lightning.callbacks import StochasticWeightAveraging, WeightAveraging
from pytorch_lightning.strategies import DDPStrategy
from torch import nn
from torch.optim.swa_utils import AveragedModel

from pruning_lit.channels import Moves, carry_average, migrate_optimizers


def migrate(trainer: Trainer, moves: Moves) -> None:
    """Let the optimizers of a trainer, and the averages that its callbacks keep, follow the parameters."""
    migrate_optimizers(trainer.optimizers, moves)
    migrate_averages(trainer.callbacks, moves)  # type: ignore[attr-defined]


def migrate_averages(callbacks: Iterable[Callback], moves: Moves) -> None:
    """Let the averaged copies of ``net`` follow that Lightning's weight averaging callbacks keep."""
    for callback in callbacks:
        if isinstance(callback, WeightAveraging | StochasticWeightAveraging) and callback._average_model is not None:
            average: Any = callback._average_model
            if isinstance(average, AveragedModel):
                average = average.module
            carry_average(average.net, moves)


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
