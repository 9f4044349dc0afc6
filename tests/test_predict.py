"""Objects in images of one's own, by a finished detector."""

import json
import runpy
import sys

import numpy as np
import pytest
import torch
from PIL import Image
from pycocotools import mask as official

from pruning_lit.channels import save
from pruning_lit.data import CocoShapes
from pruning_lit.models import cifar_resnet, maskrcnn_small, ssd_small
from pruning_lit.runs.prediction import in_coco, run_lengths

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
        (["path={}/classes.safetensors", "images={}/images"], "is no detector"),
        (["path={}/nothing.safetensors", "images={}/images"], "there is no file"),
    ],
)
def test_what_is_wrong_is_told_in_one_sentence(predict, folder, tmp_path, words, sentence):
    code, told = predict(*(word.format(folder) for word in words), f"hydra.run.dir={tmp_path}")
    assert code == 1
    assert sentence in told
    assert "Traceback" not in told


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
