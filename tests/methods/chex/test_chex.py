"""CHEX through the command line: one training to a smaller network, resume, two processes, and what is refused."""

import csv
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from pruning_lit.channels import cost, load, trace
from tests.commands import run_command, start
from tests.conftest import read_report
from tests.test_end_to_end import kill_at

STEPS, EPOCHS, LAST_STAGE = 5, 5, 3
TINY_CHEX = (
    "method=chex",
    "arch=resnet8",
    "arch.norm_scale=0.5",
    "callbacks=quiet",
    "trainer.enable_progress_bar=false",
    "trainer.accelerator=cpu",
    f"trainer.limit_train_batches={STEPS}",
    "trainer.log_every_n_steps=1",
    "dataset.batch_size=16",
    "latency.batch_size=1",
    "latency.repeats=1",
    "latency.max_seconds=0.1",
    f"explore.epochs={EPOCHS}",
    "explore.schedule.warmup_epochs=1",
    "explore.optimizer.lr=0.01",
    "explore.callbacks.stages.interval=1",
    f"explore.callbacks.stages.last_stage={LAST_STAGE}",
)
CHEX = (*TINY_CHEX, "arch.shortcut=option_b")
SIZES = {
    "conv1": 16, "layer1.0.conv1": 16, "layer2.0.conv1": 32, "layer2.0.shortcut.conv": 32,
    "layer3.0.conv1": 64, "layer3.0.shortcut.conv": 64,
}  # fmt: skip
EVERY = "checkpoint.every_n_steps=4"  # within every epoch, at no stage
MASKED = "explore.callbacks.stages.execution=mask"
TWO = ("trainer=ddp_fork", "dataset.batch_size=8")
EXAMPLE = torch.zeros(1, 3, 32, 32)


@pytest.fixture(scope="module")
def finished(tmp_path_factory) -> Path:
    """One uninterrupted run, looked at by several tests."""
    folder = tmp_path_factory.mktemp("chex") / "run"
    run_command(*CHEX, f"hydra.run.dir={folder}", EVERY)
    return folder


def done(cli, folder: Path, *overrides: str) -> dict:
    """The report of a run in this process."""
    code, printed = cli(*TINY_CHEX, f"hydra.run.dir={folder}", *overrides)
    assert code == 0, printed[-3000:]
    return read_report(folder)


def checkpoint(folder: Path, name: str = "last") -> dict:
    return torch.load(folder / "phases" / "1-explore" / f"{name}.ckpt", weights_only=True)


def stages(folder: Path) -> dict:
    """State of the callback."""
    return checkpoint(folder)["callbacks"]["ExplorationStages"]


def weights(folder: Path) -> dict[str, Tensor]:
    return load_file(folder / "pruned" / "model.safetensors")


def widths(folder: Path) -> dict[str, int]:
    return stages(folder)["stages"][-1]["widths"]


def all_widths(folder: Path) -> list[dict[str, int]]:
    return [record["widths"] for record in stages(folder)["stages"]]


def assert_close(one: dict[str, Tensor], other: dict[str, Tensor], tolerance: float) -> None:
    assert one.keys() == other.keys()
    for key, tensor in other.items():
        torch.testing.assert_close(
            one[key], tensor, rtol=tolerance, atol=tolerance, msg=lambda text, key=key: f"{key}: {text}"
        )


def assert_equal(one: dict[str, Tensor], other: dict[str, Tensor]) -> None:
    assert one.keys() == other.keys()
    assert [key for key, tensor in other.items() if not torch.equal(one[key], tensor)] == []


# What a run leaves behind


def test_one_training_ends_in_a_smaller_network(finished):
    report = read_report(finished)
    assert [phase["name"] for phase in report["phases"]] == ["explore"]  # nothing before, no fine-tuning
    assert report["before"]["macs"] == 12_501_632  # ResNet-8 with option-B shortcuts: conf/arch/resnet8.yaml
    assert 0.2 < report["reduction"]["macs"] < 0.8
    assert report["cut_error"] < 1e-5
    net = load(finished / "pruned" / "model.safetensors")
    counted = cost(trace(net, EXAMPLE))
    assert (counted.macs, counted.params) == (report["after"]["macs"], report["after"]["params"])
    assert counted.params < report["before"]["params"]


def test_the_network_in_the_file_has_no_row_of_zeros(finished):
    assert_no_row_of_zeros(finished)


