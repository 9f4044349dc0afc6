"""Evaluation of a network on the test part, on one process."""

from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple, Protocol

import torch
from lightning_utilities.core.apply_func import apply_to_collection
from torch import Tensor, nn

from pruning_lit.channels.tracing.operations import evaluating
from pruning_lit.tasks.base import Batch, Task, as_classes, like, total
from pruning_lit.tasks.mixup import dominant


class TestData(Protocol):
    """The part of a data module that evaluation needs."""

    def test_batches(self) -> Any:
        """All test batches, however many ranks there are."""
        ...

    def on_after_batch_transfer(self, batch: Any, dataloader_idx: int) -> Batch:
        """Normalise a batch on its device."""
        ...


def evaluate(net: nn.Module, data: TestData, task: Task) -> dict[str, float]:
    """All metrics of the task, and its mean ``loss``, on the whole test part; eval mode, in the weights' precision.

    This process looks at every example, at none twice; other ranks are not asked. Where a task has no loss in
    evaluation there is none.
    """
    return evaluate_on(net, _batches(data, next(net.parameters())), task)


@torch.no_grad()
def evaluate_on(net: nn.Module, batches: Iterable[Batch], task: Task) -> dict[str, float]:
    """Metrics and loss as from ``evaluate``, on batches that are ready for the network, on its device."""
    weights = next(net.parameters())
    metrics = task.metrics(over_ranks=False).to(weights.device)
    loss, seen = torch.zeros((), dtype=torch.float64, device=weights.device), 0
    with evaluating(net):
        for batch in batches:
            outputs = _answers(net, batch, task)
            task.update(metrics, outputs, batch[1])
            if losses := task.losses(outputs, batch[1], training=False):
                loss += task.size(batch) * total(losses)
                seen += task.size(batch)
    values = {name: float(value) for name, value in metrics.compute().items()}
    return values | ({"loss": float(loss / seen)} if seen else {})


@torch.no_grad()
def confusion_matrix(net: nn.Module, data: TestData, task: Task, num_classes: int) -> Tensor:
    """Number of test images of each class that a classifier takes for each, int64 ``(classes, classes)``, on the CPU.

    Rows are true classes, of shares of classes the largest; columns are predicted ones.
    """
    weights = next(net.parameters())
    counts = torch.zeros(num_classes**2, dtype=torch.int64, device=weights.device)
    with evaluating(net):
        for batch in _batches(data, weights):
            pairs = dominant(as_classes(batch[1])) * num_classes + _answers(net, batch, task).argmax(1)
            counts += torch.bincount(pairs, minlength=num_classes**2)
    return counts.reshape(num_classes, num_classes).cpu()


class Comparison(NamedTuple):
    """Two networks on the same test examples.

    Attributes:
        before, after: values of the task's metrics.
        changed: number of examples whose answer differs.
        examples: how many there are.
    """

    before: dict[str, float]
    after: dict[str, float]
    changed: int
    examples: int


@torch.no_grad()
def compare(before: nn.Module, after: nn.Module, data: TestData, task: Task) -> Comparison:
    """Hold two networks, on one device and in one precision, against each other on the whole test part."""
    weights, nets, changed, seen = next(before.parameters()), (before, after), 0, 0
    metrics = [task.metrics(over_ranks=False).to(weights.device) for _ in nets]
    with evaluating(before, after):
        for batch in _batches(data, weights):
            answers = [_answers(net, batch, task) for net in nets]
            for each, outputs in zip(metrics, answers, strict=True):
                task.update(each, outputs, batch[1])
            changed += task.changed(*answers)
            seen += task.size(batch)
    values = [{name: float(value) for name, value in each.compute().items()} for each in metrics]
    return Comparison(values[0], values[1], changed, seen)


def _batches(data: TestData, weights: Tensor) -> Iterator[Batch]:
    """The test batches, where and in the precision that ``weights`` are."""
    from lightning_fabric.utilities import move_data_to_device  # late: loads most of Lightning

    for batch in data.test_batches():
        inputs, targets = data.on_after_batch_transfer(move_data_to_device(batch, weights.device), 0)
        yield like(inputs, weights), targets


def _answers(net: nn.Module, batch: Batch, task: Task) -> Any:
    """Outputs in float32, as metrics expect."""
    return apply_to_collection(
        task.outputs(net, batch), Tensor, lambda each: each.float() if each.is_floating_point() else each
    )
