"""Redundancy graphs through the command line: published choice, budgets, resume, two processes, and what is refused."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from pruning_lit.channels import cost, load, trace
from tests.commands import run_command, start
from tests.conftest import read_report
from tests.test_end_to_end import kill_at

THIN = (
    "method=redundancy_graph",
    "arch=resnet8",
    "arch.shortcut=conv",
    "arch.stem=tied",
    "callbacks=quiet",
    "trainer.enable_progress_bar=false",
    "trainer.accelerator=cpu",
    "trainer.limit_train_batches=4",
    "trainer.log_every_n_steps=1",
    "dataset.batch_size=16",
    "criterion.num_images=24",
    "train.epochs=1",
    "finetune.epochs=2",
    "latency.batch_size=1",
    "latency.repeats=1",
    "latency.max_seconds=0.1",
)


@pytest.fixture(scope="module")
def finished(tmp_path_factory) -> Path:
    """One uninterrupted run, looked at by several tests."""
    folder = tmp_path_factory.mktemp("redundancy") / "run"
    run_command(*THIN, f"hydra.run.dir={folder}", "checkpoint.every_n_steps=3")
    return folder


def cuts(folder: Path, phase: str = "2-finetune") -> list[dict]:
    state = torch.load(folder / "phases" / phase / "last.ckpt", weights_only=True)
    return state["callbacks"]["ScheduledPruning"]["cuts"]


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / "pruned" / "model.safetensors")


def assert_same_cut(one: dict, other: dict) -> None:
    """Scores are made of similarities in float64, so they show every bit of them."""
    assert one["kept"] == other["kept"]
    scores, others = (each["details"]["scores"]["scores"] for each in (one, other))
    assert all(torch.equal(each, others[name]) for name, each in scores.items())


def test_the_network_is_smaller_and_the_report_says_why(finished):
    report = read_report(finished)
    net = load(finished / "pruned" / "model.safetensors")
    counted = cost(trace(net, torch.zeros(1, 3, 32, 32)))
    assert counted.macs == report["after"]["macs"] < report["before"]["macs"]
    assert (finished / "redundancy.png").is_file()
    text = (finished / "report.md").read_text()
    assert "redundancy.png" in text
    assert "layer2.0.shortcut.conv" in text  # decides on the stream of stage 2


@pytest.mark.slow
def test_a_killed_run_ends_in_the_same_weights(finished, tmp_path):
    folder = tmp_path / "run"
    process = start(*THIN, f"hydra.run.dir={folder}", "checkpoint.every_n_steps=3")
    kill_at(process, folder / "phases" / "2-finetune" / "last.ckpt", 3)
    assert not (folder / "report.json").exists(), "killed too late to prove anything"
    run_command(f"resume={folder}")
    assert_same_cut(*(cuts(each)[0] for each in (folder, finished)))
    assert all(torch.equal(tensor, weights(finished)[key]) for key, tensor in weights(folder).items())
    assert read_report(folder)["groups"] == read_report(finished)["groups"]


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_two_processes_find_the_same_similarities_to_the_last_bit(tmp_path):
    settings = (*THIN, "phases=[finetune]", "criterion.statistics=batch", "finetune.optimizer.lr=0.0001")
    run_command(*settings, f"hydra.run.dir={tmp_path / 'one'}")
    run_command(*settings, "trainer=ddp_fork", "dataset.batch_size=8", f"hydra.run.dir={tmp_path / 'two'}")
    one, two = (cuts(tmp_path / name, "1-finetune")[0] for name in ("one", "two"))
    assert_same_cut(one, two)
    for name, evidence in one["details"]["redundancy"].items():
        assert torch.equal(evidence["similarity"], two["details"]["redundancy"][name]["similarity"])
    after, other = (weights(tmp_path / name) for name in ("one", "two"))
    for name, tensor in after.items():
        torch.testing.assert_close(other[name], tensor, rtol=1e-5, atol=1e-5)


@pytest.mark.slow
def test_a_budget_is_met(tmp_path):
    sparsity = ("sparsity=similarity_macs", "sparsity.reduction=0.4")
    run_command(*THIN, *sparsity, "finetune.callbacks.prune.epochs=[0,1]", f"hydra.run.dir={tmp_path}")
    report = read_report(tmp_path)
    assert report["reduction"]["macs"] >= 0.4
    assert len(cuts(tmp_path)) == 2


@pytest.mark.at_once(2)
@pytest.mark.parametrize(
    ("settings", "told"),
    [
        (["sparsity.threshold=0"], "sparsity.threshold is a similarity in (0, 1], got 0"),
        (["sparsity.threshold=1.5"], "sparsity.threshold is a similarity in (0, 1], got 1.5"),
        (["sparsity.thresholds={layer9.*: 0.8}"], "'layer9.*' matches no group that is decided on"),
        (["criterion.reference_layers={layer2.0.conv2: bn1}"], "layer 'bn1' does not decide on group 'layer2.0.conv2'"),
        (["criterion.num_images=0"], "criterion.num_images must be a whole number of at least 1, got 0"),
        (["criterion=magnitude"], "criterion=redundancy_graph, which Magnitude does not know"),
        (["criterion.statistics=test"], "criterion.statistics is one of ['running', 'batch'], got 'test'"),
        (["arch.shortcut=linear"], "shortcut is 'option_a', 'option_b' or 'conv', got 'linear'"),
    ],
)
def test_what_cannot_work_is_refused_in_one_sentence(cli, tmp_path, settings, told):
    settings = [each for each in THIN if not (settings == ["criterion=magnitude"] and "num_images" in each)] + settings
    code, printed = cli(*settings, f"hydra.run.dir={tmp_path}")
    assert code == 1
    assert told in printed
    assert "Traceback" not in printed
    assert not (tmp_path / "phases").exists()
