"""``python -m pruning_lit.evaluate``: what a run has measured, on any images, of one network or several."""

import json
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from textwrap import dedent

import pytest
import torch
from omegaconf import OmegaConf
from PIL import Image
from safetensors.torch import save_file
from torch.nn import functional as F

from pruning_lit.callbacks import Recalibration
from pruning_lit.channels import cost, load, save, trace
from pruning_lit.channels.artefact import read
from pruning_lit.data import CocoShapes, Digits
from pruning_lit.models import cifar_resnet, ssd_small
from pruning_lit.models.detector_views import detector_view
from pruning_lit.tasks import Classification
from pruning_lit.tasks import evaluate as evaluated
from tests.conftest import read_report

QUICK = ("accelerator=cpu", "latency.batch_size=[1,2]", "latency.repeats=1", "latency.warmup=0")
NORMALISED = {"mean": [0.3044] * 3, "std": [0.3233] * 3}  # conf/dataset/digits.yaml
ARCH = {"_target_": "pruning_lit.models.cifar_resnet", "depth": 8}


@pytest.fixture(scope="module")
def finished(finished, tmp_path_factory) -> Path:
    """One run; Hydra has a meaning of its own for some signs in its path."""
    return shutil.copytree(finished, tmp_path_factory.mktemp("evaluate") / "seed=1 ½ (it's)")


@pytest.fixture
def evaluate(monkeypatch, capfd, tmp_path):
    """Run the command in this process, in an empty folder; its exit code, what it printed, and evaluation.json."""
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    monkeypatch.setattr(sys, "path", [place for place in sys.path if place not in ("", str(tmp_path / "here"))])

    def call(*words: object) -> tuple[int, str, dict]:
        from pruning_lit.evaluate import main

        out = tmp_path / "out"
        monkeypatch.setattr(sys, "argv", ["evaluate", *QUICK, f"hydra.run.dir={out}", *map(str, words)])
        capfd.readouterr()
        code: object = 0
        try:
            main()
        except SystemExit as stop:
            code = stop.code
        printed = "".join(capfd.readouterr())
        if isinstance(code, str):
            code, printed = 1, printed + code
        file = out / "evaluation.json"
        return int(code or 0), printed, json.loads(file.read_text()) if file.is_file() else {}  # type: ignore[call-overload]

    return call


def images(folder: Path, classes: int, size: int = 32) -> Path:
    """An image folder with two images of every class in each part."""
    for part in ("train", "test"):
        for label in range(classes):
            place = folder / part / f"class{label}"
            place.mkdir(parents=True)
            for number in range(2):
                Image.new("RGB", (size, size), (80 * number, 20 * label, 0)).save(place / f"{number}.png")
    return folder


def network(file: Path, num_classes: int = 10, arch: dict | None = None, **notes: object) -> Path:
    """The file of a network that was not trained."""
    torch.manual_seed(0)
    save(cifar_resnet(8, num_classes), file, arch or {**ARCH, "num_classes": num_classes}, **notes)
    return file


# Figures


@pytest.mark.at_once(1)
@pytest.mark.parametrize("named", [".", "pruned/model.safetensors", "phases/2-finetune/last.ckpt"])
def test_the_result_of_a_run_has_exactly_the_figures_of_its_report(evaluate, finished, named):
    code, printed, found = evaluate(f"path={finished / named}")
    assert code == 0, printed
    (net,), after = found["networks"], read_report(finished)["after"]
    assert {key: net[key] for key in ("metrics", "macs", "params")} == {
        key: after[key] for key in ("metrics", "macs", "params")
    }
    assert found["notes"] == []


@pytest.mark.slow
def test_the_checkpoint_of_the_training_has_the_figures_of_the_dense_network(evaluate, finished):
    code, printed, found = evaluate(f"path={finished / 'phases/1-train/last.ckpt'}")
    assert code == 0, printed
    (net,), before = found["networks"], read_report(finished)["before"]
    assert {key: net[key] for key in ("metrics", "macs", "params")} == {
        key: before[key] for key in ("metrics", "macs", "params")
    }


@pytest.mark.slow
def test_loss_and_top_5_are_those_of_all_test_images_at_once(evaluate, finished):
    _, _, found = evaluate(f"path={finished}", "dataset.batch_size=50")  # the last batch has 9
    data = Digits(batch_size=359, **NORMALISED)
    data.setup()
    (batch,) = data.test_batches()
    x, target = data.on_after_batch_transfer(batch, 0)
    with torch.no_grad():
        logits = load(finished / "pruned" / "model.safetensors")(x)
    (net,) = found["networks"]
    assert net["metrics"]["loss"] == pytest.approx(float(F.cross_entropy(logits, target)), rel=1e-5)
    top5 = (logits.topk(5).indices == target[:, None]).any(1).float().mean()
    assert net["metrics"]["accuracy_top5"] == pytest.approx(float(top5))


