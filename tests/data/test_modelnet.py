"""ModelNet40 in its three layouts."""

import importlib.util
import logging

import numpy as np
import pytest
import torch

from pruning_lit.data import ModelNet40
from pruning_lit.data.modelnet_meshes import read_off, sample_mesh
from tests.data import small_clouds
from tests.data.detection_batches import epoch, on_rank
from tests.data.small_clouds import CLASSES, NAMES, rows, write_meshes, write_text

with_h5py = pytest.mark.skipif(importlib.util.find_spec("h5py") is None, reason="h5py is an extra")


def modelnet(root, **settings):
    data = ModelNet40(**({"batch_size": 2, "root": root, "num_points": 32} | settings))
    data.prepare_data()
    data.setup()
    return on_rank(data)


def expected(name, num_points=32):
    """The first points, centred, in the unit ball."""
    points = rows(name)[:num_points, :3]
    points = points - points.mean(0)
    return torch.from_numpy(points / np.linalg.norm(points, axis=1).max())


@pytest.mark.parametrize("layout", ["text", pytest.param("hdf5", marks=with_h5py)])
def test_clouds_are_the_first_points_of_each_file_normalised(tmp_path, layout):
    data = modelnet(getattr(small_clouds, f"write_{layout}")(tmp_path / "data"))
    assert data.classes == CLASSES
    assert (data.num_classes, data.shape, data.num_training) == (2, (32, 3), 3)
    for part, names in ((data.parts.train, NAMES["train"]), (data.parts.test, NAMES["test"])):
        assert [CLASSES[each] for each in part.targets] == [name.rpartition("_")[0] for name in names]
        for cloud, name in zip(part.points, names, strict=True):
            torch.testing.assert_close(cloud.float(), expected(name), rtol=0, atol=1e-3)  # float16
    ((points, classes), *_) = [data.on_after_batch_transfer(batch, 0) for batch in data.test_dataloader()]
    assert points.dtype == torch.float32
    assert classes.tolist() == [1, 0]


@pytest.mark.parametrize("layout", ["text", pytest.param("hdf5", marks=with_h5py)])
def test_normals_come_along(tmp_path, layout):
    more = {"with_normals": True} if layout == "hdf5" else {}
    data = modelnet(getattr(small_clouds, f"write_{layout}")(tmp_path / "data", **more), normals=True)
    assert data.shape == (32, 6)
    normals = torch.from_numpy(rows("chair_0001")[:32, 3:])
    torch.testing.assert_close(data.parts.train.points[0, :, 3:].float(), normals, rtol=1e-3, atol=1e-3)


def test_meshes_are_sampled_evenly_and_always_alike(tmp_path):
    root = write_meshes(tmp_path / "data")
    data, again = (modelnet(root, num_points=4000, normals=True) for _ in range(2))
    assert torch.equal(data.parts.train.points, again.parts.train.points)
    assert data.parts.train.targets.tolist() == [0, 1, 1]
    cloud, other = data.parts.train.points.float()[:2]
    assert not torch.equal(cloud, other)
    assert cloud[:, 2].abs().max() < 1e-3
    assert (cloud[:, 0].abs() / cloud[:, 1].abs().max()).max() == pytest.approx(2, abs=0.05)  # of 2 by 1
    assert cloud[:, 3:].abs().mean(0).tolist() == pytest.approx([0, 0, 1])
    below = (cloud[:, 1] < 0).float().mean()  # the middle of a rectangle
    assert below == pytest.approx(0.5, abs=0.03)


def test_faces_have_points_by_their_area():
    vertices = np.array([[0, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 5], [3, 0, 5], [0, 3, 5.0]])
    points = sample_mesh(vertices, np.array([[0, 1, 2], [3, 4, 5]]), 20_000, np.random.default_rng(0))
    large = points[points[:, 2] > 1]
    assert len(large) / len(points) == pytest.approx(0.9, abs=0.01)
    assert large[:, :2].mean(0) == pytest.approx([1, 1], abs=0.02)  # the centre of gravity
    assert (large[:, :2].sum(1) <= 3 + 1e-9).all()


@pytest.mark.parametrize("header", ["OFF\n4 1 0\n", "OFF4 1 0\n", "OFF 4 1 0\n"])
def test_larger_faces_are_cut_wherever_the_counts_stand(tmp_path, header):
    path = tmp_path / "a.off"
    path.write_text(header + "0 0 0\n1 0 0\n1 1 0\n0 1 0\n4 0 1 2 3\n")
    vertices, faces = read_off(path)
    assert vertices.tolist() == [[0, 0, 0], [1, 0, 0], [1, 1, 0], [0, 1, 0]]
    assert faces.tolist() == [[0, 1, 2], [0, 2, 3]]


def test_a_cache_is_read_until_files_or_settings_change(tmp_path, caplog):
    root, cache = write_text(tmp_path / "data"), tmp_path / "clouds.safetensors"
    first = modelnet(root, cache=cache).parts.train.points
    written = cache.stat().st_mtime_ns
    assert torch.equal(modelnet(root, cache=cache).parts.train.points, first)
    assert cache.stat().st_mtime_ns == written
    with caplog.at_level(logging.INFO):
        assert modelnet(root, cache=cache, num_points=16).shape == (16, 3)
    assert "made anew" in caplog.text
    np.savetxt(root / "chair" / "chair_0001.txt", rows("other"), delimiter=",")
    assert not torch.equal(modelnet(root, cache=cache).parts.train.points[0], first[0])