def assert_no_row_of_zeros(folder: Path) -> None:
    net = load(folder / "pruned" / "model.safetensors")
    convolutions = {name: each for name, each in net.named_modules() if isinstance(each, nn.Conv2d)}
    assert all(each.weight.flatten(1).any(1).all() for each in convolutions.values())
    assert all(each.weight.transpose(0, 1).flatten(1).any(1).all() for each in convolutions.values())
    assert {name: convolutions[name].out_channels for name in SIZES} == widths(folder)
    assert sum(name.endswith(".scatter.source") for name in weights(folder)) == 2


def test_the_last_stage_leaves_the_budget_and_nothing_changes_after_it(finished):
    state = stages(finished)
    assert [record["at"] for record in state["stages"]] == [0, 1, 2, 3]
    first, *_, last = state["stages"]
    assert first["widths"] == {name: int(0.8 * size) for name, size in SIZES.items()}  # 50 % stay, 30 % come back
    assert last["num_grown"] == 0
    assert sum(last["widths"].values()) == last["num_kept"] >= 224 // 2 - 1  # of 224 half, without the threshold itself
    assert state["cuts"][0]["epoch"] == LAST_STAGE
    assert {name: len(each) for name, each in state["cuts"][0]["kept"].items()} == last["widths"]
    trained = checkpoint(finished)["state_dict"]
    assert {name: len(trained[f"net.{name}.weight"]) for name in SIZES} == last["widths"]


def test_curves_show_every_stage_and_what_training_has_cost(finished):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(finished / "tensorboard"))
    events.Reload()
    records = stages(finished)["stages"]
    for name, values in {
        "stage/channels": [sum(record["widths"].values()) for record in records],
        "stage/grown": [record["num_grown"] for record in records],
        "widths/layer3.0.shortcut.conv": [record["widths"]["layer3.0.shortcut.conv"] for record in records],
    }.items():
        points = events.Scalars(name)
        assert [point.value for point in points] == values, name
        assert [point.step for point in points] == [STEPS * record["at"] for record in records]
    spent = stages(finished)["spent"]
    assert spent["dense_macs"] == EPOCHS * STEPS * 12_501_632
    assert 0.3 < spent["macs"] / spent["dense_macs"] < 0.9


def test_the_table_of_metrics_has_the_latest_stage_of_every_epoch_and_what_training_has_cost_so_far(finished):
    with (finished / "metrics.csv").open() as file:
        rows = list(csv.DictReader(file))
    found = {(row["name"], int(row["epoch"])): float(row["value"]) for row in rows if row["name"].startswith("stage/")}
    records = stages(finished)["stages"]
    for record in records:
        assert found["stage/channels", record["at"]] == sum(record["widths"].values())
        assert found["stage/macs", record["at"]] == pytest.approx(record["macs"] / 12_501_632, rel=1e-6)
    assert found["stage/macs", EPOCHS - 1] == found["stage/macs", LAST_STAGE]
    spent = stages(finished)["spent"]
    last = found["stage/training_macs", EPOCHS - 1]
    assert last == pytest.approx(spent["macs"] / spent["dense_macs"], rel=1e-6)


def test_no_epoch_before_the_last_stage_can_be_the_best_one(finished):
    best = checkpoint(finished, "best")
    assert best["epoch"] >= LAST_STAGE
    assert best["callbacks"]["ExplorationStages"]["cuts"]


# The same run by other ways


#: Eight steps and two stages; after more of them rounding errors decide which of two channels is chosen.
FEW = (*CHEX, "trainer.limit_train_batches=2", "explore.epochs=4", "explore.callbacks.stages.last_stage=2")


@pytest.fixture(scope="module")
def few(tmp_path_factory) -> Path:
    """A shorter run."""
    folder = tmp_path_factory.mktemp("chex_few") / "run"
    run_command(*FEW, f"hydra.run.dir={folder}")
    return folder