def test_networks_stand_side_by_side_with_their_differences_from_the_first(evaluate, finished):
    dense = finished / "phases" / "1-train" / "last.ckpt"
    code, printed, found = evaluate(f"path={dense},{finished}")
    assert code == 0, printed
    first, second = found["networks"]
    assert [first["path"], second["path"]] == [str(dense), str(finished)]
    assert second["macs"] < first["macs"]
    for key in ("macs", "params"):
        assert f"({100 * (second[key] / first[key] - 1):+.1f} %)" in printed
    assert f"({100 * (second['metrics']['accuracy'] - first['metrics']['accuracy']):+.2f} points)" in printed
    assert [each["batch_size"] for each in second["passes"]] == [1, 2]
    for one, other in zip(first["passes"], second["passes"], strict=True):
        assert other["peak_memory"] < one["peak_memory"]
        assert other["throughput"] == pytest.approx(1e3 * other["batch_size"] / other["timing"]["median_ms"])


@pytest.mark.slow
def test_what_was_measured_is_written_with_all_that_repeats_it(evaluate, finished, tmp_path):
    _, _, found = evaluate(f"path={finished}", "name=a title")
    text = (tmp_path / "out" / "evaluation.md").read_text()
    assert text.startswith("# a title\n")
    assert found["command"].startswith("python -m pruning_lit.evaluate accelerator=cpu ")
    assert found["command"].endswith(shlex.join([f"path={finished}", "name=a title"]))
    assert found["command"] in text
    assert found["versions"]["torch"] == torch.__version__.partition("+")[0]
    assert found["dataset"]["_target_"] == "pruning_lit.data.Digits"
    assert "359 test images of Digits, 3×32×32, 10 classes" in text
    assert found["hardware"] in text


def test_fewer_than_six_classes_have_no_top_5(evaluate, tmp_path):
    file = network(tmp_path / "net.safetensors", 3)
    root = images(tmp_path / "pictures", 3)
    code, printed, found = evaluate(f"path={file}", "dataset=image_folder", f"dataset.root={root}")
    assert code == 0, printed
    assert found["networks"][0]["metrics"].keys() == {"accuracy", "balanced_accuracy", "f1", "loss"}
    assert "top5" not in printed


# ImageData


@pytest.mark.slow
def test_stored_normalisation_wins_and_that_is_told(evaluate, finished):
    other = ("dataset=digits", "dataset.mean=[0.5,0.5,0.5]", "dataset.std=[0.1,0.1,0.1]")
    _, _, wanted = evaluate(f"path={finished}")
    code, printed, found = evaluate(f"path={finished}", *other)
    assert code == 0
    assert found["networks"][0]["metrics"]["loss"] == pytest.approx(wanted["networks"][0]["metrics"]["loss"], rel=1e-6)
    assert found["networks"][0]["mean"] == pytest.approx(NORMALISED["mean"])
    (note,) = found["notes"]
    assert (
        "by mean [0.3044, 0.3044, 0.3044] and std [0.3233, 0.3233, 0.3233], not by the data set's [0.5, 0.5, 0" in note
    )
    assert f"Note: {note}" in printed
    _, _, found = evaluate(f"path={finished}", *other, "normalisation=dataset")
    assert found["networks"][0]["metrics"]["loss"] != pytest.approx(wanted["networks"][0]["metrics"]["loss"], rel=1e-3)
    assert found["networks"][0]["mean"] == [0.5] * 3
    assert found["notes"] == []


def test_batch_norms_get_new_statistics_where_asked(evaluate, finished):
    _, _, before = evaluate(f"path={finished}")
    code, printed, found = evaluate(f"path={finished}", "recalibrate=200")
    assert code == 0, printed
    assert found["networks"][0]["metrics"]["loss"] != before["networks"][0]["metrics"]["loss"]
    (note,) = found["notes"]
    assert note == "The batch norms of every network have new statistics, from 256 training examples."
    net = load(finished / "pruned" / "model.safetensors")
    data = Digits(**NORMALISED, batch_size=found["dataset"]["batch_size"], val_fraction=0.1)
    data.setup()
    Recalibration(batches=2).renew(net, data, Classification(10))
    values = evaluated(net, data, Classification(10))
    assert found["networks"][0]["metrics"]["loss"] == pytest.approx(values["loss"], rel=1e-5)


