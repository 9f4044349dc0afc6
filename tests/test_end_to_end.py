"""A whole run through the command line: what it leaves behind, and that a killed run ends like an uninterrupted one."""

import os
import re
import shutil
import signal
import subprocess
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from pruning_lit.callbacks import ScheduledPruning
from pruning_lit.channels import cost, load, trace
from pruning_lit.channels.artefact import read
from pruning_lit.data import Digits
from pruning_lit.models import cifar_resnet
from pruning_lit.runs.phase_checkpoint import load_network
from pruning_lit.tasks import Classification, evaluate
from tests.commands import TINY, run_command, start
from tests.conftest import read_report
from tests.console_lines import foreign_lines


def test_a_run_leaves_behind_what_the_design_promises(finished):
    for name in (
        "report.json", "report.md", "widths.png", "metrics.csv", "run.log", "pruned/model.safetensors",
        "phases/1-train/last.ckpt", "phases/1-train/best.ckpt", "phases/2-finetune/last.ckpt", ".hydra/config.yaml",
    ):  # fmt: skip
        assert (finished / name).is_file(), name
    assert list((finished / "tensorboard").rglob("events.out.tfevents.*"))


def test_the_report_says_what_the_network_in_the_file_is(finished):
    report = read_report(finished)
    graph = trace(load(finished / "pruned/model.safetensors"), torch.zeros(1, 3, 32, 32))
    assert report["after"]["macs"] == cost(graph).macs
    assert report["after"]["params"] == cost(graph).params
    assert report["before"]["macs"] == 12_239_488
    assert report["reduction"]["macs"] == pytest.approx(1 - report["after"]["macs"] / report["before"]["macs"])
    assert 0.5 <= report["reduction"]["macs"] < 0.53
    assert {"experiment", "seed", "before", "after", "reduction", "groups", "metrics_after_cut"} <= report.keys()
    widths = {group.name: group.size for group in graph.groups}
    assert {group["name"]: group["kept"] for group in report["groups"]} == widths
    assert [g["protected"] for g in report["groups"] if g["name"] == "linear"] == ["it leaves the model"]
    assert 0 <= report["metrics_after_cut"]["accuracy"] <= 1
    assert 0 <= report["cut_error"] < 1e-5
    assert report["best"]["validation"] is not None


def test_the_figures_of_phases_and_of_the_best_epoch_are_those_of_their_networks(finished):
    """However they were come by: by the next phase, which cuts first, or because the last epoch is the best."""
    report, data = read_report(finished), Digits(batch_size=64, mean=[0.3044] * 3, std=[0.3233] * 3)
    data.prepare_data()
    data.setup()
    for place, found in (
        ("phases/1-train/last.ckpt", report["phases"][0]["metrics"]),
        ("phases/2-finetune/last.ckpt", report["after"]["metrics"]),
        (report["best"]["path"], report["best"]["metrics"]),
    ):
        net, state = cifar_resnet(8), torch.load(finished / place, weights_only=True)
        load_network(net, state, finished / place, data.example, [ScheduledPruning])
        assert evaluate(net, data, Classification(10)) == pytest.approx(found, abs=1e-6), place


def test_a_best_epoch_that_is_not_the_last_is_measured(finished, tmp_path):
    folder = shutil.copytree(finished, tmp_path / "run")
    for name in ("report.json", "phases/2-finetune/best.ckpt"):
        (folder / name).unlink()
    state = torch.load(folder / "phases/2-finetune/last.ckpt", weights_only=True)
    state["state_dict"]["net.linear.bias"] += torch.arange(10.0)
    torch.save(state, folder / "phases/2-finetune/best.ckpt")
    run_command(f"resume={folder}")
    report = read_report(folder)
    assert report["best"]["metrics"]["loss"] > report["after"]["metrics"]["loss"] + 1


def test_the_file_holds_the_weights_of_the_last_epoch(finished):
    checkpoint = torch.load(finished / "phases/2-finetune/last.ckpt", weights_only=True)
    weights = load_file(finished / "pruned/model.safetensors")
    images = read(finished / "pruned/model.safetensors")[0]["pictures"]
    assert (images["shape"], len(images["classes"]), len(images["mean"])) == ([3, 32, 32], 10, 3)
    assert checkpoint["epoch"] == 1
    for name, tensor in weights.items():
        assert torch.equal(tensor, checkpoint["state_dict"][f"net.{name}"]), name


