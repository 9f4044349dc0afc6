"""Classification of point clouds: metrics as the specification has them, not means over batches."""

import json

import pytest
import torch
from torch.nn import functional as F

from pruning_lit.data import Shapes10, Shapes10Parts
from pruning_lit.tasks import PointClassification
from pruning_lit.tasks.class_accuracy import ClassAccuracy
from tests.places import VECTORS


def measured(task, outputs, targets, size):
    metrics = task.metrics("val/")
    for batch in zip(outputs.split(size), targets.split(size), strict=True):
        task.update(metrics, *batch)
    return {name: float(value) for name, value in metrics.compute().items()}


@pytest.mark.parametrize("size", [7, 24, 230])
def test_accuracies_are_those_of_the_golden_predictions_however_they_are_batched(size):
    golden = json.loads((VECTORS / "pointnet2" / "accuracy.json").read_text())
    targets, predicted = torch.tensor(golden["target"]), torch.tensor(golden["predicted"])
    found = measured(PointClassification(40), F.one_hot(predicted, 40).float(), targets, size)
    expected = {"val/accuracy": golden["overall_accuracy"], "val/accuracy_classes": golden["class_accuracy"]}
    assert found == pytest.approx(expected, abs=1e-12)
    assert golden["batchwise_of_the_release"]["class_"] != pytest.approx(golden["class_accuracy"], abs=1e-3)


def test_classes_without_a_cloud_are_left_out_of_the_mean():
    metric = ClassAccuracy(4, mean=True)
    metric.update(F.one_hot(torch.tensor([0, 3, 1]), 4).float(), torch.tensor([0, 0, 1]))
    assert float(metric.compute()) == 0.75


def test_names_and_settings_are_those_of_the_task():
    task = PointClassification(10, label_smoothing=0.1)
    assert task.metric_names() == ["accuracy", "accuracy_classes"]
    assert task.primary.name == "accuracy"
    assert not task.maps_are_images
    with pytest.raises(ValueError, match="label_smoothing must lie in"):
        PointClassification(10, label_smoothing=1.0)


def test_clouds_fit_and_zeros_are_traced_as_a_sphere():
    data = Shapes10(4, num_points=32, num_train=20, num_test=10)
    data.setup()
    net = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(96, 10))
    task = PointClassification(10)
    task.require_fit(net, data)
    assert task.view_example(net, data.example) is data.example
    for width in (3, 6):
        sphere = task.view_example(net, torch.zeros(1, 50, width))
        torch.testing.assert_close(sphere[..., :3].norm(dim=-1), torch.ones(1, 50))
        assert len(sphere[0].unique(dim=0)) == 50


def test_parts_are_told_their_task():
    data = Shapes10Parts(4, num_points=32, num_train=20, num_test=10)
    data.setup()
    with pytest.raises(ValueError, match=r"choose task=part_segmentation"):
        PointClassification(24).require_fit(torch.nn.Identity(), data)