def test_without_a_data_set_that_of_the_run_can_be_changed(evaluate, finished):
    code, printed, found = evaluate(f"path={finished}", "dataset.batch_size=7", "dataset.pad=1")
    assert code == 0, printed
    assert (found["dataset"]["batch_size"], found["dataset"]["pad"]) == (7, 1)
    assert found["dataset"]["_target_"] == "pruning_lit.data.Digits"


def test_what_a_file_does_not_say_of_its_images_is_told(evaluate, tmp_path):
    file = network(tmp_path / "net.safetensors")
    code, printed, found = evaluate(f"path={file}", "dataset=digits")
    assert code == 0, printed
    assert found["notes"] == [
        f"{str(file)!r} does not say how its images were normalised: it was done by dataset.mean and dataset.std."
    ]


def test_classes_of_other_names_are_told(evaluate, tmp_path):
    names = {"classes": [f"digit {number}" for number in range(10)]}
    file = network(tmp_path / "net.safetensors", pictures={**NORMALISED, **names})
    code, printed, found = evaluate(f"path={file}", "dataset=digits")
    assert code == 0, printed
    assert (
        "called otherwise (digit 0, digit 1, digit 2, …) than those of the data set (0, 1, 2, …)" in found["notes"][0]
    )


@pytest.mark.at_once(2)
@pytest.mark.parametrize("named", [".", "phases/1-train/last.ckpt"])
@pytest.mark.parametrize(
    ("classes", "size", "expected"),
    [
        (3, 32, "tells 10 classes apart"),
        (10, 24, "was trained on images of 3×32×32, those of the data set are 3×24×24"),
    ],
)
def test_images_of_other_classes_or_sizes_are_refused(evaluate, finished, tmp_path, named, classes, size, expected):
    root = images(tmp_path / "pictures", classes, size)
    refused(evaluate(f"path={finished / named}", "dataset=image_folder", f"dataset.root={root}"), expected)


def test_a_network_that_tells_other_classes_apart_than_its_file_says_is_refused(evaluate, tmp_path):
    file = network(tmp_path / "net.safetensors", 3)
    refused(evaluate(f"path={file}", "dataset=digits"), "the network tells 3 classes apart, the data have 10")


# What a user can mend


def refused(answer: tuple[int, str, dict], expected: str) -> None:
    code, printed, found = answer
    *progress, told = printed.strip().splitlines()
    assert all("[INFO]" in line for line in progress), printed
    assert (code, found) == (1, {})
    assert expected in told
    assert "Traceback" not in told


@pytest.mark.at_once(3)
@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ([], "a value has to be given: path=…"),
        (["path="], "path= names the folder of a run, a network file or a checkpoint, or several"),
        (["path=nowhere"], "there is no file 'nowhere'"),
        (["path=nowhere.ckpt"], "there is no file 'nowhere.ckpt'"),
        (["path=."], "'.' is not the folder of a finished run: it has no pruned/model.safetensors"),
        (["path=junk.safetensors"], "'junk.safetensors' is not a readable network file"),
        (["path=junk.ckpt"], "the checkpoint 'junk.ckpt' is damaged"),
        (["path=short.ckpt"], "the checkpoint 'short.ckpt' is damaged"),
        (["path=other.ckpt"], "'other.ckpt' was not written by a phase of a run"),
        (["path=net.safetensors"], "'net.safetensors' lies in no run's folder, so it has to be said on which images"),
        (["path=net.safetensors", "dataset=nothing"], "there is no dataset called 'nothing'"),
        (["path=net.safetensors", "dataset=image_folder"], "a value has to be given: dataset.root=…"),
        (["path=net.safetensors", "dataset=digits", "dataset.batsh_size=3"], "dataset.batsh_size"),
        (["path=net.safetensors", "dataset.batch_size=3"], "add dataset=…"),
        (["path=net.safetensors", "dataset=digits", "sparsity=macs_50"], "sparsity"),
        (
            ["path=net.safetensors", "dataset=digits", "colour=red"],
            "there is no setting colour in what has been chosen",
        ),
        (["path=net.safetensors", "accelerator=abacus"], "accelerator is auto, cpu or gpu, got 'abacus'"),
        (
            ["path=net.safetensors", "dataset=digits", "recalibrate=true"],
            "recalibrate is a number of training examples, such as 640, or 0; got True",
        ),
        (
            ["path=net.safetensors", "dataset=digits", "normalisation=no"],
            "normalisation is stored or dataset, got 'no'",
        ),
        (["path=net.safetensors", "latency.batch_size=0"], "latency.batch_size is 0"),
        (["path=crooked.safetensors", "dataset=digits"], "mean three and std [1, 1, 0], expected 3 numbers each"),
    ],
)
def test_what_is_wrong_is_told_in_one_sentence(evaluate, finished, words, expected):
    for name in ("junk.ckpt", "junk.safetensors"):
        Path(name).write_text("no network")
    Path("short.ckpt").write_bytes((finished / "phases" / "1-train" / "last.ckpt").read_bytes()[:3000])
    torch.save({"state_dict": {}}, "other.ckpt")
    network(Path("net.safetensors"))
    network(Path("crooked.safetensors"), pictures={"mean": "three", "std": [1, 1, 0]})
    refused(evaluate(*words), expected)