@pytest.mark.slow
@pytest.mark.parametrize(
    "other",
    [TWO, (*TWO, MASKED)],
    ids=["two processes", "two processes with masks"],
)
def test_two_processes_with_the_same_global_batch_end_in_the_same_channels_and_weights(few, tmp_path, other):
    run_command(*FEW, *other, f"hydra.run.dir={tmp_path}")
    assert stages(tmp_path)["cuts"][0]["kept"] == stages(few)["cuts"][0]["kept"]
    assert all_widths(tmp_path) == all_widths(few)
    assert_close(weights(tmp_path), weights(few), 1e-4)  # sums of float32 in other orders, in every step
    assert read_report(tmp_path)["after"]["macs"] == read_report(few)["after"]["macs"]


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_a_run_killed_within_an_interval_ends_in_the_same_weights(finished, tmp_path):
    folder = tmp_path / "run"
    process = start(*CHEX, f"hydra.run.dir={folder}", EVERY)
    kill_at(process, folder / "phases" / "1-explore" / "last.ckpt", 12)
    assert not (folder / "report.json").exists(), "killed too late to prove anything"
    run_command(f"resume={folder}")
    assert stages(folder)["stages"] == stages(finished)["stages"]
    assert_equal(checkpoint(folder)["state_dict"], checkpoint(finished)["state_dict"])
    assert stages(folder)["pruned"] == stages(finished)["pruned"]
    assert_equal(weights(folder), weights(finished))
    assert read_report(folder)["groups"] == read_report(finished)["groups"]


# Settings

SHORT = ("trainer.limit_train_batches=2", "explore.epochs=3", "explore.callbacks.stages.last_stage=2")
OPTION_B = "arch.shortcut=option_b"
STAGES = "explore.callbacks.stages."


SETTINGS = [
    ("explore.callbacks.stages.regrow_init=ema", "sparsity=uniform", "criterion=magnitude"),
    ("explore.callbacks.stages.regrow_init=random", MASKED, "trainer.precision=64-true"),
    ("explore.callbacks.stages.regrow_allocation=global", "explore.callbacks.stages.regrow_init=zero"),
]


@pytest.mark.slow
@pytest.mark.parametrize(
    "settings", SETTINGS, ids=lambda settings: " ".join(each.rpartition(".")[2] for each in settings)
)
def test_settings_are_run_to_the_end(cli, tmp_path, settings):
    report = done(cli, tmp_path, OPTION_B, *SHORT, *settings)
    assert report["after"]["macs"] < report["before"]["macs"]
    assert 111 <= sum(widths(tmp_path).values()) <= 118  # of 224; a few by their floors
    assert_no_row_of_zeros(tmp_path)
    assert cost(trace(load(tmp_path / "pruned" / "model.safetensors"), EXAMPLE)).macs == report["after"]["macs"]


