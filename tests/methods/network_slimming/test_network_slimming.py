"""Network Slimming through the command line: phases, passes, resume, and what is refused."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from pruning_lit.channels import load
from tests.commands import run_command, start
from tests.conftest import read_report
from tests.test_end_to_end import kill_at

SLIM = (
    "method=network_slimming",
    "arch=preresnet20",
    "arch.depth=11",
    "arch.width=4",
    "callbacks=quiet",
    "trainer.enable_progress_bar=false",
    "trainer.accelerator=cpu",
    "trainer.limit_train_batches=4",
    "trainer.log_every_n_steps=1",
    "dataset.batch_size=16",
    "train.epochs=2",
    "sparsify.l1_strength=0.01",
    "latency.batch_size=1",
    "latency.repeats=1",
    "latency.max_seconds=0.1",
)


@pytest.fixture(scope="module")
def finished(tmp_path_factory) -> Path:
    """One uninterrupted run of all phases, looked at by several tests."""
    folder = tmp_path_factory.mktemp("slimming") / "run"
    run_command(*SLIM, f"hydra.run.dir={folder}", "checkpoint.every_n_steps=3")
    return folder


def checkpoint(folder: Path, phase: str) -> dict:
    return torch.load(folder / "phases" / phase / "last.ckpt", weights_only=True)


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / "pruned" / "model.safetensors")


def assert_equal(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> None:
    assert one.keys() == other.keys()
    assert all(torch.equal(one[key], value) for key, value in other.items())


def assert_close(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor], tolerance: float) -> None:
    assert one.keys() == other.keys()
    for key, value in other.items():
        torch.testing.assert_close(
            one[key], value, rtol=tolerance, atol=tolerance, msg=lambda text, k=key: f"{k}: {text}"
        )


def test_the_report_has_the_columns_of_the_published_tables(finished):
    report = read_report(finished)
    assert [phase["name"] for phase in report["phases"]] == ["train", "sparsify", "finetune"]
    assert all(0 <= phase["metrics"]["accuracy"] <= 1 for phase in report["phases"])
    assert report["before"]["metrics"]["accuracy"] == report["phases"][0]["metrics"]["accuracy"]
    assert 0 <= report["metrics_after_cut"]["accuracy"] <= 1
    assert (finished / "scores.png").is_file()
    assert any("batch-norm channels" in note for note in report["notes"])


def test_the_share_asked_is_the_share_got(finished):
    (cut,) = checkpoint(finished, "3-finetune")["callbacks"]["ScheduledPruning"]["cuts"]
    total = sum(map(len, cut["details"]["scores"]["scores"].values()))
    assert total == sum(m.num_features for m in load_dense().modules() if isinstance(m, nn.BatchNorm2d))
    floors = sum("would go" in note for note in cut["notes"])
    assert total - sum(map(len, cut["kept"].values())) == int(total * 0.4) + 1 - floors


def load_dense() -> nn.Module:
    from pruning_lit.models import preresnet

    return preresnet(11, width=4)


@pytest.mark.slow
def test_sparsity_training_begins_with_the_weights_the_dense_one_began_with(tmp_path):
    still = (*SLIM, "train.epochs=1", "sparsify.optimizer.lr=1e-12")
    run_command(*still, "phases=[train,sparsify]", f"hydra.run.dir={tmp_path / 'after'}")
    run_command(*still, "phases=[sparsify]", f"hydra.run.dir={tmp_path / 'alone'}")
    trained = checkpoint(tmp_path / "after", "1-train")["state_dict"]
    places = ("after", "2-sparsify"), ("alone", "1-sparsify")
    after, alone = (checkpoint(tmp_path / folder, phase)["state_dict"] for folder, phase in places)
    for key in (key for key in alone if "running" not in key and "num_batches" not in key):
        torch.testing.assert_close(after[key], alone[key], rtol=0, atol=1e-9)
    assert not torch.equal(trained["net.conv1.weight"], alone["net.conv1.weight"])


def test_the_network_in_the_file_is_narrower_and_runs(finished):
    net = load(finished / "pruned" / "model.safetensors")
    assert net(torch.zeros(2, 3, 32, 32)).shape == (2, 10)
    assert net.layer1[0].conv1.out_channels < 4 or net.layer2[0].conv1.out_channels < 8


def test_each_epoch_tells_what_a_cut_would_do(finished):
    lines = (finished / "metrics.csv").read_text().splitlines()
    for name in ("scales/l1", "scales/penalty", "scales/threshold", "scales/emptied", "scales/below_1e-2"):
        assert sum(line.startswith("sparsify") and f",{name}," in line for line in lines) == 2, name


@pytest.mark.slow
def test_a_killed_run_ends_in_the_same_weights(finished, tmp_path):
    folder = tmp_path / "run"
    process = start(*SLIM, f"hydra.run.dir={folder}", "checkpoint.every_n_steps=3")
    kill_at(process, folder / "phases" / "2-sparsify" / "last.ckpt", 6)
    assert not (folder / "report.json").exists(), "killed too late to prove anything"
    run_command(f"resume={folder}")
    for name in ("1-train", "2-sparsify", "3-finetune"):
        assert_equal(checkpoint(folder, name)["state_dict"], checkpoint(finished, name)["state_dict"])
    assert_equal(weights(folder), weights(finished))


@pytest.mark.slow
def test_passes_repeat_sparsity_training_and_fine_tuning_on_the_narrower_network(tmp_path):
    folder = tmp_path / "run"
    run_command(*SLIM, "passes=2", "phases=[sparsify,finetune]", "sparsity.min_share=0.5", f"hydra.run.dir={folder}")
    report = read_report(folder)
    assert [phase["name"] for phase in report["phases"]] == ["sparsify", "finetune", "sparsify-2", "finetune-2"]
    first, second = (
        checkpoint(folder, phase)["callbacks"]["ScheduledPruning"]["cuts"][0]
        for phase in ("2-finetune", "4-finetune-2")
    )
    widths = {name: len(positions) for name, positions in first["kept"].items()}
    assert {
        name: len(scores) for name, scores in second["details"]["scores"]["scores"].items()
    } == widths  # the population is what was left
    assert all(len(kept) >= widths[name] / 2 for name, kept in second["kept"].items())
    left = {group["name"]: group["kept"] for group in report["groups"]}
    assert all(left[name] == len(kept) for name, kept in second["kept"].items())


@pytest.mark.slow
def test_a_pruned_structure_can_be_trained_from_scratch(finished, tmp_path):
    trained = finished / "phases/2-sparsify/last.ckpt"
    for init in ("inherited", "scratch"):
        run_command(
            *SLIM, "phases=[finetune]", f"weights={trained}", f"finetune.init={init}", "finetune.optimizer.lr=1e-9",
            "finetune.epochs=1", f"hydra.run.dir={tmp_path / init}",
        )  # fmt: skip
    inherited, scratch = (weights(tmp_path / init) for init in ("inherited", "scratch"))
    assert {k: v.shape for k, v in inherited.items()} == {k: v.shape for k, v in scratch.items()}
    assert bool((scratch["layer1.0.bn2.weight"] - 0.5).abs().max() < 1e-6)  # as published
    assert not bool((inherited["layer1.0.bn2.weight"] - 0.5).abs().max() < 1e-6)
    before = [read_report(tmp_path / init)["metrics_after_cut"]["accuracy"] for init in ("inherited", "scratch")]
    assert before[0] == before[1]  # of the inherited weights


def refused(cli, tmp_path, *overrides: str) -> str:
    code, printed = cli(*SLIM, f"hydra.run.dir={tmp_path / 'run'}", *overrides)
    assert code == 1, printed
    assert "Traceback" not in printed
    return " ".join(printed.split())


@pytest.mark.at_once(1)
@pytest.mark.parametrize("rate", ["1.0", "-0.1"])
def test_a_percent_outside_its_range(cli, tmp_path, rate):
    assert "lies outside [0, 1)" in refused(cli, tmp_path, f"sparsity.rate={rate}")


@pytest.mark.slow
def test_an_untrained_network_is_not_pruned(cli, tmp_path):
    told = refused(cli, tmp_path, "phases=[finetune]")
    assert "batch-norm scales are 0.5, as in a network that was never trained" in told


def test_a_missing_checkpoint(cli, tmp_path):
    assert "there is no weight file 'nowhere.pth.tar'" in refused(cli, tmp_path, "weights=nowhere.pth.tar")


@pytest.mark.slow
def test_scales_that_are_not_finite(cli, tmp_path):
    net = load_dense()
    nn.init.normal_(net.bn.weight)
    net.bn.weight.data[3] = float("nan")
    torch.save(net.state_dict(), tmp_path / "broken.pt")
    told = refused(cli, tmp_path, "phases=[finetune]", f"weights={tmp_path / 'broken.pt'}")
    assert "not finite" in told


@pytest.mark.slow
def test_a_network_without_batch_norm(cli, tmp_path, monkeypatch):
    (tmp_path / "plain_net.py").write_text(
        "from torch import nn\n"
        "def net(num_classes=10):\n"
        "    return nn.Sequential(nn.Conv2d(3, 8, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 10))\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    options = [word for word in SLIM if not word.startswith("arch")]
    code, printed = cli(
        *options, "arch._target_=plain_net.net", "allow_targets=[plain_net]", f"hydra.run.dir={tmp_path / 'run'}"
    )
    assert code == 1, printed
    assert "no batch norm with a scale" in printed
    assert "Traceback" not in printed


@pytest.mark.slow
def test_no_pass_at_all(cli, tmp_path):
    assert "passes must be a whole number of at least 1, got 0" in refused(cli, tmp_path, "passes=0")
