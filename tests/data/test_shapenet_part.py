"""ShapeNet part: clouds of different sizes, their parts, and what counts in evaluation."""

import json

import numpy as np
import pytest
import torch

from pruning_lit.data import ShapeNetPart
from tests.data.detection_batches import epoch, on_rank, resumed
from tests.data.small_clouds import rows, write_shapenet
from tests.places import VECTORS

MUG, KNIFE = 11, 7


def shapenet(root, **settings):
    data = ShapeNetPart(**({"batch_size": 2, "root": root, "num_points": 32} | settings))
    data.prepare_data()
    data.setup()
    return on_rank(data)


def normalised(name, number):
    points = rows(name, number)[:, :3]
    points = points - points.mean(0)
    return torch.from_numpy(points / np.linalg.norm(points, axis=1).max())


def test_categories_and_parts_are_those_of_the_public_version(tmp_path):
    data = shapenet(write_shapenet(tmp_path / "data"))
    golden = json.loads((VECTORS / "pointnet2" / "metrics.json").read_text())
    assert list(data.categories) == golden["names"]
    assert data.categories == golden["parts"]
    assert (data.num_classes, data.num_categories, data.shape) == (50, 16, (32, 3))
    assert data.classes[36] == "Mug 0"


def test_in_evaluation_all_points_are_there_once_and_copies_do_not_count(tmp_path):
    data = shapenet(write_shapenet(tmp_path / "data"))
    ((((points, category), parts)),) = [data.on_after_batch_transfer(batch, 0) for batch in data.test_dataloader()]
    assert category.tolist() == [KNIFE, MUG]
    mug = normalised("e", 25)
    torch.testing.assert_close(points[1, :25], mug, rtol=0, atol=1e-3)
    assert torch.equal(points[1, 25:], points[1, :1].expand(7, 3))
    assert parts[1].tolist() == [36 + number % 2 for number in range(25)] + [-1] * 7
    knife = normalised("d", 50)
    nearest = torch.cdist(points[0], knife).min(1)
    assert nearest.values.max() < 2e-3
    assert len(nearest.indices.unique()) == 32  # without replacement
    assert parts[0].tolist() == (22 + nearest.indices % 2).tolist()
    again = next(iter(shapenet(tmp_path / "data", seed=5).test_dataloader()))
    assert torch.equal(again[0].float(), points)


def test_training_draws_points_with_replacement_anew_in_every_epoch(tmp_path):
    root = write_shapenet(tmp_path / "data")
    still = {"scale": (1, 1), "shift": 0.0}
    first, second = (epoch(shapenet(root, **still), number) for number in (0, 1))
    (points, category), parts = first[0]
    assert points.shape == (2, 32, 3)
    for cloud, kind, labels in zip(points, category, parts, strict=True):
        assert len(cloud.unique(dim=0)) < 32
        assert set(labels.tolist()) <= ({36, 37} if kind == MUG else {22, 23})
    assert not any(torch.equal(cloud, other) for cloud in points for other in torch.cat([x[0][0] for x in second]))
    assert torch.equal(resumed(shapenet(root, **still), 0, 1)[0][0][0], first[1][0][0])
    assert sum(len(targets) for _, targets in first) == 3  # with the validation part


def test_a_cache_gives_what_the_files_give(tmp_path):
    root, cache = write_shapenet(tmp_path / "data"), tmp_path / "clouds.safetensors"
    plain = shapenet(root, normals=True)
    for _ in range(2):
        data = shapenet(root, normals=True, cache=cache)
        assert data.shape == (32, 6)
        assert torch.equal(data.parts.train.points, plain.parts.train.points)
        assert torch.equal(data.parts.train.part_labels, plain.parts.train.part_labels)


def broken(root, how):
    mug = root / "00000011" / "a.txt"
    table = np.loadtxt(mug)
    if how == "nothing":
        return root / "elsewhere"
    if how == "unknown part":
        table[3, 6] = 38
    if how == "no parts":
        table = table[:, :6]
    if how == "not finite":
        table[3, 2] = np.inf
    np.savetxt(mug, table)
    if how == "no file":
        mug.unlink()
    if how == "no list":
        (root / "train_test_split" / "shuffled_val_file_list.json").unlink()
    if how == "another list":
        (root / "train_test_split" / "shuffled_val_file_list.json").write_text('["a"]')
    if how == "no JSON":
        (root / "train_test_split" / "shuffled_val_file_list.json").write_text("a")
    if how == "other categories":
        (root / "synsetoffset2category.txt").write_text("Sofa 1\n")
    return root


@pytest.mark.parametrize(
    ("how", "sentence"),
    [
        ("nothing", r"ShapeNet part is expected in '.*elsewhere', which has no 'synsetoffset2category\.txt': put"),
        ("unknown part", r"a\.txt' has parts that are none of category Mug, 36 to 37"),
        ("no parts", r"a\.txt' has 6 numbers in a row, expected x y z nx ny nz part"),
        ("not finite", r"a\.txt' has numbers that are not finite \(point 3\)"),
        ("no file", r"a\.txt' is missing, but the lists"),
        ("no list", r"shuffled_val_file_list\.json' is missing"),
        ("another list", r"shuffled_val_file_list\.json' names 'a', expected shape_data/<folder of a category>/<name>"),
        ("no JSON", r"shuffled_val_file_list\.json' is no JSON"),
        ("other categories", r"has not the 16 categories of ShapeNet part: \['Airplane', .*'Sofa', 'Table'\] differ"),
    ],
)
def test_what_does_not_fit_is_told_in_a_sentence(tmp_path, how, sentence):
    root = broken(write_shapenet(tmp_path / "data"), how)
    with pytest.raises((ValueError, FileNotFoundError), match=sentence):
        shapenet(root)


def test_copies_of_points_change_no_answer_and_no_metric():
    from pruning_lit.tasks import PartSegmentation

    task = PartSegmentation(4, {"a": [0, 1], "b": [2, 3]})
    outputs = torch.randn(3, 4, 10, generator=torch.Generator().manual_seed(0))
    targets = torch.tensor([[0, 1] * 5, [2, 3] * 5, [3, 3] * 5])
    filled = torch.cat([outputs, outputs[:, :, :1].expand(-1, -1, 6)], dim=2)
    without = torch.cat([targets, torch.full((3, 6), -1)], dim=1)
    values = []
    for pair in ((outputs, targets), (filled, without)):
        metrics = task.metrics()
        task.update(metrics, *pair)
        values.append({name: float(value) for name, value in metrics.compute().items()})
    assert values[0] == values[1]
