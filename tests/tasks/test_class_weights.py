"""Rare classes: their weight in the loss, and metrics in which every class counts the same."""

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from sklearn.metrics import balanced_accuracy_score, f1_score
from sklearn.utils.class_weight import compute_class_weight
from torch.nn.functional import cross_entropy, one_hot

from pruning_lit.tasks import Classification

RANDOM = torch.Generator().manual_seed(0)
TARGETS = torch.tensor([0] * 12 + [1] * 5 + [2] * 2)  # and no image of the fourth class
LOGITS = torch.randn(len(TARGETS), 4, generator=RANDOM) + one_hot(TARGETS, 4)


def loss(task: Classification, targets: torch.Tensor = TARGETS, training: bool = True) -> torch.Tensor:
    return task.losses(LOGITS[: len(targets)], targets, training)["cross_entropy"]


def data(targets: torch.Tensor, num_training: int | None = None) -> SimpleNamespace:
    return SimpleNamespace(num_training=num_training or len(targets), sample_targets=lambda: targets)


def test_every_image_counts_by_the_weight_of_its_class_and_only_while_training():
    weights = [0.5, 2.0, 3.0, 1.0]
    task = Classification(4, class_weights=weights)
    single = cross_entropy(LOGITS, TARGETS, reduction="none")
    torch.testing.assert_close(loss(task), (torch.tensor(weights)[TARGETS] * single).mean())
    torch.testing.assert_close(loss(task, training=False), single.mean())
    torch.testing.assert_close(loss(Classification(4, class_weights=[1.0] * 4)), single.mean())


def test_shares_of_classes_weigh_what_their_classes_do_together():
    task = Classification(4, class_weights=[0.5, 2.0, 3.0, 1.0], label_smoothing=0.1)
    torch.testing.assert_close(loss(task, one_hot(TARGETS, 4).float()), loss(task))


def test_two_processes_have_the_loss_of_one():
    task = Classification(4, class_weights=[0.5, 2.0, 3.0, 1.0])
    halves = [task.losses(LOGITS[part], TARGETS[part], True)["cross_entropy"] for part in (slice(9), slice(9, 18))]
    torch.testing.assert_close(torch.stack(halves).mean(), loss(task, TARGETS[:18]))


def test_balanced_weights_are_those_of_scikit_learn():
    targets = torch.cat([TARGETS, torch.tensor([3, 3, 3])])
    task = Classification(4, class_weights="balanced")
    task.learn_from(data(targets))
    expected = compute_class_weight("balanced", classes=np.arange(4), y=targets.numpy())
    assert task.class_weights == pytest.approx(expected.tolist())
    assert torch.tensor(task.class_weights)[targets].mean() == pytest.approx(1.0)


@pytest.mark.parametrize(
    ("targets", "sentence"),
    [
        (data(TARGETS), "there is no training image of class 3"),
        (data(TARGETS, 1000), r"which this data set does not tell beforehand: give a list of 4 numbers"),
        (data(one_hot(TARGETS, 4).float()), "does not tell beforehand"),
    ],
)
def test_classes_that_cannot_be_counted_are_told(targets, sentence):
    with pytest.raises(ValueError, match=sentence):
        Classification(4, class_weights="balanced").learn_from(targets)


@pytest.mark.parametrize(
    ("weights", "sentence"),
    [
        ([1.0, 2.0], "class_weights is balanced, or a list of 4 numbers, one for each class; got 2"),
        ("even", "class_weights is balanced, or a list of 4 numbers, one for each class; got 'even'"),
        ([1, -1, 1, 1], "class_weights: expected numbers of at least 0, got -1 for class 1"),
        ([0, 0, 0, 0], "class_weights are all 0"),
    ],
)
def test_other_weights_are_refused(weights, sentence):
    with pytest.raises(ValueError, match=sentence):
        Classification(4, class_weights=weights)


def test_balanced_accuracy_and_f1_are_those_of_scikit_learn():
    metrics, found = Classification(4).metrics(), LOGITS.argmax(1)
    for part in (slice(3), slice(3, None)):
        metrics.update(LOGITS[part], TARGETS[part])
    told = {name: float(value) for name, value in metrics.compute().items()}
    assert told["balanced_accuracy"] == pytest.approx(balanced_accuracy_score(TARGETS, found))
    assert told["f1"] == pytest.approx(f1_score(TARGETS, found, average="macro"))
    assert told["balanced_accuracy"] != pytest.approx(told["accuracy"])


def of_one_rank(rank: int, folder: Path) -> None:
    store = torch.distributed.FileStore(str(folder / "store"), 2)
    torch.distributed.init_process_group("gloo", rank=rank, world_size=2, store=store)
    metrics = Classification(4).metrics()
    share = slice(14) if rank == 0 else slice(14, None)
    metrics.update(LOGITS[share], TARGETS[share])
    torch.save({name: float(value) for name, value in metrics.compute().items()}, folder / f"{rank}.pt")
    torch.distributed.destroy_process_group()


@pytest.mark.slow
def test_two_processes_with_unequal_shares_find_the_metrics_of_one(tmp_path):
    torch.multiprocessing.start_processes(of_one_rank, (tmp_path,), nprocs=2, start_method="fork")
    metrics = Classification(4).metrics()
    metrics.update(LOGITS, TARGETS)
    expected = {name: float(value) for name, value in metrics.compute().items()}
    assert [torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in (0, 1)] == [expected] * 2
