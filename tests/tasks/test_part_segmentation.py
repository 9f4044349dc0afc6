"""Loss and metrics of part segmentation."""

import json
from pathlib import Path
from types import SimpleNamespace
from unittest import mock

import numpy as np
import pytest
import torch

from pruning_lit.data import Digits, Shapes10Parts
from pruning_lit.data.sampler import OrderedBatches
from pruning_lit.tasks import PartSegmentation
from tests.commands import in_own_process
from tests.places import VECTORS

CATEGORIES = {"table": [0, 1], "mug": [2, 3, 4]}


def golden():
    expected = json.loads((VECTORS / "pointnet2" / "metrics.json").read_text())
    with np.load(VECTORS / "pointnet2" / "metrics.npz") as file:
        logits, targets = (torch.from_numpy(file[name]) for name in ("logits", "target"))
    categories = {name: expected["parts"][name] for name in expected["names"]}
    values = {new: expected[old] for new, old in (("miou_instances", "instance_miou"), ("miou_classes", "class_miou"))}
    # ours: (clouds, parts, points)
    return (
        PartSegmentation(50, categories),
        logits.transpose(1, 2),
        targets,
        values | {"accuracy": expected["accuracy"]},
    )


def measured(task, batches, over_ranks=False):
    metrics = task.metrics(over_ranks=over_ranks)
    for outputs, targets in batches:
        task.update(metrics, outputs, targets.long())
    return {name: float(value) for name, value in metrics.compute().items()}


@pytest.mark.parametrize("size", [1, 5, 24])
def test_metrics_are_those_of_the_golden_predictions_however_they_are_batched(size):
    task, logits, targets, expected = golden()
    assert measured(task, zip(logits.split(size), targets.split(size), strict=True)) == pytest.approx(
        expected, abs=1e-12
    )


def of_one_rank(rank, folder):
    store = torch.distributed.FileStore(str(folder / "store"), 2)
    torch.distributed.init_process_group("gloo", rank=rank, world_size=2, store=store)
    task, logits, targets, _ = golden()
    places = [*OrderedBatches(23, 3, rank, 2)]
    found = measured(task, [(logits[each], targets[each]) for each in places], over_ranks=True)
    torch.save((found, sum(map(len, places))), folder / f"{rank}.pt")
    torch.distributed.destroy_process_group()


@in_own_process
def test_two_processes_with_uneven_numbers_of_clouds_find_what_one_does(tmp_path: Path):
    torch.multiprocessing.start_processes(of_one_rank, (tmp_path,), nprocs=2, start_method="fork")
    task, logits, targets, _ = golden()
    alone = measured(task, [(logits[:23], targets[:23])])
    ranks = [torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in (0, 1)]
    assert {num_clouds for _, num_clouds in ranks} == {11, 12}
    for found, _ in ranks:
        assert found == pytest.approx(alone, abs=1e-12)


def logits_of(parts, num_parts=5):
    return torch.nn.functional.one_hot(torch.tensor(parts), num_parts).transpose(1, 2).float()


def test_a_part_that_is_neither_there_nor_predicted_is_whole_and_points_without_a_part_do_not_count():
    task = PartSegmentation(5, CATEGORIES)
    targets = torch.tensor([[2, 2, 3, -1], [0, 0, 0, 0], [-1, -1, -1, -1]])
    outputs = logits_of([[2, 3, 3, 4], [0, 0, 1, 1], [0, 0, 0, 0]])
    found = measured(task, [(outputs, targets)])
    # mug: 1/2, 1/2 and the handle neither there nor predicted; table: 1/2 and 0/2
    clouds = (1 / 2 + 1 / 2 + 1) / 3, 1 / 4
    expected = {"miou_instances": sum(clouds) / 2, "miou_classes": sum(clouds) / 2, "accuracy": 4 / 7}
    assert found == pytest.approx(expected)


def test_only_parts_of_the_category_are_chosen():
    task = PartSegmentation(5, CATEGORIES)
    outputs = logits_of([[2, 3, 4, 2]])
    outputs[:, 1] = 0.5  # the likeliest of a table's
    assert measured(task, [(outputs, torch.tensor([[1, 1, 1, 1]]))])["miou_instances"] == 1.0


