"""Networks loaded from whatever ``weights=`` may name; what is masked in a checkpoint is gone afterwards."""

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from pruning_lit.callbacks.checkpoint_settings import CLASSES, KEY
from pruning_lit.channels import save
from pruning_lit.methods.chex import ExplorationStages
from pruning_lit.methods.resrep import RowMasks
from pruning_lit.runs.phase_checkpoint import PhaseCheckpoint, prunings_named, read_checkpoint
from pruning_lit.runs.stored import fill
from tests.reports.cut import cut

EXAMPLE = torch.zeros(1, 1, 3, 3)
ARCH = {"_target_": "pruning_lit.models.cifar_resnet"}


def network() -> nn.Module:
    return nn.Sequential(nn.Conv2d(1, 4, 1), nn.ReLU(), nn.Conv2d(4, 2, 1))


def settings(callback: str) -> dict:
    recipe = {"_target_": "pruning_lit.phases.Training", "epochs": 1, "callbacks": {"prune": {"_target_": callback}}}
    return {"arch": ARCH, "dataset": {"_target_": "pruning_lit.data.Digits"}, "finetune": recipe}


def checkpoint(path, key, state, net, callback="pruning_lit.callbacks.ScheduledPruning"):
    weights = {f"net.{name}": tensor for name, tensor in net.state_dict().items()}
    torch.save({"state_dict": weights, "callbacks": {key: state}, KEY: settings(callback)}, path)
    return str(path)


def masked(net: nn.Module) -> dict:
    """The state of a callback that has masked two channels of ``net``."""
    with torch.no_grad():
        for tensor in (net[0].weight, net[0].bias):
            tensor[[0, 2]] = 0
    return {"cuts": [cut().state()], "dense": None, "execution": {"cuts": [{"0": [1, 3]}], "sources": {}}}


def test_what_a_checkpoint_has_masked_is_gone_from_what_is_loaded(tmp_path):
    whole, net = network(), network()
    path = checkpoint(tmp_path / "last.ckpt", "ScheduledPruning", masked(whole), whole)
    fill(net, path, EXAMPLE)
    assert (net[0].out_channels, net[2].in_channels) == (2, 2)
    x = torch.randn(3, 1, 3, 3)
    torch.testing.assert_close(net(x), whole(x))


def test_the_file_of_a_network_and_the_folder_of_its_run_are_the_same(tmp_path):
    narrow = nn.Sequential(nn.Conv2d(1, 2, 1), nn.ReLU(), nn.Conv2d(2, 2, 1))
    save(narrow, tmp_path / "pruned" / "model.safetensors")
    for source in (tmp_path, tmp_path / "pruned" / "model.safetensors"):
        net = network()
        fill(net, str(source), EXAMPLE)
        assert all(torch.equal(tensor, narrow.state_dict()[name]) for name, tensor in net.state_dict().items())
    with pytest.raises(ValueError, match="not the folder of a finished run"):
        fill(network(), str(tmp_path / "pruned"), EXAMPLE)


def test_plain_weights_are_loaded_too_whatever_their_ending(tmp_path):
    plain = network()
    torch.save({"state_dict": plain.state_dict()}, tmp_path / "foreign.ckpt")
    save_file({f"module.{name}": each for name, each in plain.state_dict().items()}, tmp_path / "plain.safetensors")
    for source in ("foreign.ckpt", "plain.safetensors"):
        net = network()
        fill(net, str(tmp_path / source), EXAMPLE)
        assert all(torch.equal(tensor, plain.state_dict()[name]) for name, tensor in net.state_dict().items())


@pytest.mark.parametrize(("written", "known"), [({CLASSES: 12}, 12), ({CLASSES: None}, None), ({}, None)])
def test_a_checkpoint_tells_how_many_classes_there_are(tmp_path, written, known):
    checkpoint(tmp_path / "last.ckpt", "Nothing", {}, network(), "pruning_lit.callbacks.RowMasks")
    content = torch.load(tmp_path / "last.ckpt", weights_only=True)
    content[KEY]["dataset"] = {"_target_": "pruning_lit.data.ImageFolder"}
    torch.save(content | written, tmp_path / "last.ckpt")
    assert PhaseCheckpoint(tmp_path / "last.ckpt").trained_on.num_classes == known


def test_callbacks_are_found_by_their_former_names(tmp_path):
    path = checkpoint(tmp_path / "last.ckpt", "RowMasks", {"cuts": []}, network(), "pruning_lit.callbacks.RowMasks")
    assert prunings_named(read_checkpoint(tmp_path / "last.ckpt")[KEY]) == [RowMasks]
    fill(network(), path, EXAMPLE)  # nothing to convert
    assert prunings_named(settings("pruning_lit.methods.chex.ExplorationStages")) == [ExplorationStages]


@pytest.mark.parametrize("target", ["os.system", "pruning_lit.callbacks.LeaveOnSignal", "mine.Pruning"])
def test_a_checkpoint_runs_no_code_of_its_own_and_says_what_has_pruned_it(tmp_path, target):
    assert prunings_named(settings(target)) == []
    path = checkpoint(tmp_path / "last.ckpt", "Mine", {"cuts": [{}]}, network(), target)
    with pytest.raises(ValueError, match="was pruned by Mine, and no file runs code of your own"):
        PhaseCheckpoint(tmp_path / "last.ckpt").fill(network(), EXAMPLE)
    with pytest.raises(ValueError, match="was pruned by Mine"):
        fill(network(), path, EXAMPLE)
