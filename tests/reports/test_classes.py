"""Section on classes: confusion of test images, counted exactly, and which classes are hurt."""

from dataclasses import replace
from io import BytesIO
from types import SimpleNamespace

import pytest
import torch
from sklearn.metrics import confusion_matrix as of_scikit_learn
from torch import nn

from pruning_lit.reports.classes import ClassesSection
from pruning_lit.tasks import Classification, evaluate
from pruning_lit.tasks.evaluation import confusion_matrix

RANDOM = torch.Generator().manual_seed(0)
TARGETS = torch.cat([torch.full((20,), 0), torch.full((9,), 1), torch.full((4,), 2)])
INPUTS = torch.randn(len(TARGETS), 4, generator=RANDOM) + 2 * nn.functional.one_hot(TARGETS, 4)


class Data:
    """A test part in uneven batches; there is no image of the fourth class."""

    num_classes = 4
    classes = ("cat", "dog", "frog", "newt")

    def test_batches(self):
        return [(INPUTS[part], TARGETS[part]) for part in (slice(0, 16), slice(16, 32), slice(32, None))]

    def on_after_batch_transfer(self, batch, dataloader_idx):
        return batch


def linear(scale: float) -> nn.Module:
    net = nn.Linear(4, 4)
    with torch.no_grad():
        net.weight.copy_(torch.eye(4))
        net.bias.copy_(torch.tensor([scale, 0.0, 0.0, 0.0]))
    return net


def section(trained: bool = True) -> ClassesSection:
    task, nets = Classification(4), (linear(0.0), linear(2.0))
    metrics = [evaluate(net, Data(), task) for net in nets]
    return ClassesSection.of(task, Data(), nets, (None, None), (metrics[0] if trained else None, metrics[1]), trained)


def test_the_matrix_counts_every_test_image_once():
    found = confusion_matrix(linear(0.0), Data(), Classification(4), 4)
    assert found.tolist() == of_scikit_learn(TARGETS, INPUTS.argmax(1), labels=range(4)).tolist()


def test_metrics_and_matrices_are_data_of_the_report():
    data = section().data()
    assert data["metrics"].keys() == {"accuracy", "balanced_accuracy", "f1"}
    matrix = torch.tensor(data["confusion"]["after"])
    there = matrix.sum(1) > 0
    recall = (matrix.diagonal()[there] / matrix.sum(1)[there]).mean()
    assert data["metrics"]["balanced_accuracy"]["after"] == pytest.approx(float(recall))
    assert data["metrics"]["accuracy"]["after"] == pytest.approx(float(matrix.trace() / matrix.sum()))
    assert data["confusion"]["before"] != data["confusion"]["after"]
    assert data["classes"] == ["cat", "dog", "frog", "newt"]


def test_the_class_that_is_right_least_often_comes_first():
    rows = [line.split(" | ") for line in section().markdown(None).splitlines() if line.startswith(("| frog", "| cat"))]
    assert [row[0] for row in rows] == ["| frog", "| cat"]  # all that was biased is taken for a cat
    assert rows[0][1] == "4"
    assert rows[0][5].startswith("cat")
    assert "newt |" not in section().markdown(None)  # of which there is no image
    assert "F1" in section().markdown(None)


def test_without_a_trained_network_there_is_one_matrix():
    alone = section(trained=False)
    assert alone.data()["confusion"]["before"] is None
    assert len(alone.figure().axes) == 1
    assert len(section().figure().axes) == 2
    assert "![" in alone.markdown("classes.png")


def test_too_many_classes_have_no_matrix():
    data = SimpleNamespace(num_classes=101, classes=None)
    many = ClassesSection.of(Classification(101), data, (None, None), (None, None), ({}, {"accuracy": 0.5}), True)
    assert (many.before, many.after, many.figure()) == (None, None, None)
    assert "50.00 %" in many.markdown(None)


def test_names_with_dollar_signs_are_drawn_as_they_are():
    found = replace(section(), classes=["under_$10_to_$20", "$$", "a", "b"])
    figure = found.figure()
    figure.savefig(BytesIO())  # a formula that cannot be read would be told here
    assert figure.axes[0].get_xticklabels()[1].get_text() == r"\$\$"
