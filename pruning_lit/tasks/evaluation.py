"""Measure a network on the test pictures, on one process."""

from collections.abc import Iterator
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor, nn

from pruning_lit.channels.tracing.operations import evaluating
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
    """All metrics of the task, and its mean ``loss``, on the whole test part; eval mode, in the weights' precision.

    Every picture is looked at by this process, none twice; other ranks are not asked.
    """
    weights = next(net.parameters())
    metrics = task.metrics(over_ranks=False).to(weights.device)
    loss, seen = torch.zeros((), dtype=torch.float64, device=weights.device), 0
    with evaluating(net):
        for pictures, target in _batches(data, weights):
            logits = net(pictures).float()
            metrics.update(logits, target)
            loss += len(target) * task.loss(logits, target, training=False)
            seen += len(target)
    return {name: float(value) for name, value in metrics.compute().items()} | {"loss": float(loss / seen)}


class Comparison(NamedTuple):
    """Two networks on the same pictures.

    Attributes:
        before, after: accuracies, 0 to 1.
        changed: number of pictures whose predicted class differs.
        pictures: how many there are.
    """

    before: float
    after: float
    changed: int
    pictures: int


@torch.no_grad()
def compare(before: nn.Module, after: nn.Module, data: TestPictures) -> Comparison:
    """Hold two networks, on one device and in one precision, against each other on the whole test part."""
    weights, right, changed, seen = next(before.parameters()), [0, 0], 0, 0
    with evaluating(before), evaluating(after):
        for pictures, target in _batches(data, weights):
            classes = [net(pictures).argmax(1) for net in (before, after)]
            right = [count + int((each == target).sum()) for count, each in zip(right, classes, strict=True)]
            changed += int((classes[0] != classes[1]).sum())
            seen += len(target)
    return Comparison(right[0] / seen, right[1] / seen, changed, seen)


def _batches(data: TestPictures, weights: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
    """The test pictures and their classes, where and in the precision that ``weights`` are."""
    for batch in data.test_batches():
        pictures, target = data.on_after_batch_transfer([tensor.to(weights.device) for tensor in batch], 0)
        yield pictures.to(weights), target