# Code of others


OWN = """
    from torch import nn
    from pruning_lit.data import Digits


    class Data(Digits):
        title = "digits of my own"


    class Net(nn.Sequential):
        def __init__(self, width=16, num_classes=10):
            super().__init__(nn.Conv2d(3, width, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten())
            self.append(nn.Linear(width, num_classes))
"""


@pytest.fixture
def own(evaluate, monkeypatch) -> Path:
    """The file of a network of the user's own, and its code in the current folder."""
    Path("own_for_evaluate.py").write_text(dedent(OWN))
    monkeypatch.delitem(sys.modules, "own_for_evaluate", raising=False)
    scope: dict = {}
    exec(dedent(OWN), scope)
    arch = {"_target_": "own_for_evaluate.Net", "width": 8, "num_classes": 10}
    save(scope["Net"](8), "own.safetensors", arch, pictures=NORMALISED)
    return Path("own.safetensors")


@pytest.mark.slow
def test_a_network_of_ones_own_is_built_only_by_the_builder_that_the_user_names(evaluate, own):
    words = (f"path={own}", "dataset=digits")
    answer = evaluate(*words)
    refused(
        answer, "wants to be built by own_for_evaluate.Net, and no file runs code of your own by itself: if you trust"
    )
    assert "own_for_evaluate" not in sys.modules
    code, printed, found = evaluate(*words, *answer[1].split()[-1:])
    assert code == 0, printed
    assert found["networks"][0]["params"] == 8 * 3 * 9 + 8 + 8 * 10 + 10
    assert found["name"] == "evaluation"


@pytest.mark.slow
def test_what_the_user_allows_may_be_named_by_file_and_run_and_nothing_else(evaluate, own, tmp_path):
    header, weights = read(own)
    run = tmp_path / "run"
    (run / "pruned").mkdir(parents=True)
    save_file(weights, run / "pruned" / "model.safetensors", {"pruning_lit": json.dumps(header)})
    config = run / ".hydra" / "config.yaml"
    config.parent.mkdir()
    dataset = {"_target_": "own_for_evaluate.Data", **NORMALISED, "batch_size": 64, "seed": 1}
    OmegaConf.save(OmegaConf.create({"dataset": dataset}), config)
    refused(evaluate(f"path={run}"), "if you trust it, add allow_targets=own_for_evaluate")
    assert "own_for_evaluate" not in sys.modules
    call = {"_target_": "pathlib.Path.touch", "_args_": [str(tmp_path / "executed")]}
    OmegaConf.save(OmegaConf.create({"dataset": dataset | {"batch_size": call}}), config)
    refused(evaluate(f"path={run}", "allow_targets=own_for_evaluate"), "no file runs code of your own by itself: add d")
    OmegaConf.save(OmegaConf.create({"dataset": dataset}), config)
    evil = header | {"arch": header["arch"] | {"width": call}}
    save_file(weights, run / "pruned" / "model.safetensors", {"pruning_lit": json.dumps(evil)})
    refused(evaluate(f"path={run}", "allow_targets=own_for_evaluate"), "no file runs code of your own by itself: add a")
    assert not (tmp_path / "executed").exists()
    save_file(weights, run / "pruned" / "model.safetensors", {"pruning_lit": json.dumps(header)})
    code, printed, found = evaluate(f"path={run}", "allow_targets=own_for_evaluate")
    assert code == 0, printed
    assert found["networks"][0]["params"] == 8 * 3 * 9 + 8 + 8 * 10 + 10
    assert "digits of my own" in found["pictures"]