def test_training_augments_with_the_draws_of_the_run(tmp_path):
    root = write_text(tmp_path / "data")
    plain, (points, _) = epoch(modelnet(root, scale=(1, 1), shift=0.0))[0], epoch(modelnet(root, dropout=0.8))[0]
    assert not torch.equal(points, plain[0])
    assert torch.equal(points, epoch(modelnet(root, dropout=0.8))[0][0])


def broken(root, how):
    chair = root / "chair" / "chair_0001.txt"
    if how == "no folder":
        return root / "elsewhere"
    if how == "nothing":
        (root.parent / "empty").mkdir()
        return root.parent / "empty"
    if how == "few points":
        np.savetxt(chair, rows("few", 20), delimiter=",")
    if how == "not finite":
        table = rows("chair_0001")
        table[7, 1] = np.nan
        np.savetxt(chair, table, delimiter=",")
    if how == "words":
        chair.write_text("one,two\n")
    if how == "no file":
        chair.unlink()
    if how == "no list":
        (root / "modelnet40_test.txt").unlink()
    if how == "unknown class":
        (root / "modelnet40_test.txt").write_text("sofa_0001\n")
    if how == "no class folder":
        chair.rename(root / "chair_0001.txt")
        (root / "chair" / "chair_0002.txt").unlink()
        (root / "chair").rmdir()
    return root


@pytest.mark.parametrize(
    ("how", "sentence"),
    [
        ("no folder", r"ModelNet40 is expected in '.*elsewhere', which is missing: put 'modelnet40_shape_names\.txt'"),
        ("nothing", r"which has nothing of it: put"),
        ("few points", r"chair_0001\.txt' has 20 points, but dataset\.num_points asks for 32"),
        ("not finite", r"chair_0001\.txt' has numbers that are not finite \(point 7\)"),
        ("words", r"chair_0001\.txt' is no table of numbers"),
        ("no file", r"chair_0001\.txt' is missing, but the lists of the data set name it"),
        ("no list", r"modelnet40_test\.txt' is missing beside 'modelnet40_shape_names\.txt'"),
        ("unknown class", r"'modelnet40_test\.txt' names clouds of \['sofa'\], which 'modelnet40_shape_names\.txt'"),
        ("no class folder", r"has no folder \['chair'\], but 'modelnet40_train\.txt' names clouds there"),
    ],
)
@pytest.mark.parametrize("cached", [False, True])
def test_what_does_not_fit_is_told_in_a_sentence(tmp_path, how, sentence, cached):
    root = broken(write_text(tmp_path / "data"), how)
    with pytest.raises((ValueError, FileNotFoundError), match=sentence):
        modelnet(root, cache=tmp_path / "cache.safetensors" if cached else None)


@pytest.mark.parametrize("text", ["PLY\n", "OFF\n4 2 0\n0 0 0\n", "OFF\n1 1 0\n0 0 0\n3 0 1 2\n", "OFF\nx\n"])
def test_a_file_that_is_no_mesh_is_told_in_a_sentence(tmp_path, text):
    root = write_meshes(tmp_path / "data")
    (root / "chair" / "train" / "chair_0001.off").write_text(text)
    with pytest.raises(ValueError, match=r"chair_0001\.off' (does not begin with OFF|is no complete OFF file)"):
        modelnet(root)


def test_a_class_without_meshes_to_test_is_told_in_a_sentence(tmp_path):
    root = write_meshes(tmp_path / "data")
    (root / "chair" / "test" / "chair_0002.off").unlink()
    with pytest.raises(FileNotFoundError, match=r"chair/test' has no OFF files: expected is <class>/\{train,test\}"):
        modelnet(root)


@with_h5py
def test_hdf5_files_without_normals_or_labels_are_told_in_a_sentence(tmp_path):
    import h5py

    root = small_clouds.write_hdf5(tmp_path / "data")
    with pytest.raises(ValueError, match=r"has no \['normal'\], only \['data', 'label'\]: set dataset\.normals=false"):
        modelnet(root, normals=True)
    with h5py.File(root / "ply_data_test0.h5", "a") as file:
        file["label"][0] = 7
    with pytest.raises(ValueError, match=r"has the label 7, but 'shape_names\.txt' names 2 classes"):
        modelnet(root)
    (root / "ply_data_test0.h5").write_text("text")
    with pytest.raises(ValueError, match=r"ply_data_test0\.h5' cannot be read as HDF5"):
        modelnet(root)


def test_hdf5_files_without_the_package_are_told_in_a_sentence(tmp_path, monkeypatch):
    (tmp_path / "ply_data_train0.h5").touch()
    monkeypatch.setattr("pruning_lit.data.modelnet_hdf5.find_spec", lambda name: None)
    with pytest.raises(ValueError, match=r"pip install 'pruning_lit\[points\]'"):
        modelnet(tmp_path)


def test_a_cache_knows_classes_and_parts(tmp_path):
    root, cache = write_text(tmp_path / "data"), tmp_path / "clouds.safetensors"
    before = modelnet(root, cache=cache).parts.train.targets.tolist()
    (root / "modelnet40_shape_names.txt").write_text("night_stand\nchair\n")
    assert modelnet(root, cache=cache).parts.train.targets.tolist() == [1 - each for each in before]
    lists = [root / f"modelnet40_{part}.txt" for part in ("train", "test")]
    (train, test) = (path.read_text().split() for path in lists)
    lists[0].write_text("\n".join(train[:2]) + "\n")
    lists[1].write_text("\n".join([train[2], *test]) + "\n")
    data = modelnet(root, cache=cache)
    assert (len(data.parts.train), len(data.parts.test)) == (2, 3)