@pytest.mark.slow
def test_a_uniform_allocation_takes_the_same_share_of_every_group_by_stages_at_steps(cli, tmp_path):
    at_steps = (f"{STAGES}unit=steps", f"{STAGES}interval=2", f"{STAGES}last_stage=4")
    done(cli, tmp_path, OPTION_B, *SHORT, "sparsity=uniform", "sparsity.rate=0.75", f"{STAGES}init_regrow=0.5",
         *at_steps)  # fmt: skip
    assert widths(tmp_path) == {name: size // 4 for name, size in SIZES.items()}
    assert [record["at"] for record in stages(tmp_path)["stages"]] == [0, 2, 4]


@pytest.mark.slow
def test_a_target_of_macs_is_met(cli, tmp_path):
    report = done(cli, tmp_path, OPTION_B, *SHORT, "sparsity=macs_50")
    assert 0.45 < report["after"]["macs"] / report["before"]["macs"] <= 0.5
    assert "as many as it took to be left with at most 6,250,816 MACs" in (tmp_path / "report.md").read_text()


@pytest.mark.slow
def test_streams_of_an_ordinary_resnet_are_explored_when_asked_for(cli, tmp_path):
    done(cli, tmp_path, *SHORT, "explore.streams=true", "channel_scatter=false", OPTION_B)
    found = widths(tmp_path)
    assert {"layer2.0.conv2", "layer3.0.conv2"} <= found.keys()
    net = load(tmp_path / "pruned" / "model.safetensors")
    assert net.layer3[0].conv2.out_channels == net.layer3[0].shortcut.conv.out_channels == found["layer3.0.conv2"] < 64


@pytest.mark.slow
def test_shortcuts_without_scatters_stay_whole(cli, tmp_path):
    done(cli, tmp_path, *SHORT, OPTION_B, "channel_scatter=false")
    assert widths(tmp_path).keys() == {name for name in SIZES if "shortcut" not in name}
    net = load(tmp_path / "pruned" / "model.safetensors")
    assert (net.layer2[0].shortcut.conv.out_channels, net.layer3[0].shortcut.conv.out_channels) == (32, 64)


@pytest.mark.slow
def test_networks_of_others_are_explored(cli, tmp_path):
    settings = [each for each in TINY_CHEX if not each.startswith("arch")]
    code, printed = cli(
        *settings, *SHORT, "arch._target_=torchvision.models.mobilenet_v2", "explore.epochs=2", "dataset.batch_size=64",
        "trainer.limit_train_batches=1", "explore.callbacks.stages.last_stage=1", f"hydra.run.dir={tmp_path}",
    )  # fmt: skip
    assert code == 0, printed[-3000:]
    report = read_report(tmp_path)
    assert report["cut_error"] < 1e-4
    assert report["after"]["macs"] < 0.8 * report["before"]["macs"]


# What is refused


@pytest.mark.at_once(1)
@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ([f"{STAGES}init_regrow=0.6"], "init_regrow must not exceed sparsity.rate=0.5, got 0.6"),
        ([f"{STAGES}init_regrow=-0.1"], "init_regrow -0.1 lies outside"),
        ([f"{STAGES}interval=2"], "last_stage must be a multiple of interval=2, got 3"),
        ([f"{STAGES}last_stage=5"], "last_stage=5 lies beyond the training, whose epochs are 0 to 4"),
        ([f"{STAGES}unit=steps", f"{STAGES}last_stage=25"], "last_stage=25 lies beyond the training"),
        ([f"{STAGES}execution=both"], "execution must be one of ['narrow', 'mask'], got 'both'"),
        ([f"{STAGES}regrow_init=old"], "regrow_init must be one of ['mru', 'zero', 'random', 'ema'], got 'old'"),
        (["sparsity.rate=0"], "sparsity.rate must lie between 0 and 1, got 0"),
        (["sparsity.rate=1"], "sparsity.rate 1 lies outside"),
        (
            ["sparsity=layerwise", "sparsity.rates=[0.5]"],
            "exploration takes sparsity=global, sparsity=uniform or sparsity=macs, not Layerwise",
        ),
        (["sparsity=macs_50", "sparsity.reduction=0.2"], "and init_regrow=0.3 would bring more back; set 0."),
        (["sparsity=macs_50", "sparsity.reduction=0.999"], "sparsity.reduction=0.999 cannot be met"),
        (["sparsity.overrides={layer1.*: 0.2}"], "sparsity.overrides sets rates of its own"),
        (["sparsity.exclude=[layer9*]"], "no group is called 'layer9*'"),
        (["~explore.callbacks.stages"], "needs one callback pruning_lit.methods.chex.ExplorationStages"),
        ([f"{STAGES}regrow_allocation=all"], "regrow_allocation must be one of ['per_layer', 'global'], got 'all'"),
        (["sparsity=uniform", f"{STAGES}regrow_allocation=global"], "sparsity=uniform has none; set regrow_alloc"),
    ],
)  # fmt: skip
def test_what_cannot_work_is_refused_in_one_sentence(cli, tmp_path, settings, told):
    code, printed = cli(*CHEX, *settings, f"hydra.run.dir={tmp_path}")
    assert code == 1
    assert told in printed
    assert "Traceback" not in printed
    assert not (tmp_path / "phases").exists()


GROUP_NORMS = """
from torch import nn
from torchvision.models import resnet18


def by_groups(width):
    return nn.GroupNorm(4, width)


def net(num_classes):
    return resnet18(num_classes=num_classes, norm_layer=by_groups)
"""


@pytest.fixture
def group_norms(tmp_path, monkeypatch) -> str:
    """What makes a network with group norms, under a name that can be imported."""
    (tmp_path / "group_norms_for_tests.py").write_text(GROUP_NORMS)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    return "group_norms_for_tests.net"


def with_group_norms(cli, constructor: str, folder: Path, *options: str) -> tuple[int, str]:
    settings = [each for each in TINY_CHEX if not each.startswith("arch")]
    return cli(
        *settings, f"arch._target_={constructor}", f"allow_targets=[{constructor}]",
        "sparsity=uniform", *options, f"hydra.run.dir={folder}",
        "explore.epochs=2", "dataset.batch_size=64", "trainer.limit_train_batches=1",
        "explore.callbacks.stages.last_stage=1",
    )  # fmt: skip


@pytest.mark.slow
def test_group_norms_are_explored_by_whole_groups(cli, tmp_path, group_norms):
    code, printed = with_group_norms(cli, group_norms, tmp_path / "run")
    assert code == 0, printed[-3000:]
    report = read_report(tmp_path / "run")
    assert report["after"]["macs"] < report["before"]["macs"]
    assert report["cut_error"] < 1e-5  # whole groups of a norm go
