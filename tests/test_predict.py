"""Objects in images of one's own, by a finished detector, and their classes, by a classifier."""

import csv
import json
import runpy
import shutil
import sys

import numpy as np
import pytest
import torch
from PIL import Image
from pycocotools import mask as official
from torch import nn
from torchvision.transforms import v2

from pruning_lit.channels import save
from pruning_lit.data import CocoShapes
from pruning_lit.models import cifar_resnet, maskrcnn_small, ssd_small
from pruning_lit.runs.image_classes import classify, names_of, prepared
from pruning_lit.runs.prediction import in_coco, run_lengths, threshold_of
from pruning_lit.runs.preprocessing import TrainingInputs

HEADER = {
    "classes": ["background", "disc", "rectangle", "triangle", "ring"], "category_ids": [0, 11, 12, 13, 14],
}  # fmt: skip


@pytest.fixture
def predict(monkeypatch, capsys):
    """Call the command in this process: exit code, and all that was printed."""

    def call(*words: str) -> tuple[int, str]:
        monkeypatch.setattr(sys, "argv", ["predict", *words])
        code = 0
        try:
            runpy.run_module("pruning_lit.predict", run_name="__main__")
        except SystemExit as end:
            code = int(end.code or 0)
        both = capsys.readouterr()
        return code, both.out + both.err

    return call


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A detector, another with masks, a classifier, and images of shapes in a folder and below it."""
    place = tmp_path_factory.mktemp("predict")
    torch.manual_seed(0)
    for name, make in {"boxes": ssd_small, "masks": maskrcnn_small}.items():
        options = {"num_classes": 5, "image_size": 64, "width": 4}
        arch = {"_target_": f"pruning_lit.models.{make.__name__}", **options}
        save(make(**options), place / f"{name}.safetensors", arch, pictures=HEADER)
    arch = {"_target_": "pruning_lit.models.cifar_resnet", "depth": 8, "num_classes": 10}
    save(cifar_resnet(8), place / "classes.safetensors", arch)
    data = CocoShapes(batch_size=4, num_train=2, num_test=2)
    data.setup()
    (place / "images" / "below").mkdir(parents=True)
    for number, path in enumerate(("a.png", "below/b.jpg")):
        image, _ = data.parts.test.example(number, False)
        Image.fromarray(image.permute(1, 2, 0).numpy()).resize((96, 80)).save(place / "images" / path)
    return place


@pytest.mark.parametrize("kind", ["boxes", "masks"])
def test_predictions_are_in_cocos_layout_and_drawn(predict, folder, tmp_path, kind):
    words = [f"path={folder / kind}.safetensors", f"images={folder / 'images'}", "score=0", f"hydra.run.dir={tmp_path}"]
    code, told = predict(*words)
    assert code == 0, told
    found = json.loads((tmp_path / "predictions.json").read_text())
    assert [each["file_name"] for each in found["images"]] == ["a.png", "below/b.jpg"]
    assert all((each["height"], each["width"]) == (80, 96) for each in found["images"])
    assert [(each["id"], each["name"]) for each in found["categories"]] == list(
        zip(HEADER["category_ids"][1:], HEADER["classes"][1:], strict=True)
    )
    assert found["annotations"]
    for each in found["annotations"]:
        left, top, width, height = each["bbox"]
        assert -1 <= left <= left + width <= 97
        assert -1 <= top <= top + height <= 81
        assert each["category_id"] in HEADER["category_ids"][1:]
        assert 0 <= each["score"] <= 1
        assert ("segmentation" in each) == (kind == "masks")
    for name in ("a.png.png", "below/b.jpg.png"):
        assert np.asarray(Image.open(tmp_path / "images" / name)).shape[:2] == (400, 480)  # large enough to be read
    assert "a.png: " in told


def test_a_least_score_and_no_images(predict, folder, tmp_path):
    words = [f"path={folder}/boxes.safetensors", f"images={folder}/images/a.png", "score=1", "draw=false"]
    code, told = predict(*words, f"hydra.run.dir={tmp_path}")
    assert (code, "a.png: nothing" in told) == (0, True)
    assert json.loads((tmp_path / "predictions.json").read_text())["annotations"] == []
    assert not (tmp_path / "images").exists()


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["path={}/boxes.safetensors", "images=nowhere"], "images=nowhere: there is no such file or folder"),
        (["path={}/boxes.safetensors", "images={}/images", "score=2"], "score is 2, but it is between 0 and 1"),
        (["path={}/classes.safetensors", "images={}/images"], "nothing says how the network's images were prepared"),
        (["path={}/nothing.safetensors", "images={}/images"], "there is no file"),
    ],
)
def test_what_is_wrong_is_told_in_one_sentence(predict, folder, tmp_path, words, sentence):
    code, told = predict(*(word.format(folder) for word in words), f"hydra.run.dir={tmp_path}")
    assert code == 1
    assert sentence in told
    assert "Traceback" not in told


def test_a_file_that_is_no_image_is_told_and_the_others_go_on(predict, folder, tmp_path):
    images = tmp_path / "images"
    shutil.copytree(folder / "images", images)
    (images / "a.jpg").write_text("no image")
    words = [f"path={folder}/boxes.safetensors", "score=0", "draw=false", f"hydra.run.dir={tmp_path}/o"]
    code, told = predict(*words, f"images={images}")
    assert code == 0, told
    assert "a.jpg: left out, " in told
    found = json.loads((tmp_path / "o" / "predictions.json").read_text())
    assert [each["file_name"] for each in found["images"]] == ["a.png", "below/b.jpg"]
    code, told = predict(*words, f"images={images}/a.jpg")
    assert (code, told.count("is not a readable image"), "Traceback" in told) == (1, 1, False)


def test_of_any_number_of_classes_all_that_are_likely_are_told(tmp_path, capsys):
    net = nn.Sequential(nn.Flatten(), nn.Linear(12, 3))
    with torch.no_grad():
        net[1].weight.zero_()
        net[1].bias.copy_(torch.logit(torch.tensor([0.7, 0.2, 0.9])))
    inputs = TrainingInputs([0.5] * 3, [1.0] * 3, (3, 2, 2), ["a", "b", "c"])
    image = Image.new("RGB", (4, 4))
    for threshold, names, told in ((0.5, "c;a", "c 0.90, a 0.70"), (0.95, "", "nothing")):
        classify(net, [("x.png", image)], inputs, None, tmp_path / "t.csv", threshold)
        (row,) = csv.DictReader((tmp_path / "t.csv").open())
        assert row == {"file": "x.png", "classes": names, "a": "0.700000", "b": "0.200000", "c": "0.900000"}
        assert capsys.readouterr().out == f"x.png: {told}\n"
    task = {"_target_": "pruning_lit.tasks.MultiLabel", "threshold": 0.3}
    assert threshold_of(task) == 0.3
    assert threshold_of(None) is threshold_of({"_target_": "pruning_lit.tasks.Classification"}) is None


def test_one_network_is_asked(predict, folder, tmp_path):
    code, told = predict(f"path={folder}/boxes.safetensors,{folder}/masks.safetensors", f"images={folder}/images")
    assert code == 1
    assert "predict asks one network" in told


def test_an_empty_folder_is_told(predict, folder, tmp_path):
    (tmp_path / "empty").mkdir()
    code, told = predict(f"path={folder}/boxes.safetensors", f"images={tmp_path}/empty", f"hydra.run.dir={tmp_path}/o")
    assert (code, "there are no images in this folder" in told) == (1, True)


@pytest.mark.parametrize("seed", range(4))
def test_runs_are_those_of_cocos_own_code(seed):
    random = np.random.RandomState(seed)
    mask = (random.uniform(size=(7, 5)) < (0, 1, 0.5, 0.3)[seed]).astype(np.uint8)
    runs = run_lengths(torch.from_numpy(mask))
    assert sum(runs["counts"]) == mask.size
    assert (official.decode(official.frPyObjects(runs, *mask.shape)) == mask).all()


def test_labels_are_categories_where_none_are_known():
    objects = {"boxes": torch.tensor([[1.0, 2, 4, 8]]), "labels": torch.tensor([3]), "scores": torch.tensor([0.5])}
    told = in_coco(["x.jpg"], [(10, 10)], [objects], [], None)
    (annotation,) = told["annotations"]
    assert (annotation["category_id"], annotation["bbox"], annotation["area"]) == (3, [1.0, 2.0, 3.0, 6.0], 18.0)
    assert told["categories"] == [{"id": i, "name": str(i)} for i in (1, 2, 3)]


def test_classes_come_with_their_probabilities(predict, folder, tmp_path):
    torch.manual_seed(1)
    header = {"mean": [0.5, 0.4, 0.3], "std": [0.2, 0.3, 0.4], "shape": [3, 20, 20], "classes": ["a", "b, c", "d"]}
    net = cifar_resnet(8, num_classes=3).eval()
    arch = {"_target_": "pruning_lit.models.cifar_resnet", "depth": 8, "num_classes": 3}
    save(net, tmp_path / "net.safetensors", arch, pictures=header)
    code, told = predict(f"path={tmp_path}/net.safetensors", f"images={folder}/images", f"hydra.run.dir={tmp_path}/o")
    assert code == 0, told
    with (tmp_path / "o" / "predictions.csv").open() as file:
        heading, *rows = csv.reader(file)
    assert heading == ["file", "class", "probability", "a", "b, c", "d"]
    assert [row[0] for row in rows] == ["a.png", "below/b.jpg"]
    for row in rows:
        image = Image.open(folder / "images" / row[0]).convert("RGB")  # 96 wide, 80 high
        middle = image.resize((20, 20), Image.Resampling.BILINEAR, box=(8, 0, 88, 80))
        pixels = torch.from_numpy(np.array(middle)).permute(2, 0, 1) / 255
        mean, std = (torch.tensor(header[key])[:, None, None] for key in ("mean", "std"))
        expected = net(((pixels - mean) / std)[None]).softmax(1)[0]
        found = torch.tensor([float(each) for each in row[3:]])
        torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)
        assert row[1] == header["classes"][int(expected.argmax())]
        assert row[2] == max(row[3:])
        assert f"{row[0]}: {row[1]} {float(row[2]):.2f}" in told


@pytest.mark.parametrize(("resize_size", "side"), [(None, 24), (30, 30)])
def test_images_are_prepared_as_the_data_set_prepares_them(resize_size, side):
    image = Image.fromarray(np.arange(40 * 60 * 3, dtype=np.uint8).reshape(40, 60, 3))
    dataset = {"_target_": "pruning_lit.data.ImageNet", "resize_size": resize_size}
    expected = v2.Compose([v2.Resize(side), v2.CenterCrop(21), v2.PILToTensor()])(image)
    assert torch.equal(prepared(image, (3, 21, 21), dataset), expected)
    assert not torch.equal(prepared(image, (3, 21, 21), {}), expected)
    assert prepared(image, (1, 8, 8), {}).shape == (1, 8, 8)


def test_names_of_another_number_of_classes_are_not_used():
    assert names_of(["a", "b"], 3) == ["0", "1", "2"]
    assert names_of(None, 2) == ["0", "1"]
