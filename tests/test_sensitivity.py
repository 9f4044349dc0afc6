"""``.sensitivity`` as users type it: the images of the weights' run, what is written, and how it goes on."""

import csv
import json
import signal
import subprocess
import sys
import time

import pytest
import torch
from omegaconf import OmegaConf
from PIL import Image

from pruning_lit.channels import artefact, cost_of_widths, load, save, trace
from pruning_lit.command_line.configs import compose
from pruning_lit.command_line.resume import SweepBegun, with_resume
from pruning_lit.models import cifar_resnet
from pruning_lit.sensitivity import in_hydras_words
from pruning_lit.system import preemption
from tests.commands import environment

QUICK = ("arch=resnet8", "criterion=magnitude", "trainer=cpu", "num_examples=4", "recalibrate.batches=1")
QUICK += ("recalibrate.batch_size=4",)


@pytest.fixture
def sensitivity(monkeypatch, capfd):
    """Run the command in this process; its exit code and what it printed."""
    from pruning_lit.sensitivity import main

    def call(*words):
        monkeypatch.setattr(sys, "argv", ["pruning_lit.sensitivity", *map(str, words)])
        capfd.readouterr()
        code = 0
        try:
            main()
        except SystemExit as stop:
            code = stop.code
        return code, "".join(capfd.readouterr()) + (code if isinstance(code, str) else "")

    return call


@pytest.fixture
def run(tmp_path):
    """Folder of a run on images of three classes, of which two files suffice here."""
    for part in ("train", "test"):
        for number, label in enumerate(("cat", "dog", "fox")):
            (tmp_path / "images" / part / label).mkdir(parents=True)
            for copy in range(2):
                image = Image.new("RGB", (32, 32), (80 * number, 90 * copy, 7))
                image.save(tmp_path / "images" / part / label / f"{copy}.png")
    torch.manual_seed(0)
    folder = tmp_path / "run"
    known = {"shape": [3, 32, 32], "classes": ["cat", "dog", "fox"], "mean": [0.5] * 3, "std": [0.25] * 3}
    save(cifar_resnet(8, num_classes=3), folder / "pruned" / "model.safetensors", pictures=known)
    root = f"dataset.root={tmp_path / 'images'}"
    config = compose("dataset=image_folder", root, "dataset.val_fraction=0", "dataset.batch_size=4", "arch=resnet8")
    (folder / ".hydra").mkdir()
    settings = OmegaConf.create({"dataset": config.dataset, "task": config.task, "seed": 1})
    OmegaConf.save(settings, folder / ".hydra" / "config.yaml")
    return folder


def looked(folder):
    with (folder / "sensitivity.csv").open() as file:
        return json.loads((folder / "sensitivity.json").read_text()), [*csv.DictReader(file)]


@pytest.mark.parametrize("named", ["", "pruned/model.safetensors"])
def test_without_a_typed_data_set_it_is_that_of_the_run(sensitivity, run, tmp_path, named):
    folder = tmp_path / "looked"
    code, printed = sensitivity(*QUICK, f"weights={run / named}", "rates=0.5", f"hydra.run.dir={folder}")
    assert code == 0, printed
    found, rows = looked(folder)
    assert (found["dataset"], found["held_out"]) == ("ImageFolder", False)
    graph = trace(cifar_resnet(8, num_classes=3).eval(), torch.zeros(1, 3, 32, 32))
    costs = [cost_of_widths(graph, {row["group"]: int(row["width"])}) for row in rows]
    assert [(int(row["macs"]), int(row["params"])) for row in rows] == [(cost.macs, cost.params) for cost in costs]
    assert {2 * int(row["width"]) / int(row["channels"]) for row in rows} == {1, 2}  # rates=0.5 is a list of one


def test_without_a_typed_network_it_is_that_of_the_run(sensitivity, run, tmp_path):
    file, arch = run / "pruned" / "model.safetensors", {"_target_": "pruning_lit.models.cifar_resnet", "depth": 8}
    pictures = artefact.read(file)[0]["pictures"]
    save(load(file, cifar_resnet(8, num_classes=3)), file, arch | {"num_classes": 3}, pictures=pictures)
    words = (*QUICK[1:], f"weights={run}", "rates=0.5", f"hydra.run.dir={tmp_path / 'looked'}")
    code, printed = sensitivity(*words)
    assert code == 0, printed
    assert "do not fit the CifarResNet" in sensitivity(*words, "arch=resnet20")[1]


def test_a_single_setting_changes_the_data_set_of_the_run(sensitivity, run, tmp_path):
    folder = tmp_path / "looked"
    words = (*QUICK, f"weights={run}", "rates=0.5", f"hydra.run.dir={folder}")
    assert sensitivity(*words, "dataset.val_fraction=0.5")[0] == 0
    assert looked(folder)[0]["held_out"]
    code, printed = sensitivity(*words, "dataset.colour=red")
    assert code == 1
    assert "there is no setting dataset.colour" in printed
    code, printed = sensitivity(*words, "task.label_smoothing=much")
    assert code == 1
    assert "task.label_smoothing must be a number, got 'much'" in printed


