"""The decay of weak groups of weights: against Torch-Pruning, by arithmetic, and through the command line."""

from functools import partial
from pathlib import Path

import pytest
import pytorch_lightning as pl
import torch
from torch import Tensor, nn

from pruning_lit.channels import load, trace
from pruning_lit.criteria import GroupNorm
from pruning_lit.criteria.group_norm import weights_of
from pruning_lit.methods.depgraph import GroupSparsityTraining
from pruning_lit.methods.depgraph.phase import add_group_decay, channel_norms
from pruning_lit.phases import Constant
from pruning_lit.sparsity import Macs
from pruning_lit.tasks import Classification
from tests.commands import TWO, run_command, start
from tests.conftest import read_report
from tests.criteria.given import bare, resnet
from tests.methods.network_slimming.test_network_slimming import assert_close, assert_equal, checkpoint, weights
from tests.methods.network_slimming.test_phase import batches
from tests.test_end_to_end import kill_at

TINY = (
    "method=depgraph",
    "arch=resnet8",
    "callbacks=quiet",
    "trainer.enable_progress_bar=false",
    "trainer.accelerator=cpu",
    "trainer.limit_train_batches=4",
    "trainer.log_every_n_steps=1",
    "dataset.batch_size=16",
    "train.epochs=1",
    "sparsify.epochs=2",
    "finetune.epochs=1",
    "latency.batch_size=1",
    "latency.repeats=1",
    "latency.max_seconds=0.1",
)