def test_the_loss_is_the_mean_over_points_that_count():
    task, targets = PartSegmentation(5, CATEGORIES), torch.tensor([[2, -1], [0, 1]])
    outputs = torch.randn(2, 5, 2, generator=torch.Generator().manual_seed(0))
    (loss,) = task.losses(outputs, targets, training=True).values()
    shares = outputs.log_softmax(1)
    assert float(loss) == pytest.approx(-float(shares[0, 2, 0] + shares[1, 0, 0] + shares[1, 1, 1]) / 3)


class Network(torch.nn.Module):
    """A layer for each point, which is told the category."""

    def __init__(self, num_parts):
        super().__init__()
        self.layer = torch.nn.Conv1d(4, num_parts, 1)

    def forward(self, points, category):
        told = category.to(points)[:, None, None].expand(-1, points.shape[1], 1)
        return self.layer(torch.cat([points, told], 2).transpose(1, 2))


def test_data_and_network_fit_or_are_refused_in_a_sentence():
    data = Shapes10Parts(4, num_points=32, num_train=20, num_test=10)
    data.setup()
    task = PartSegmentation(24, data.categories)
    task.require_fit(Network(24), data)
    with pytest.raises(ValueError, match=r"needs one tensor of shape \(1, 24, 32\): \(clouds, parts, points\)"):
        task.require_fit(Network(23), data)
    with pytest.raises(ValueError, match=r"task=part_segmentation needs integers of shape \(N, 32\), 0 to 22"):
        PartSegmentation(23, data.categories).require_fit(Network(23), data)
    digits = Digits(batch_size=4, mean=[0.3] * 3, std=[0.3] * 3)
    digits.setup()
    with pytest.raises(ValueError, match=r"int64 of shape \(N,\)"):
        task.require_targets(digits.sample_targets(), digits.example)


def test_a_cloud_has_changed_where_one_of_its_points_has():
    task, before = PartSegmentation(5, CATEGORIES), logits_of([[2, 3], [0, 1]])
    assert task.changed(before, before) == 0
    assert task.changed(before, logits_of([[2, 3], [0, 0]])) == 1


def test_zeros_are_traced_as_a_sphere_of_the_first_category():
    task = PartSegmentation(5, CATEGORIES)
    points, category = task.view_example(Network(5), torch.zeros(2, 40, 3))
    torch.testing.assert_close(points.norm(dim=2), torch.ones(2, 40))
    assert category.tolist() == [0, 0]
    assert task.view_example(Network(5), (points, category)) == (points, category)
    assert task.metric_names() == ["miou_instances", "miou_classes", "accuracy"]


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int8, torch.int16, torch.uint16, torch.int32])
def test_parts_may_be_integers_of_any_width(dtype):
    task, outputs = PartSegmentation(5, CATEGORIES), torch.randn(2, 5, 3)
    targets = torch.tensor([[0, 1, 1], [4, 2, 3]])
    given = targets.to(dtype)
    task.require_targets(given, torch.zeros(2, 3, 3))
    metrics = [task.metrics() for _ in range(2)]
    for metric, each in zip(metrics, (targets, given), strict=True):
        task.update(metric, outputs, each)
    assert metrics[0].compute() == metrics[1].compute()
    assert torch.equal(task.logits(outputs, given), task.logits(outputs, targets))
    assert torch.equal(task.right_classes(given), task.right_classes(targets))
    assert task.losses(outputs, given, True) == task.losses(outputs, targets, True)


def test_a_cloud_in_which_no_point_counts_has_no_loss():
    task = PartSegmentation(5, CATEGORIES)
    (loss,) = task.losses(torch.randn(1, 5, 3), torch.full((1, 3), -1), True).values()
    assert float(loss) == 0


def test_more_categories_than_the_network_knows_are_refused_beforehand():
    data = Shapes10Parts(batch_size=4, num_train=8, num_test=4, num_points=32)
    data.setup()
    net = SimpleNamespace(num_categories=9)
    task = PartSegmentation(data.num_classes, data.categories)
    with (
        mock.patch("pruning_lit.tasks.base.Task.require_fit"),
        pytest.raises(ValueError, match=r"10 categories, and the network knows 9"),
    ):
        task.require_fit(net, data)
