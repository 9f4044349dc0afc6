"""Peak memory of a forward pass."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.multiprocessing.reductions import StorageWeakRef

from pruning_lit.channels.tracing.operations import OperationMode, evaluating, tensors_in

#: What is counted, by type of device.
COUNTED = {
    "cpu": "weights, buffers, the images and the intermediate results alive at the same time, without what single "
    "operations need for themselves",
    "cuda": "all that PyTorch had allocated on the GPU, what single operations need for themselves included",
}


@torch.no_grad()
def peak_memory(net: nn.Module, batch: Tensor | tuple[Tensor, ...]) -> int:
    """The most bytes in use at any moment of one forward pass in eval mode, the weights included.

    On a GPU that is what PyTorch's allocator has seen (``torch.cuda.max_memory_allocated``), so nothing else may lie
    there. On a CPU, whose processes hold on to memory they do not need, it is the largest sum of the storages that live
    after an operation: parameters, buffers, the batch and intermediate results. Scratch space within an operation is
    seen on a GPU only.

    Args:
        net: on the device it is to run on.
        batch: images ``(N, C, H, W)``; of several tensors each is an argument.
    """
    device = next(net.parameters()).device
    arguments = [each.to(device) for each in (batch if isinstance(batch, tuple) else (batch,))]
    with evaluating(net):
        return _allocated(net, arguments, device) if device.type == "cuda" else _living(net, arguments)


def _allocated(net: nn.Module, arguments: Sequence[Tensor], device: torch.device) -> int:
    net(*arguments)  # libraries allocate workspace, which stays, in their first call
    torch.cuda.reset_peak_memory_stats(device)
    net(*arguments)
    torch.cuda.synchronize(device)
    return torch.cuda.max_memory_allocated(device)


def _living(net: nn.Module, arguments: Sequence[Tensor]) -> int:
    with _LivingTensors() as living:
        living.count(*net.parameters(), *net.buffers(), *arguments)
        net(*arguments)
    return living.peak


class _LivingTensors(OperationMode):
    """Adds up, after every operation, the storages that somebody still holds."""

    def __init__(self) -> None:
        super().__init__()
        self.sizes: dict[StorageWeakRef, int] = {}
        self.peak = 0

    def count(self, *tensors: Tensor) -> None:
        """These live; each storage counts once, however many tensors share it."""
        storages = [tensor.untyped_storage() for tensor in tensors]
        self.sizes |= {StorageWeakRef(storage): storage.nbytes() for storage in storages}
        self.sizes = {storage: size for storage, size in self.sizes.items() if not storage.expired()}
        self.peak = max(self.peak, sum(self.sizes.values()))

    def seen(self, index: int, operation: torch._ops.OpOverload, args: tuple, kwargs: dict, result: Any) -> None:
        """Count the storages of an operation's result."""
        self.count(*tensors_in(result))
