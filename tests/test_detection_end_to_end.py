"""Detectors from the command line: every method, two processes, killed and resumed, evaluated and exported."""

import csv
import json
import math
import signal

import pytest
import torch
from safetensors.torch import load_file

from pruning_lit.channels import cost, load, trace
from pruning_lit.data import CocoShapes
from pruning_lit.models.detector_views import detector_view
from pruning_lit.tasks import Detection, evaluate
from tests.commands import EVERY, TINY, run_command, start
from tests.conftest import read_report
from tests.stopping import stop

SHAPES = ("dataset=coco_shapes", "dataset.num_train=30", "dataset.num_test=8", "dataset.batch_size=8")
SMALL = (*TINY[1:], *SHAPES, "arch=ssd_small", "arch.width=6")
ONE_CUT = ("phases=[finetune]", "sparsity=macs_50", "sparsity.part=backbone")


def settings(words, without):
    return [word for word in words if not word.startswith(without)]


@pytest.mark.timeout(200)
def test_a_detector_is_pruned_reported_evaluated_and_exported(tmp_path):
    words = settings(SMALL, "criterion.num_images")
    run_command(*words, "method=magnitude", *ONE_CUT, f"hydra.run.dir={tmp_path}")
    report = read_report(tmp_path)
    assert report["primary"]["name"] == "ap"
    assert 0 <= report["after"]["metrics"]["ap"] <= 1
    parts = {part["name"]: part["macs"] for part in report["sections"]["detections"]["parts"]}
    before, after = parts["backbone.stages"]
    assert 0.4 * before < after <= 0.5 * before
    assert (tmp_path / "detections.png").is_file()
    assert "| AP75 |" in (tmp_path / "report.md").read_text()
    net = load(tmp_path / "pruned" / "model.safetensors")
    graph = trace(detector_view(net), torch.zeros(1, 3, 64, 64))
    assert cost(graph).macs == report["after"]["macs"]
    (found,) = net([torch.rand(3, 50, 70)])
    assert found.keys() == {"boxes", "labels", "scores"}


@pytest.mark.slow
@pytest.mark.timeout(280)
@pytest.mark.parametrize("method", ["chip", "redundancy_graph", "taylor", "network_slimming"])
def test_every_method_runs_on_a_detector(tmp_path, method):
    more = ["sparsity=similarity_macs"] if method == "redundancy_graph" else ["sparsity=macs_30"]
    words = SMALL if method in ("chip", "redundancy_graph", "taylor") else settings(SMALL, "criterion.num_images")
    more += ["sparsify.epochs=1"] if method == "network_slimming" else []
    run_command(*words, f"method={method}", *more, f"hydra.run.dir={tmp_path}")
    report = read_report(tmp_path)
    assert report["after"]["macs"] < report["before"]["macs"]
    assert report["cut_error"] < 1e-5
    assert load(tmp_path / "pruned" / "model.safetensors")([torch.rand(3, 64, 64)])


@pytest.mark.slow
@pytest.mark.timeout(280)
def test_two_processes_have_the_average_precision_of_one(tmp_path):
    words = [*settings(SMALL, ("criterion.num_images", "dataset.batch_size")), "dataset.batch_size=4"]
    words += ["trainer=ddp_fork", "dataset.num_train=60", "dataset.val_fraction=0.25", "finetune.optimizer.lr=0.001"]
    run_command(*words, "method=magnitude", "sparsity=macs_30", "train.epochs=6", f"hydra.run.dir={tmp_path}")
    with open(tmp_path / "metrics.csv") as file:
        last = {row["name"]: float(row["value"]) for row in csv.DictReader(file)}  # of the last epoch
    net = load(tmp_path / "pruned" / "model.safetensors")
    data = CocoShapes(batch_size=5, num_train=60, num_test=8, val_fraction=0.25)
    data.setup()
    held_out = data.parts.validation
    assert held_out is not None
    data._parts = data.parts._replace(test=held_out)
    figures = evaluate(net, data, Detection(5))
    assert len(held_out) == 15  # of which two processes have unequal shares
    for name in ("ap", "ap50", "ap75", "ap_small"):
        assert last[f"val/{name}"] == pytest.approx(figures[name], abs=1e-6)
    assert math.isnan(figures["ap_large"])


@pytest.mark.slow
@pytest.mark.timeout(280)
@pytest.mark.parametrize("kind", ["boxes", "masks"])
def test_exploration_killed_in_its_middle_goes_on_to_the_same_end(tmp_path, kind):
    words = settings(SMALL, ("criterion.num_images", "train.", "finetune."))
    words += ["method=chex", "sparsity=uniform", "sparsity.rate=0.5", "explore.epochs=3", EVERY]
    words += [f"explore.callbacks.stages.{each}" for each in ("unit=steps", "interval=2", "last_stage=6")]
    words += ["explore.schedule.warmup_epochs=0", "explore.optimizer.lr=0.01"]
    if kind == "masks":
        words = settings(words, ("arch", "task", "dataset.batch_size"))
        words += ["arch=maskrcnn_small", "arch.width=4", "arch.image_size=64", "task=instance_segmentation"]
        words += ["dataset.masks=true", "dataset.batch_size=4", "sparsity.part=backbone"]
    run_command(*words, f"hydra.run.dir={tmp_path / 'whole'}")
    folder, commands = tmp_path / "killed", 0
    again = [*words, f"hydra.run.dir={folder}", *stop(save=5, number=signal.SIGKILL)]
    while not (folder / "report.json").is_file() and commands < 5:
        process, commands = start(*again), commands + 1
        printed, _ = process.communicate(timeout=200)
        assert process.returncode in (0, -signal.SIGKILL), printed[-3000:]
        again = [f"resume={folder}", "allow_targets=[tests.stopping]"]
    assert commands > 1
    one, two = (load_file(tmp_path / name / "pruned" / "model.safetensors") for name in ("whole", "killed"))
    assert one.keys() == two.keys()
    assert [name for name, tensor in one.items() if not torch.equal(two[name], tensor)] == []
    first, second = (read_report(tmp_path / name) for name in ("whole", "killed"))
    assert first["after"]["metrics"] == second["after"]["metrics"]
    assert json.dumps(first["groups"]) == json.dumps(second["groups"])
    assert first["after"]["macs"] < first["before"]["macs"]
