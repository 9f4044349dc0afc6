"""The processes that score together."""

from collections.abc import Iterable

import torch.distributed as dist
from torch import Tensor


def rank_and_world_size() -> tuple[int, int]:
    """This process's rank and the number of processes; 0 and 1 outside distributed training."""
    if dist.is_available() and dist.is_initialized():
        return dist.get_rank(), dist.get_world_size()
    return 0, 1


def add_over_ranks(tensors: Iterable[Tensor]) -> None:
    """Sum every tensor over all ranks, in place; the order has to be the same on all of them."""
    if rank_and_world_size()[1] > 1:
        for tensor in tensors:
            dist.all_reduce(tensor)