class Pair(nn.Module):
    """One group, of four channels: a convolution, its norm, and the layer that reads them."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm, self.linear = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Linear(4, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.linear(self.norm(self.conv(x)).relu().mean((2, 3)))


def decayed(net: nn.Module, size: int, strength: float, ratio: float) -> dict[str, Tensor]:
    """What the decay adds to gradients of zero."""
    for each in net.parameters():
        each.grad = torch.zeros_like(each)
    groups = trace(net, torch.zeros(1, 3, size, size).to(next(net.parameters()))).prunable
    add_group_decay(groups, weights_of(net), strength, ratio)
    return {name: each.grad.clone() for name, each in net.named_parameters()}


@pytest.mark.parametrize("make", [resnet, bare])
def test_the_decay_is_that_of_torch_pruning(make):
    tp = pytest.importorskip("torch_pruning")
    net, size = make().float(), 32 if make is resnet else 8
    found = decayed(net, size, 0.5, 16)
    last = [each for each in net.modules() if isinstance(each, nn.Linear)][-1]
    importance = tp.importance.GroupMagnitudeImportance(p=2)
    rival = tp.pruner.GroupNormPruner(net, torch.zeros(1, 3, size, size), importance, reg=0.5, ignored_layers=[last])
    for each in net.parameters():
        each.grad = torch.zeros_like(each)
    rival.regularize(net)
    expected = {name: each.grad for name, each in net.named_parameters()}
    assert any(each.any() for each in expected.values())
    for name, each in expected.items():
        torch.testing.assert_close(found[name], each, rtol=1e-4, atol=1e-6, msg=lambda text, k=name: f"{k}: {text}")


def test_the_weakest_channel_decays_by_the_ratio_and_the_strongest_by_one():
    torch.manual_seed(0)
    net = Pair().double()
    with torch.no_grad():
        for channel, size in enumerate([0.1, 1.0, 0.4, 0.7]):
            net.conv.weight[channel] *= size
            net.norm.weight[channel] = size
            net.linear.weight[:, channel] *= size
    found = decayed(net, 8, 0.01, 10)
    (group,) = trace(net, torch.zeros(1, 3, 8, 8).double()).prunable
    norms = channel_norms(group, weights_of(net))
    assert norms.argsort().tolist() == [0, 2, 3, 1]
    pull = 10 ** ((norms.max() - norms) / (norms.max() - norms.min()))
    assert (float(pull[0]), float(pull[1])) == (10.0, 1.0)
    torch.testing.assert_close(found["conv.weight"], 0.01 * pull.view(-1, 1, 1, 1) * net.conv.weight.detach())
    torch.testing.assert_close(found["norm.weight"], 0.01 * pull * net.norm.weight.detach())
    torch.testing.assert_close(found["linear.weight"], 0.01 * pull * net.linear.weight.detach())
    assert not any(found[name].any() for name in ("conv.bias", "norm.bias", "linear.bias"))


def test_channels_that_are_all_alike_decay_alike():
    net = Pair()
    with torch.no_grad():
        for each in net.parameters():
            each.fill_(0.5)
    torch.testing.assert_close(decayed(net, 8, 0.1, 16)["conv.weight"], torch.full((4, 3, 3, 3), 0.05))


def fit(strength: float, ratio: float = 16.0, **options) -> Pair:
    torch.manual_seed(1)
    net = Pair()
    module = GroupSparsityTraining(
        strength=strength, ratio=ratio, criterion=GroupNorm(), sparsity=Macs(0.5), net=net, task=Classification(4),
        epochs=1, optimizer=partial(torch.optim.SGD, lr=0.1), schedule=Constant(),
    )  # fmt: skip
    pl.Trainer(
        max_epochs=1, accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False,
        enable_model_summary=False, use_distributed_sampler=False, **options,
    ).fit(module, datamodule=batches(1))  # fmt: skip
    return net


def test_one_step_decays_by_rate_times_strength_whatever_clips_the_gradients():
    torch.manual_seed(1)
    begun = Pair()
    expected = decayed(begun, 8, 0.3, 16)
    for options in ({}, {"gradient_clip_val": 1e-3}):
        plain, pulled = fit(0.0, **options), fit(0.3, **options)
        for name, gradient in expected.items():
            moved = pulled.get_parameter(name).detach() - plain.get_parameter(name).detach()
            torch.testing.assert_close(moved, -0.1 * gradient, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(
    ("key", "value", "told"), [("strength", -1, "a number of at least 0"), ("ratio", 0.5, "of at least 1")]
)
def test_settings_out_of_range_are_refused(key, value, told):
    with pytest.raises(ValueError, match=told):
        fit(**{"strength": 0.1} | {key: value})


@pytest.fixture(scope="module")
def finished(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("depgraph") / "run"
    run_command(*TINY, f"hydra.run.dir={folder}", "checkpoint.every_n_steps=3")
    return folder


def test_a_run_goes_on_with_the_dense_network_and_meets_its_budget(finished):
    report = read_report(finished)
    assert [phase["name"] for phase in report["phases"]] == ["train", "sparsify", "finetune"]
    assert report["after"]["macs"] <= 0.5 * report["before"]["macs"]
    assert load(finished / "pruned" / "model.safetensors")(torch.zeros(2, 3, 32, 32)).shape == (2, 10)
    lines = (finished / "metrics.csv").read_text().splitlines()
    assert sum(line.startswith("sparsify") and ",norms/small," in line for line in lines) == 2


@pytest.mark.slow
def test_a_killed_run_ends_in_the_same_weights(finished, tmp_path):
    folder = tmp_path / "run"
    process = start(*TINY, f"hydra.run.dir={folder}", "checkpoint.every_n_steps=3")
    kill_at(process, folder / "phases" / "2-sparsify" / "last.ckpt", 6)
    assert not (folder / "report.json").exists(), "killed too late to prove anything"
    run_command(f"resume={folder}")
    for name in ("1-train", "2-sparsify", "3-finetune"):
        assert_equal(checkpoint(folder, name)["state_dict"], checkpoint(finished, name)["state_dict"])


@pytest.mark.slow
def test_two_processes_decay_as_one_does(tmp_path):
    same = (*TINY, "phases=[sparsify]", "dataset.flip=false", "sparsify.strength=0.3")
    run_command(*same, f"hydra.run.dir={tmp_path / 'one'}")
    run_command(*same, *TWO, "trainer.sync_batchnorm=true", f"hydra.run.dir={tmp_path / 'two'}")
    assert_close(weights(tmp_path / "two"), weights(tmp_path / "one"), 1e-3)