def test_tensorboard_has_one_run_whose_steps_go_on_with_the_primary_metric_first(finished):
    from tensorboard.backend.event_processing.event_multiplexer import EventMultiplexer

    events = EventMultiplexer().AddRunsFromDirectory(str(finished)).Reload()
    assert list(events.Runs()) == ["tensorboard"]
    run = events.GetAccumulator("tensorboard")
    scalars = run.Tags()["scalars"]
    assert {"loss/train", "Accuracy/train", "Accuracy/val", "lr-SGD", "result/accuracy"} <= set(scalars)
    assert min(scalars).startswith("Accuracy/")
    assert [point.step for point in run.Scalars("Accuracy/val")] == [2, 5, 8, 11]  # two phases of 2 epochs of 3 steps
    assert [point.step for point in run.Histograms("scores/layer1.0.conv1")] == [6]
    assert [point.step for point in run.Scalars("result/accuracy")] == [12]
    assert "widths" in run.Tags()["images"]


@pytest.mark.slow
def test_a_finished_run_is_not_trained_again(finished, tmp_path):
    folder = shutil.copytree(finished, tmp_path / "run")
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*.ckpt")}
    printed = run_command(f"resume={folder}")
    assert "is finished" in printed
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("*.ckpt")} == before


def test_a_checkpoint_of_another_experiment_is_refused(finished, cli, tmp_path):
    code, printed = cli(f"resume={shutil.copytree(finished, tmp_path / 'run')}", "finetune.epochs=3")
    assert code == 1
    assert "different experiment: finetune.epochs was 2 and is 3" in printed


def test_what_is_refused_in_the_folder_of_a_run_does_not_become_its_record(finished, cli, tmp_path):
    folder = shutil.copytree(finished, tmp_path / "run")
    before = record(folder)
    code, printed = cli(*TINY, "finetune.epochs=3", f"hydra.run.dir={folder}")
    assert code == 1
    assert "different experiment: finetune.epochs was 2 and is 3" in printed
    assert record(folder) == before


def test_what_is_accepted_in_the_folder_of_a_run_becomes_its_record(cli, tmp_path):
    folder = tmp_path / "run"
    for words in (["phases=train"], [], [f"resume={folder}"]):
        words = words if words and words[0].startswith("resume") else [*TINY, *words, f"hydra.run.dir={folder}"]
        assert cli(*words)[0] == 0
    assert "phases=train" not in record(folder)["overrides.yaml"]
    report = read_report(folder)
    assert report["after"]["macs"] < report["before"]["macs"]


def record(folder: Path) -> dict[str, str]:
    return {path.name: path.read_text() for path in (folder / ".hydra").iterdir() if path.is_file()}


@pytest.mark.slow
def test_a_run_killed_at_the_end_of_an_epoch_ends_in_the_same_weights(finished, tmp_path):
    folder = tmp_path / "run"
    process = start(*TINY, f"hydra.run.dir={folder}", "checkpoint.every_n_steps=2")
    kill_at(process, folder / "phases" / "1-train" / "last.ckpt", 6)
    assert not (folder / "report.json").exists(), "killed too late to prove anything"
    printed = run_command(f"resume={folder}")
    assert re.search("phase train goes on behind optimizer step [1-9]", " ".join(printed.split()))
    assert foreign_lines(printed) == []
    for name in ("phases/1-train/last.ckpt", "phases/2-finetune/last.ckpt"):
        expected, found = (torch.load(f / name, weights_only=True)["state_dict"] for f in (finished, folder))
        assert all(torch.equal(found[key], value) for key, value in expected.items()), name
    expected, found = (load_file(f / "pruned/model.safetensors") for f in (finished, folder))
    assert expected.keys() == found.keys()
    assert all(torch.equal(found[key], value) for key, value in expected.items())


def kill_at(process: subprocess.Popen, checkpoint: Path, step: int) -> None:
    """SIGKILL as soon as the checkpoint of an optimizer step, or a later one, has appeared."""
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and process.poll() is None:
        if checkpoint.is_file() and torch.load(checkpoint, weights_only=True)["global_step"] >= step:
            break
        time.sleep(0.005)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
