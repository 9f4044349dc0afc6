"""Loss and metrics of multi-label classification."""

import pytest
import torch
from torch.nn import functional as F

from pruning_lit.tasks import MultiLabel

LOGITS = torch.tensor([[2.0, -1.0, 0.5], [-2.0, 3.0, 0.1], [1.0, 1.0, -4.0], [0.3, -0.2, 2.0]])
TARGETS = torch.tensor([[1, 0, 0], [0, 1, 1], [1, 0, 0], [0, 1, 1]])


def test_the_loss_is_the_mean_surprise_of_every_yes_and_no():
    right = torch.where(TARGETS == 1, LOGITS, -LOGITS).double()
    (loss,) = MultiLabel(3).losses(LOGITS, TARGETS, training=True).values()
    assert float(loss) == pytest.approx(float(-F.logsigmoid(right).mean()))


def test_average_precision_is_that_of_the_ranking_and_the_mean_over_classes():
    task = MultiLabel(3)
    metrics = task.metrics("val/")
    for rows in (slice(0, 1), slice(1, 4)):  # the first batch has no logit outside of [-2, 2], the second has
        task.update(metrics, LOGITS[rows], TARGETS[rows])
    # class 0: ranked 1, 1, 0, 0; class 1: 1, 0, 1, 0; class 2: 1, 0, 1, 0
    expected = (1 + (1 + 2 / 3) / 2 + (1 + 2 / 3) / 2) / 3
    found = {name: float(value) for name, value in metrics.compute().items()}
    assert found["val/average_precision"] == pytest.approx(expected)
    # found at one half: classes 0 0.8 (2 of 2, and 1 wrong), 1 (1 of 2, 1 wrong) 0.5, 2 (2 of 2, 1 wrong) 0.8
    assert found["val/f1"] == pytest.approx((0.8 + 0.5 + 0.8) / 3)
    assert task.primary.name in task.metrics()


def test_classes_of_which_there_are_no_images_do_not_count():
    task, targets = MultiLabel(3), torch.tensor([[1, 0, 0], [0, 1, 0]])
    metrics = task.metrics()
    task.update(metrics, torch.tensor([[3.0, -3.0, -3.0], [-3.0, 3.0, -3.0]]), targets)
    assert {name: float(value) for name, value in metrics.compute().items()} == {"average_precision": 1, "f1": 1}
    task.update(metrics, torch.tensor([[-3.0, -3.0, 3.0]]), torch.zeros(1, 3))  # found where it is not
    found = {name: float(value) for name, value in metrics.compute().items()}
    assert found == {"average_precision": 1, "f1": pytest.approx(2 / 3)}


def test_large_logits_are_told_apart():
    task = MultiLabel(2)
    metrics = task.metrics()
    task.update(metrics, torch.tensor([[30.0, 1.0], [20.0, 0.0], [-5.0, -1.0]]), torch.tensor([[1, 1], [0, 0], [0, 0]]))
    assert float(metrics.compute()["average_precision"]) == 1


def test_an_answer_has_changed_where_another_class_is_found():
    other = LOGITS.clone()
    other[1, 2], other[3, 0] = -0.1, 0.4  # the first crosses one half, the second does not
    assert MultiLabel(3).changed(LOGITS, other) == 1
    assert MultiLabel(3).changed(LOGITS, LOGITS) == 0


def test_outputs_of_another_shape_are_refused():
    told = r"shape \(2, 4\) for 2 image\(s\); multi-label classification needs one tensor of shape \(2, 3\)"
    with pytest.raises(ValueError, match=told):
        MultiLabel(3).require_outputs(torch.zeros(2, 4), torch.zeros(2, 3, 8, 8))
    with pytest.raises(ValueError, match="a tuple for 4"):
        MultiLabel(3).losses((LOGITS, LOGITS), TARGETS, training=True)


@pytest.mark.parametrize("threshold", [0, 1, 2.0])
def test_a_threshold_that_is_no_probability_is_refused(threshold):
    with pytest.raises(ValueError, match=r"task\.threshold is a probability"):
        MultiLabel(3, threshold)
