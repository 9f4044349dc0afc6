"""ResRep through the command line: rows die, the result is exact, resume, and what is refused."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from pruning_lit.channels import Compactor, adopt_on_load, cost, load, trace
from pruning_lit.data import Digits
from pruning_lit.methods.resrep import RowMasks
from pruning_lit.models import cifar_resnet
from pruning_lit.runs.phase_checkpoint import load_network
from pruning_lit.tasks import Classification, evaluate
from tests.commands import run_command, start
from tests.conftest import read_report
from tests.test_end_to_end import kill_at

TINY_RESREP = (
    "method=resrep",
    "callbacks=quiet",
    "trainer.enable_progress_bar=false",
    "trainer.accelerator=cpu",
    "trainer.log_every_n_steps=1",
    "dataset.batch_size=16",
    "latency.batch_size=1",
    "latency.repeats=1",
    "latency.max_seconds=0.1",
    "train.epochs=1",
    "gradient_reset.epochs=2",
    "gradient_reset.optimizer.lr=0.1",
    "gradient_reset.callbacks.masks.start=0",
    "gradient_reset.callbacks.masks.granularity=10",
    "gradient_reset.callbacks.masks.threshold=0.002",
)
RESNET = ("arch=resnet8", "arch.shortcut=option_b")
#: 120 steps, in which the network learns and its masked rows die.
RESREP = (
    *TINY_RESREP,
    *RESNET,
    "trainer.limit_train_batches=60",
    "gradient_reset.lasso_strength=0.04",
    "gradient_reset.compactor_momentum=0.9",
    "gradient_reset.callbacks.masks.interval=3",
)
#: 60 steps from random weights, with a pull so strong that rows die, and hardly anything is learned.
SHORT = (
    *TINY_RESREP,
    "trainer.limit_train_batches=30",
    "phases=[gradient_reset]",
    "gradient_reset.lasso_strength=0.2",
    "gradient_reset.compactor_momentum=0.8",
    "gradient_reset.callbacks.masks.interval=2",
)


@pytest.fixture(scope="module")
def finished(tmp_path_factory) -> Path:
    """One uninterrupted run of both phases, looked at by several tests."""
    folder = tmp_path_factory.mktemp("resrep") / "run"
    run_command(*RESREP, f"hydra.run.dir={folder}", "checkpoint.every_n_steps=20")
    return folder


def checkpoint(folder: Path, phase: str = "1-gradient_reset") -> dict:
    return torch.load(folder / "phases" / phase / "last.ckpt", weights_only=True)


def conversion(folder: Path, phase: str = "1-gradient_reset") -> dict:
    return checkpoint(folder, phase)["callbacks"]["RowMasks"]


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / "pruned" / "model.safetensors")


def total(report: dict, key: str) -> int:
    return sum(group[key] for group in report["sections"]["compaction"][0]["groups"])


# What a run leaves behind


def test_masked_rows_are_dead_at_the_end_and_nothing_else_is_gone(finished):
    report = read_report(finished)
    (record,) = report["sections"]["compaction"]
    assert record["met_at"] is not None
    assert (total(report, "masked_alive"), total(report, "unmasked_dead")) == (0, 0)
    assert total(report, "rows") - total(report, "kept") == total(report, "masked") == total(report, "dead")
    assert 0.5 <= report["reduction"]["macs"] < 0.53
    assert report["missed"] == []


def test_the_conversion_changes_no_prediction(finished):
    report = read_report(finished)
    (cut,) = conversion(finished, "2-gradient_reset")["cuts"]
    assert cut["metrics_before"] == cut["metrics_after"]
    assert cut["metrics_before"]["accuracy"] > 0.5
    assert report["after"]["metrics"]["accuracy"] == pytest.approx(cut["metrics_before"]["accuracy"])
    assert (report["sections"]["compaction"][0]["changed"], report["sections"]["compaction"][0]["pictures"]) == (0, 359)
    assert report["cut_error"] < 1e-2  # what was forgotten is small, not zero; how small depends on the processor
    assert [phase["name"] for phase in report["phases"]] == ["train", "gradient_reset"]  # no fine-tuning


def test_the_report_shows_how_rows_were_forgotten(finished):
    assert (finished / "compaction.png").is_file()
    text = (finished / "report.md").read_text()
    assert "## What was forgotten" in text
    assert "compaction.png" in text
    lines = (finished / "metrics.csv").read_text().splitlines()
    for name in ("rows/masked", "rows/dead", "rows/macs_by_mask", "rows/macs_by_norm"):
        assert sum(line.startswith("gradient_reset") and f",{name}," in line for line in lines) == 2, name


def test_the_network_in_the_file_is_an_ordinary_one_and_as_good_as_reported(finished):
    report = read_report(finished)
    net = load(finished / "pruned" / "model.safetensors")
    assert not any(isinstance(module, Compactor) for module in net.modules())
    data = Digits(batch_size=64, mean=[0.3044] * 3, std=[0.3233] * 3)
    data.prepare_data()
    data.setup()
    assert evaluate(net, data, Classification(10))["accuracy"] == pytest.approx(
        report["after"]["metrics"]["accuracy"], abs=1e-7
    )
    counted = cost(trace(net, torch.zeros(1, 3, 32, 32)))
    assert (counted.macs, counted.params) == (report["after"]["macs"], report["after"]["params"])


def test_no_epoch_but_the_last_can_be_the_best_one(finished):
    best = finished / "phases/2-gradient_reset/best.ckpt"
    assert not best.is_file() or torch.load(best, weights_only=True)["epoch"] == 1


@pytest.mark.slow
def test_a_run_killed_when_it_is_decided_what_goes_ends_in_the_same_weights(tmp_path):
    folder, finished = tmp_path / "run", tmp_path / "finished"
    process = start(*SHORT, *RESNET, f"hydra.run.dir={folder}", "checkpoint.every_n_steps=20")
    kill_at(process, folder / "phases/1-gradient_reset/last.ckpt", 60)
    assert not (folder / "report.json").exists(), "killed too late to prove anything"
    run_command(f"resume={folder}")
    run_command(*SHORT, *RESNET, f"hydra.run.dir={finished}")
    found, expected = (checkpoint(each)["state_dict"] for each in (folder, finished))
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[key], value) for key, value in expected.items())
    found, expected = weights(folder), weights(finished)
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[key], value) for key, value in expected.items())
    assert read_report(folder)["sections"]["compaction"] == read_report(finished)["sections"]["compaction"]


# Settings


def done(cli, folder: Path, *overrides: str) -> dict:
    code, printed = cli(*SHORT, *RESNET, f"hydra.run.dir={folder}", *overrides)
    assert code == 0, printed[-3000:]
    return read_report(folder)


@pytest.mark.slow
def test_the_channels_of_streams_go_under_coupled_compactors_and_batch_norms_can_stay(cli, tmp_path):
    report = done(cli, tmp_path, "criterion.policy=coupled", "gradient_reset.callbacks.masks.fold_norms=none")
    groups = report["sections"]["compaction"][0]["groups"]
    streams = {group["group"]: group for group in groups if len(group["layers"]) > 1}
    assert {name: len(group["layers"]) for name, group in streams.items()} == {"layer2.0.conv2": 2, "layer3.0.conv2": 2}
    assert all(group["kept"] < group["rows"] for group in streams.values())
    assert report["cut_error"] < 1e-2
    net = load(tmp_path / "pruned/model.safetensors")
    assert cost(trace(net, torch.zeros(1, 3, 32, 32))).macs == report["after"]["macs"] <= 6_250_816
    assert sum(isinstance(module, nn.BatchNorm2d) for module in net.modules()) == 9


def test_batch_norms_stay_or_go_and_the_network_computes_the_same(finished):
    state = checkpoint(finished, "2-gradient_reset")
    images, logits, counts = torch.randn(4, 3, 32, 32, generator=torch.Generator().manual_seed(0)), {}, {}
    for norms in ("none", "compacted", "all"):
        state["callbacks"]["RowMasks"]["conversion"]["fold_norms"] = norms
        net = cifar_resnet(8, shortcut="option_b").eval()
        adopt_on_load(net)
        load_network(net, state, Path("last.ckpt"), torch.zeros(1, 3, 32, 32), [RowMasks])
        logits[norms] = net(images)
        counts[norms] = sum(isinstance(each, nn.BatchNorm2d) for each in net.modules())
    assert counts == {"none": 9, "compacted": 5, "all": 0}
    for norms in ("compacted", "all"):
        torch.testing.assert_close(logits[norms], logits["none"], rtol=1e-4, atol=1e-4)


@pytest.mark.slow
def test_masked_rows_that_live_stay_unless_forced_and_the_report_tells_the_price(cli, tmp_path):
    slow = (
        "gradient_reset.lasso_strength=0.06",
        "gradient_reset.compactor_momentum=0.9",
    )  # as the run is warned beforehand
    alive = (*slow, "gradient_reset.callbacks.masks.threshold=0.0005")
    kept, forced = (
        done(cli, tmp_path / force, *alive, f"gradient_reset.callbacks.masks.remove_masked={force}")
        for force in ("false", "true")
    )
    assert total(kept, "masked_alive") == total(forced, "masked_alive") > 0
    assert kept["sections"]["compaction"][0]["changed"] == 0
    assert [f"{total(kept, 'masked_alive')} masked row(s) not dead yet" in each for each in kept["missed"]] == [True]
    assert forced["sections"]["compaction"][0]["forced"]
    assert forced["reduction"]["macs"] >= 0.5 > kept["reduction"]["macs"]
    assert forced["cut_error"] > kept["cut_error"]
    assert "of 359 test images" in (tmp_path / "true/report.md").read_text()


@pytest.mark.slow
def test_a_pace_fitted_to_the_epochs_lets_all_masked_rows_die(tmp_path):
    paced = ("lasso_strength", "callbacks.masks.interval", "callbacks.masks.granularity", "callbacks.masks.start")
    published = [word for word in RESREP if not word.startswith(tuple(f"gradient_reset.{key}" for key in paced))]
    printed = run_command(*published, "method.auto_pace=true", f"hydra.run.dir={tmp_path}")
    assert "fitted to 2 epochs: gradient_reset.lasso_strength=" in printed
    report = read_report(tmp_path)
    assert total(report, "masked_alive") == 0
    assert report["reduction"]["macs"] >= 0.5


# What is refused


def refused(cli, tmp_path: Path, *overrides: str) -> str:
    """What a run says that ends before any training."""
    code, printed = cli(*overrides, f"hydra.run.dir={tmp_path / 'run'}")
    assert code == 1, printed
    assert "Traceback" not in printed
    assert not (tmp_path / "run" / "phases").exists(), "training had begun"
    return " ".join(printed.split())


@pytest.mark.at_once(1)
@pytest.mark.parametrize(
    ("settings", "told"),
    [
        (["criterion=magnitude"], "choose criterion=compactor_norm, not Magnitude"),
        (["optimizer@gradient_reset.optimizer=adamw"], "gradient_reset.optimizer must be torch.optim.SGD"),
        (
            ["gradient_reset.optimizer._target_=torch.optim.RMSprop", "~gradient_reset.optimizer.nesterov"],
            "gradient_reset.optimizer must be torch.optim.SGD: a pull of constant length kills rows there, but RMSprop",
        ),
        (["sparsity.reduction=0.999"], "sparsity.reduction=0.999 cannot be met"),
        (
            ["gradient_reset.callbacks.masks.start=5"],
            "the target is not met: shorten the interval, raise the granularity or train longer (method.auto_pace=true",
        ),
        (
            ["method.auto_pace=true", "gradient_reset.lasso_strength=1e-4"],
            "gradient_reset.epochs=2: no pace lets rows die in 60 optimizer steps with a learning rate that ends at ",
        ),
        (["method.auto_pace=maybe"], "auto_pace must be true or false, got 'maybe'"),
        (["gradient_reset.lasso_strength=-1"], "lasso_strength is the length of the pull on every row, a number abo"),
        (
            ["gradient_reset.callbacks.masks.fold_norms=drop"],
            "fold_norms must be one of ['compacted', 'none', 'all'], got 'drop'",
        ),
        (["gradient_reset.callbacks.masks.interval=0"], "interval must be a whole number of at least 1, got 0"),
        (["criterion.policy=all"], "criterion.policy must be one of ['internal_only', 'coupled'], got 'all'"),
        (["~gradient_reset.callbacks.masks"], "needs one callback pruning_lit.methods.resrep.RowMasks, got 0"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_what_cannot_work_is_refused_in_one_sentence(cli, tmp_path, settings, told):
    assert told in refused(cli, tmp_path, *SHORT, *RESNET, "phases=[train,gradient_reset]", *settings)


@pytest.mark.slow
def test_compactors_are_not_there_for_another_method(cli, tmp_path):
    quick = [word for word in TINY_RESREP if not word.startswith(("method", "gradient_reset"))]
    told = refused(cli, tmp_path, *quick, *RESNET, "method=chip", "criterion=compactor_norm")
    assert "compactors, which are there only while method=resrep trains them" in told


def test_a_network_without_convolutions_has_nowhere_to_put_compactors(cli, tmp_path, monkeypatch):
    (tmp_path / "linear_net_for_tests.py").write_text(
        "from torch import nn\n"
        "def net(num_classes=10):\n"
        "    return nn.Sequential(nn.Flatten(), nn.Linear(3072, 8), nn.ReLU(), nn.Linear(8, num_classes))\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    told = refused(
        cli, tmp_path, *SHORT, "arch._target_=linear_net_for_tests.net", "allow_targets=[linear_net_for_tests]"
    )
    assert "nothing can be pruned" in told
    assert "no convolution" in told
