"""What a run of several passes says of itself."""

from pathlib import Path

import pytest
import torch
from hydra.core.hydra_config import HydraConfig

from pruning_lit.channels import load
from pruning_lit.channels.artefact import read
from pruning_lit.command_line.configs import compose
from pruning_lit.runs.result import _choices
from tests.commands import run_command
from tests.conftest import read_report

SLIMMING = (
    "method=network_slimming", "arch=preresnet20", "callbacks=quiet", "trainer.enable_progress_bar=false",
    "trainer.accelerator=cpu", "trainer.limit_train_batches=3", "dataset.batch_size=16", "train.epochs=1",
    "train.optimizer.lr=0.02", "latency.repeats=2", "latency.batch_size=1",
)  # fmt: skip


@pytest.fixture(scope="module")
def two_passes(tmp_path_factory) -> Path:
    """One run of Network Slimming, looked at by several tests."""
    folder = tmp_path_factory.mktemp("two_passes") / "run"
    run_command(*SLIMMING, "passes=2", f"hydra.run.dir={folder}")
    return folder


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (["criterion=random", "criterion._target_=mine.Own"], {"criterion": "mine.Own", "arch": "resnet20"}),
        (["arch=[]", "++arch._target_=mine.Net"], {"criterion": "channel_independence", "arch": "mine.Net"}),
        (["dataset=[]", "+task=classification", "++dataset._target_=mine.Data"], {"dataset": "mine.Data"}),
    ],
)
def test_what_is_ones_own_is_named_in_the_place_of_a_choice(monkeypatch, words, named):
    config = compose(*words)
    monkeypatch.setattr(HydraConfig.instance(), "cfg", None)
    HydraConfig.instance().set_config(config)
    assert named.items() <= _choices(config).items()


@pytest.mark.slow
def test_every_phase_has_its_accuracy_and_the_first_is_the_baseline(two_passes):
    report = read_report(two_passes)
    phases = {phase["name"]: phase for phase in report["phases"]}
    assert list(phases) == ["train", "sparsify", "finetune", "sparsify-2", "finetune-2"]
    assert all(0 <= phase["metrics"]["accuracy"] <= 1 for phase in phases.values())
    assert report["before"]["metrics"]["accuracy"] == phases["train"]["metrics"]["accuracy"]
    assert report["after"]["metrics"]["accuracy"] == phases["finetune-2"]["metrics"]["accuracy"]
    cuts = [
        torch.load(two_passes / "phases" / name / "last.ckpt", weights_only=True)["callbacks"]["ScheduledPruning"]
        for name in ("3-finetune", "5-finetune-2")
    ]
    for cut, name, earlier in zip(cuts, ("finetune", "finetune-2"), ("sparsify", "sparsify-2"), strict=True):
        assert phases[earlier]["metrics"] == cut["cuts"][0]["metrics_before"]
        assert phases[name]["metrics_after_cut"] == cut["cuts"][0]["metrics_after"]
    assert report["metrics_after_cut"] == phases["finetune-2"]["metrics_after_cut"]


@pytest.mark.slow
def test_the_scores_and_the_notes_of_both_cuts_are_told(two_passes):
    text = (two_passes / "report.md").read_text()
    assert (two_passes / "scores.png").is_file()
    assert "(scores.png)" in text
    assert all(f"Cut {number} of 2: Of " in text for number in (1, 2))
    assert "(batch norms in front of selections whole): " in text


@pytest.mark.slow
def test_given_weights_are_the_baseline_of_a_run_that_trains_them_on(two_passes, tmp_path):
    weights = tmp_path / "weights.pt"
    checkpoint = torch.load(two_passes / "phases/1-train/last.ckpt", weights_only=True)["state_dict"]
    torch.save({key.removeprefix("net."): value for key, value in checkpoint.items() if "select" not in key}, weights)
    run_command(*SLIMMING, f"weights={weights}", f"hydra.run.dir={tmp_path / 'run'}")
    report = read_report(tmp_path / "run")
    assert [phase["name"] for phase in report["phases"]] == ["sparsify", "finetune"]
    assert report["before"]["metrics"]["accuracy"] == read_report(two_passes)["phases"][0]["metrics"]["accuracy"]


@pytest.mark.slow
def test_the_file_holds_what_the_last_pass_has_left(two_passes):
    path, report = two_passes / "pruned/model.safetensors", read_report(two_passes)
    assert sum(parameter.numel() for parameter in load(path).parameters()) == report["after"]["params"]
    assert read(path)[0]["metrics"] == report["after"]["metrics"]
