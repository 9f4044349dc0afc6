"""Measure a network on the test pictures, on one process."""

from typing import Any, Protocol

import torch
from torch import Tensor, nn

from pruning_lit.channels.stream import evaluating
from pruning_lit.tasks.classification import Classification


class TestPictures(Protocol):
    """The part of a data module that evaluation needs."""

    def test_batches(self) -> Any:
        """All test batches, however many ranks there are."""
        ...

    def on_after_batch_transfer(self, batch: Any, dataloader_idx: int) -> tuple[Tensor, Tensor]:
        """Normalise a batch on its device."""
        ...


@torch.no_grad()
def evaluate(net: nn.Module, data: TestPictures, task: Classification) -> dict[str, float]:
    """All metrics of the task on the whole test part, in eval mode, in the precision of the weights.

    Every picture is looked at by this process, none twice; other ranks are not asked.
    """
    weights = next(net.parameters())
    device = weights.device
    metrics = task.metrics(over_ranks=False).to(device)
    with evaluating(net):
        for batch in data.test_batches():
            pictures, target = data.on_after_batch_transfer([tensor.to(device) for tensor in batch], 0)
            metrics.update(net(pictures.to(weights)).float(), target)
    return {name: float(value) for name, value in metrics.compute().items()}
