"""Point clouds from the command line: explored and pruned, by two processes, killed and resumed."""

import csv
import json
import signal
import subprocess
import sys

import pytest
import torch
from safetensors.torch import load_file

from pruning_lit.channels import cost, load, trace
from pruning_lit.data import Shapes10, Shapes10Parts
from pruning_lit.tasks import PartSegmentation, PointClassification, evaluate
from tests.commands import EVERY, TINY, run_command, start
from tests.conftest import read_report
from tests.places import ROOT
from tests.stopping import stop

CLOUDS = ("dataset.num_points=64", "dataset.num_train=48", "dataset.num_test=30", "dataset.val_fraction=0.2")
SIZES = ("arch.width=0.1", "arch.centres=[16,4]", "arch.radii=[0.4,0.8]", "arch.neighbours=[8,8]")
SMALL = (*(word for word in TINY[1:] if not word.startswith(("criterion.", "dataset."))), *CLOUDS, *SIZES)
ONE_PHASE = [word for word in SMALL if not word.startswith(("train.", "finetune."))]
TASKS = {
    "accuracy": ("dataset=shapes10", "arch=pointnet2_small"),
    "miou_instances": ("dataset=shapes10_parts", "arch=pointnet2_part_small"),
}
CHEX = ("method=chex", "explore.epochs=3", "explore.callbacks.stages={unit:epochs,interval:1,last_stage:2}")
CHEX = (*CHEX, "optimizer@explore.optimizer=adam", "arch.norm_scale=0.5", "explore.schedule.warmup_epochs=0")


@pytest.mark.slow
@pytest.mark.timeout(280)
@pytest.mark.parametrize("primary", list(TASKS))
def test_clouds_are_explored_by_two_processes_and_measured_as_by_one(tmp_path, primary):
    words = (*ONE_PHASE, *TASKS[primary], *CHEX, "trainer.precision=64-true", "trainer=ddp_fork")
    uneven = ("dataset.batch_size=8", "dataset.num_train=45", "dataset.val_fraction=0.3")
    run_command(*words, *uneven, f"hydra.run.dir={tmp_path}")
    report = read_report(tmp_path)
    assert report["primary"]["name"] == primary
    assert report["after"]["macs"] < 0.6 * report["before"]["macs"]
    assert (tmp_path / "clouds.png").is_file()
    assert report["sections"]["clouds"]["metrics"].keys() == report["after"]["metrics"].keys() - {"loss"}
    with open(tmp_path / "metrics.csv") as file:
        last = {row["name"]: float(row["value"]) for row in csv.DictReader(file)}  # of the last epoch
    data = (Shapes10 if primary == "accuracy" else Shapes10Parts)(5, 64, num_train=45, num_test=30, val_fraction=0.3)
    data.setup()
    assert len(data.parts.validation) == 15  # of which two processes have unequal shares
    data._parts = data.parts._replace(test=data.parts.validation)
    task = PointClassification(10) if primary == "accuracy" else PartSegmentation(24, data.categories)
    figures = evaluate(load(tmp_path / "pruned" / "model.safetensors"), data, task)
    for name in task.metric_names():
        assert last[f"val/{name}"] == pytest.approx(figures[name], abs=1e-9)


@pytest.mark.slow
@pytest.mark.timeout(280)
def test_a_killed_run_ends_as_one_that_was_not(tmp_path):
    words = (*ONE_PHASE, *TASKS["miou_instances"], *CHEX, "dataset.batch_size=8", EVERY)
    words = (*words, "dataset.jitter=0.01", "dataset.dropout=0.5")
    run_command(*words, f"hydra.run.dir={tmp_path / 'whole'}")
    folder, commands = tmp_path / "killed", 0
    again = [*words, f"hydra.run.dir={folder}", *stop(save=5, number=signal.SIGKILL)]
    while not (folder / "report.json").is_file() and commands < 6:
        process, commands = start(*again), commands + 1
        printed, _ = process.communicate(timeout=200)
        assert process.returncode in (0, -signal.SIGKILL), printed[-3000:]
        again = [f"resume={folder}", "allow_targets=[tests.stopping]"]
    assert commands > 1
    whole, killed = (load_file(each / "pruned/model.safetensors") for each in (tmp_path / "whole", folder))
    assert whole.keys() == killed.keys()
    assert all(torch.equal(tensor, killed[name]) for name, tensor in whole.items())


@pytest.mark.slow
@pytest.mark.timeout(280)
@pytest.mark.parametrize("primary", list(TASKS))
def test_networks_for_clouds_are_evaluated_and_inspected(tmp_path, primary):
    words = (*SMALL, *TASKS[primary], "method=magnitude", "sparsity=macs_50", "phases=[finetune]")
    run_command(*words, "dataset.batch_size=16", f"hydra.run.dir={tmp_path / 'run'}")
    again = [sys.executable, "-m", "pruning_lit.evaluate", f"path={tmp_path / 'run'}", "latency.batch_size=[1,2]"]
    again += ["latency.repeats=1", f"hydra.run.dir={tmp_path}", "accelerator=cpu"]
    subprocess.run(again, check=True, cwd=ROOT, capture_output=True)
    (network,) = json.loads((tmp_path / "evaluation.json").read_text())["networks"]
    report = read_report(tmp_path / "run")
    assert network["metrics"][primary] == pytest.approx(report["after"]["metrics"][primary], abs=1e-6)
    look = [sys.executable, "-m", "pruning_lit.inspect", *TASKS[primary], "sparsity=macs_50"]
    printed = subprocess.run([*look, f"hydra.run.dir={tmp_path}"], check=True, cwd=ROOT, capture_output=True, text=True)
    assert "for clouds of 512×3" in printed.stdout


@pytest.mark.timeout(200)
def test_a_classifier_of_clouds_is_pruned_and_read_back(tmp_path):
    words = (*SMALL, *TASKS["accuracy"], "method=magnitude", "sparsity=macs_50", "phases=[finetune]")
    run_command(*words, "dataset.batch_size=16", f"hydra.run.dir={tmp_path}")
    report = read_report(tmp_path)
    data = Shapes10(batch_size=4, num_points=64, num_train=20, num_test=10)
    data.setup()
    net = load(tmp_path / "pruned" / "model.safetensors")
    assert cost(trace(net, data.example)).macs == report["after"]["macs"] <= 0.5 * report["before"]["macs"]
    assert report["cut_error"] < 1e-5
    assert "## Point clouds" in (tmp_path / "report.md").read_text()