@pytest.mark.slow
def test_the_builder_is_for_those_files_that_need_it(evaluate, own, tmp_path):
    trusted = network(tmp_path / "net.safetensors", pictures=NORMALISED)
    builder = ("arch._target_=own_for_evaluate.Net", "arch.width=8", "allow_targets=[own_for_evaluate]")
    code, printed, found = evaluate(f"path={own},{trusted}", "dataset=digits", *builder)
    assert (code, found["notes"]) == (0, []), printed
    code, printed, found = evaluate(f"path={trusted}", "dataset=digits", *builder)
    assert (code, found["notes"]) == (0, ["arch was not used: every file names a builder that it may."])


@pytest.mark.slow
def test_the_config_of_a_run_executes_nothing(evaluate, finished, tmp_path):
    file = network(tmp_path / "run" / "pruned" / "model.safetensors", pictures=NORMALISED)
    config = tmp_path / "run" / ".hydra" / "config.yaml"
    config.parent.mkdir()
    call = {"_target_": "pathlib.Path.touch", "_args_": [str(tmp_path / "executed")]}
    for dataset in (call, {"_target_": "pruning_lit.data.Digits", **NORMALISED, "batch_size": call}):
        OmegaConf.save(OmegaConf.create({"dataset": dataset}), config)
        refused(
            evaluate(f"path={tmp_path / 'run'}"), f"wants its images to be read by {dataset['_target_']}, and no file"
        )
    config.write_text("dataset: {")
    refused(evaluate(f"path={tmp_path / 'run'}"), "config.yaml' cannot be read (ParserError): add dataset=…")
    assert not (tmp_path / "executed").exists()
    assert evaluate(f"path={file}", "dataset=digits")[0] == 0


@pytest.mark.slow
@pytest.mark.at_once(1)
@pytest.mark.parametrize(
    "target", ["pathlib.Path.touch", "pruning_lit.models.weights.Path.touch", "torchvision.models.resnet.partial"]
)
def test_the_settings_in_a_checkpoint_execute_nothing(evaluate, finished, tmp_path, target):
    checkpoint = torch.load(finished / "phases" / "1-train" / "last.ckpt", weights_only=True)
    checkpoint["pruning_lit"]["arch"] = {"_target_": target, "self": str(tmp_path / "executed")}
    torch.save(checkpoint, tmp_path / "last.ckpt")
    refused(evaluate(f"path={tmp_path / 'last.ckpt'}"), "last.ckpt' wants to be built by")
    checkpoint["pruning_lit"]["arch"] = {**ARCH, "depth": {"_target_": target, "self": str(tmp_path / "executed")}}
    torch.save(checkpoint, tmp_path / "last.ckpt")
    refused(evaluate(f"path={tmp_path / 'last.ckpt'}"), "cannot be built by 'pruning_lit.models.cifar_resnet'")
    assert not (tmp_path / "executed").exists()


@pytest.mark.slow
def test_help_names_the_keys(evaluate):
    code, printed, _ = evaluate("--help")
    assert code == 0
    for word in ("path=", "dataset=", "normalisation=", "arch._target_=", "image_folder", "evaluation.json"):
        assert word in printed


@pytest.mark.slow
def test_detectors_of_different_sizes_are_counted_each_at_its_own(tmp_path):
    data = CocoShapes(batch_size=4, num_train=2, num_test=2)
    data.setup()
    macs = {}
    for size in (64, 96):
        options = {"num_classes": 5, "image_size": size, "width": 4}
        net = ssd_small(**options)
        arch = {"_target_": "pruning_lit.models.ssd_small", **options}
        save(net, tmp_path / f"{size}.safetensors", arch, pictures=data.facts())
        macs[size] = cost(trace(detector_view(net), torch.zeros(1, 3, size, size))).macs
    paths = ",".join(str(tmp_path / f"{size}.safetensors") for size in macs)
    words = [
        f"path={paths}",
        "dataset=coco_shapes",
        "dataset.num_train=2",
        "dataset.num_test=2",
        "dataset.val_fraction=0",
    ]
    words += ["latency.repeats=1"]
    command = [sys.executable, "-m", "pruning_lit.evaluate", *words, f"hydra.run.dir={tmp_path / 'out'}"]
    subprocess.run(command, check=True, capture_output=True, timeout=120)
    told = json.loads((tmp_path / "out" / "evaluation.json").read_text())
    assert [each["macs"] for each in told["networks"]] == list(macs.values())
    assert macs[96] > 2 * macs[64]
    assert "3×64×64 and 3×96×96" in told["pictures"]