def test_a_data_set_that_does_not_fit_the_file_is_refused(sensitivity, run, tmp_path):
    file = tmp_path / "alone.safetensors"
    (run / "pruned" / "model.safetensors").rename(file)
    code, printed = sensitivity(*QUICK, f"weights={file}", f"hydra.run.dir={tmp_path / 'looked'}")
    assert code == 1
    assert "lies in no run's folder, and was trained on other images or classes than those of Digits, so it" in printed
    code, printed = sensitivity(*QUICK, f"weights={file}", "dataset=digits", f"hydra.run.dir={tmp_path / 'looked'}")
    assert code == 1
    assert "tells 3 classes apart (cat, dog, fox), the data set has 10" in printed
    assert "Traceback" not in printed


def test_it_goes_on_with_the_trials_that_it_has_of_these_examples(sensitivity, run, tmp_path):
    folder = tmp_path / "looked"
    sensitivity(*QUICK, f"weights={run}", "rates=[0.5]", f"hydra.run.dir={folder}")
    made = (folder / "trials.jsonl").read_text().splitlines()
    code, printed = sensitivity(f"resume={folder}")
    assert code == 0, printed
    assert f"all {len(made)} trials are made" in printed
    (folder / "trials.jsonl").write_text("\n".join(made[:3]) + "\n")
    code, printed = sensitivity(f"resume={folder}")
    assert f"at most {len(made)} trials, 3 of which are made; each takes about" in printed
    assert f"the {len(made) - 3} that are left together" in printed
    assert sorted((folder / "trials.jsonl").read_text().splitlines()) == sorted(made)
    sensitivity(f"resume={folder}", "dataset.mean=[0.4,0.5,0.5]", "normalisation=dataset")
    assert len((folder / "trials.jsonl").read_text().splitlines()) == 2 * len(made)  # other inputs, other outcomes


def test_a_typed_data_set_or_experiment_is_the_users():
    assert in_hydras_words(["weights=run", "dataset=cifar10", "dataset.root=x"])[-1] == "dataset.root=x"
    assert in_hydras_words(["experiment=demo", "task.mixup=0.2"]) == ["experiment=demo", "task.mixup=0.2"]
    assert in_hydras_words(["~dataset", "dataset=digits"]) == ["dataset=digits"]  # typed beside resume=
    assert in_hydras_words(["dataset.root=x", "task=multi_label"]) == [
        "~dataset",
        "++dataset.root=x",
        "+task=multi_label",
    ]


@pytest.mark.parametrize(
    ("name", "module", "mended"),
    [
        ("sensitivity", "pruning_lit", "this goes on: python -m pruning_lit.sensitivity resume="),
        ("config", "pruning_lit.sensitivity", "this goes on: python -m pruning_lit resume="),
        ("evaluate", "pruning_lit", "python -m pruning_lit.evaluate, not by python -m pruning_lit; begin that anew"),
    ],
)
@pytest.mark.parametrize("file", [".hydra/hydra.yaml", "multirun.yaml"])
def test_resume_refuses_what_another_command_has_begun(tmp_path, name, module, mended, file):
    (tmp_path / ".hydra").mkdir()
    (tmp_path / file).write_text(f"hydra: {{job: {{config_name: {name}}}, overrides: {{task: [], hydra: []}}}}")
    if file != "multirun.yaml":
        (tmp_path / ".hydra" / "overrides.yaml").write_text("[]")
    with pytest.raises(ValueError, match="was begun by") as told:
        with_resume([f"resume={tmp_path}"], module=module)
    assert mended in str(told.value)


def test_a_sweep_over_sensitivities_goes_on_by_its_own_command(tmp_path, monkeypatch):
    monkeypatch.setattr(preemption, "_words", [""])
    hydra = {"sweep": {"dir": str(tmp_path)}, "job": {"config_name": "sensitivity"}, "overrides": {"task": []}}
    SweepBegun().on_multirun_start(OmegaConf.create({"hydra": hydra}))
    assert preemption._words == [f"this goes on: python -m pruning_lit.sensitivity resume={tmp_path}"]


@pytest.mark.slow
def test_interrupted_it_names_the_command_that_goes_on(run, tmp_path):
    folder = tmp_path / "looked"
    words = [sys.executable, "-m", "pruning_lit.sensitivity", *QUICK, f"weights={run}", f"hydra.run.dir={folder}"]
    process = subprocess.Popen(words, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    deadline = time.monotonic() + 120
    while not (folder / "trials.jsonl").exists() and time.monotonic() < deadline:
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    printed, _ = process.communicate(timeout=60)
    assert process.returncode == 130
    assert f"stopped as asked; this goes on: python -m pruning_lit.sensitivity resume={folder}" in printed
