"""Loss and metrics of classification."""

import math

import pytest
import torch

from pruning_lit.tasks import Classification

LOGITS = torch.tensor([[2.0, 0.0, -1.0], [0.0, 0.0, 0.0], [1.0, 3.0, 0.5], [-2.0, 1.0, 4.0]])
TARGET = torch.tensor([0, 2, 1, 1])


def loss_of(task: Classification, training: bool) -> float:
    return float(task.losses(LOGITS, TARGET, training)["cross_entropy"])


def log_shares() -> torch.Tensor:
    return LOGITS.double() - LOGITS.double().exp().sum(1, keepdim=True).log()


def test_the_loss_is_the_mean_surprise_at_the_targets():
    expected = -log_shares()[range(4), TARGET].mean()
    for training in (True, False):
        assert loss_of(Classification(3), training) == pytest.approx(float(expected))


def test_smoothing_spreads_a_share_over_all_classes_but_only_while_training():
    smoothed = torch.full((4, 3), 0.1 / 3, dtype=torch.float64)
    smoothed[range(4), TARGET] += 0.9
    task = Classification(3, label_smoothing=0.1)
    assert loss_of(task, training=True) == pytest.approx(float(-(smoothed * log_shares()).sum(1).mean()))
    assert loss_of(task, training=False) == loss_of(Classification(3), training=False)


def test_the_loss_of_a_network_that_knows_nothing_is_the_log_of_the_classes():
    loss = Classification(10).losses(torch.zeros(5, 10), torch.arange(5), training=True)["cross_entropy"]
    assert float(loss) == pytest.approx(math.log(10))


def test_accuracy_is_the_share_of_images_however_they_come():
    metrics = Classification(3).metrics("val/")
    metrics.update(LOGITS[:3], TARGET[:3])
    metrics.update(LOGITS[3:], TARGET[3:])
    assert metrics.keys() == {"val/accuracy", "val/balanced_accuracy", "val/f1"}
    assert float(metrics.compute()["val/accuracy"]) == 0.5  # the first and the third; a mean of batches would say 1/3


def test_classes_that_are_rare_count_as_often_as_they_are():
    logits, target = torch.eye(3)[[0, 0, 0, 0]], torch.tensor([0, 0, 0, 2])
    metrics = Classification(3).metrics()
    metrics.update(logits, target)
    assert float(metrics.compute()["accuracy"]) == 0.75


def test_the_best_five_count_where_there_are_more_than_five_classes():
    logits = torch.arange(6.0).repeat(3, 1)  # class 5 first, class 0 last
    metrics = Classification(6).metrics()
    metrics.update(logits, torch.tensor([5, 1, 0]))
    result = {name: float(value) for name, value in metrics.compute().items() if name.startswith("accuracy")}
    assert result == pytest.approx({"accuracy": 1 / 3, "accuracy_top5": 2 / 3})
    assert Classification(5).train_metrics("").keys() == {"accuracy"}


@pytest.mark.parametrize("smoothing", [-0.1, 1.0, 10])
def test_a_smoothing_that_is_no_share_is_refused(smoothing):
    with pytest.raises(ValueError, match=rf"label_smoothing must lie in \[0, 1\), got {smoothing}"):
        Classification(3, smoothing)


def test_accuracies_that_are_equal_at_first_are_counted_apart():
    """A first batch of one, wrong in both, must not tie the two together."""
    metrics = Classification(num_classes=6).metrics()
    for target in (5, 0, 1):  # the sixth, the first and the second choice
        metrics.update(torch.tensor([[6.0, 5, 4, 3, 2, 1]]), torch.tensor([target]))
    assert {name: round(float(value), 4) for name, value in metrics.compute().items()} == {
        "accuracy": 0.3333,
        "accuracy_top5": 0.6667,
        "balanced_accuracy": 0.3333,
        "f1": 0.1667,  # 1/2 for the first, which is all that is predicted; classes that do not occur are left out
    }
