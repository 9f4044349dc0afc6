import pickle
import shutil
import tarfile
import time
import urllib.error
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
from torchvision.datasets import CIFAR10, CIFAR100
from torchvision.datasets.utils import calculate_md5, extract_archive

from pruning_lit.data import Cifar10, Cifar100
from tests.data.small_images import STATISTICS


@pytest.fixture(params=[Cifar10, Cifar100])
def dataset(request):
    return request.param


@pytest.fixture
def archive(dataset, tmp_path, monkeypatch):
    """An archive in the official layout: two training files, one test file, three images each."""
    source = {Cifar10: CIFAR10, Cifar100: CIFAR100}[dataset]
    label, names = ("labels", "label_names") if dataset is Cifar10 else ("fine_labels", "fine_label_names")
    folder = tmp_path / "made" / source.base_folder
    folder.mkdir(parents=True)
    pixels = np.random.default_rng(0).integers(0, 256, (9, 3 * 32 * 32), dtype=np.uint8)
    for number, name in enumerate(("data_batch_1", "data_batch_2", "test_batch")):
        entry = {"data": pixels[3 * number : 3 * number + 3], label: [number, 0, 1]}
        (folder / name).write_bytes(pickle.dumps(entry))
    (folder / "meta").write_bytes(pickle.dumps({names: ["ant", "bee", "cow"]}))
    path = tmp_path / source.filename
    with tarfile.open(path, "w:gz") as file:
        file.add(folder, source.base_folder)
    monkeypatch.setattr(source, "train_list", [["data_batch_1", None], ["data_batch_2", None]])
    monkeypatch.setattr(source, "test_list", [["test_batch", calculate_md5(str(folder / "test_batch"))]])
    monkeypatch.setattr(source, "meta", {"filename": "meta", "key": names, "md5": None})
    monkeypatch.setattr(source, "tgz_md5", calculate_md5(str(path)))
    return path, torch.from_numpy(pixels).view(9, 3, 32, 32)


def cifar(dataset, root, **settings):
    data = dataset(root, batch_size=2, **STATISTICS, **settings)
    data.prepare_data()
    data.setup()
    return data


def test_an_archive_put_there_by_hand_is_unpacked_and_read(dataset, archive):
    path, pixels = archive
    data = cifar(dataset, path.parent)
    assert data.classes == ["ant", "bee", "cow"]
    assert torch.equal(data.parts.train.images, pixels[:6])
    assert torch.equal(data.parts.test.images, pixels[6:])
    assert data.parts.train.targets.tolist() == [0, 0, 1, 1, 0, 1]
    path.unlink()
    cifar(dataset, path.parent)  # the unpacked folder will do


def test_a_missing_folder_says_how_to_get_it(dataset, tmp_path):
    name = dataset.source.filename
    with pytest.raises(FileNotFoundError, match=rf"is missing: set dataset.download=true, or put {name} into '.*'"):
        cifar(dataset, tmp_path)


@pytest.fixture
def offered(archive, monkeypatch):
    """The archive, as the site of the data set has it."""
    path, whole = archive[0], archive[0].read_bytes()

    def fetch(url, root, filename, md5):
        (Path(root) / filename).write_bytes(whole)

    monkeypatch.setattr("pruning_lit.data.cifar.download_url", fetch)
    return path, whole


@pytest.mark.parametrize("fetched", [True, False], ids=["downloaded", "put there"])
def test_of_damaged_files_it_is_said_what_to_do_and_that_works(dataset, offered, fetched):
    path, whole = offered
    path.write_bytes(whole[:-10])
    with pytest.raises(
        ValueError, match=rf"'.*{path.name}' is .*damaged: delete it, then set dataset.download=true, or put a whole"
    ):
        cifar(dataset, path.parent, download=fetched)
    path.unlink()
    if not fetched:
        path.write_bytes(whole)
    cifar(dataset, path.parent, download=fetched)
    folder = path.parent / dataset.source.base_folder
    (folder / "test_batch").write_bytes(b"")
    with pytest.raises(
        FileNotFoundError, match=rf"' is .*damaged: delete it, then set dataset.download=true, or put {path.name} into"
    ):
        cifar(dataset, path.parent, download=fetched)
    shutil.rmtree(folder)
    if fetched:
        path.unlink()
    cifar(dataset, path.parent, download=fetched)


def test_processes_that_begin_together_unpack_once_and_read_whole_files(dataset, archive, monkeypatch):
    path, pixels = archive
    unpacked: list[str] = []

    def slowly(file, target):
        unpacked.append(target)
        extract_archive(file, target)
        time.sleep(0.3)

    monkeypatch.setattr("pruning_lit.data.cifar.extract_archive", slowly)
    with ThreadPoolExecutor(3) as pool:
        for data in pool.map(lambda _: cifar(dataset, path.parent), range(3)):
            assert torch.equal(data.parts.test.images, pixels[6:])
    assert len(unpacked) == 1


def test_a_failed_download_says_what_to_do(dataset, tmp_path, monkeypatch):
    def unreachable(*args, **kwargs):
        raise urllib.error.URLError("no network")

    monkeypatch.setattr("pruning_lit.data.cifar.download_url", unreachable)
    with pytest.raises(
        FileNotFoundError, match=r"could not be downloaded \(.*no network.*\): put the archive into '.*' by"
    ):
        cifar(dataset, tmp_path, download=True)
