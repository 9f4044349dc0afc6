"""Weight files: what is accepted, what is tolerated, what is refused and how it is said."""

import os
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from pruning_lit.models import cifar_resnet, load_weights
from tests.places import ROOT

DATA = Path(os.environ.get("PRUNING_LIT_DATA", ROOT.parent / "shared" / "data"))
PRETRAINED = [(20, "resnet20-12fca82f.th"), (20, "resnet20_cifar10_jpeg.pt")]
PRETRAINED += [(56, "resnet56-4bfd9763.th"), (56, "resnet56_cifar10_jpeg.pt")]


class Bomb:
    """Unpickled without care, it makes a file."""

    def __init__(self, fuse: Path) -> None:
        self.fuse = fuse

    def __reduce__(self):
        return open, (str(self.fuse), "w")


@pytest.fixture
def net() -> nn.Module:
    torch.manual_seed(1)
    return cifar_resnet(8)


@pytest.fixture
def weights() -> dict[str, torch.Tensor]:
    torch.manual_seed(2)
    return cifar_resnet(8).state_dict()


def prefixed(weights, prefix):
    return {prefix + key: tensor for key, tensor in weights.items()}


def zeroed(weights):
    return {key: torch.zeros_like(tensor) for key, tensor in weights.items()}


def assert_loaded(net, weights):
    for key, tensor in net.state_dict().items():
        torch.testing.assert_close(tensor, weights[key], rtol=0, atol=0, msg=key)


ACCEPTED = {
    "bare": lambda w: w,
    "under state_dict": lambda w: {"state_dict": w, "best_prec1": 93.6},
    "under model": lambda w: {"model": w, "epoch": 3},
    "under net": lambda w: {"net": w, "acc": 0.9},
    "data parallel": lambda w: {"state_dict": prefixed(w, "module.")},
    "compiled": lambda w: prefixed(w, "_orig_mod."),
    "compiled in data parallel": lambda w: prefixed(w, "module._orig_mod."),
    "lightning": lambda w: {
        "pytorch-lightning_version": "2.6.6",
        "hyper_parameters": {"lr": 0.1},
        "state_dict": prefixed(w, "net.") | {"loss.weight": torch.ones(10)},
    },
    "lightning, compiled": lambda w: {
        "pytorch-lightning_version": "2.6.6",
        "state_dict": prefixed(w, "net._orig_mod."),
    },
    "under a key of one's own": lambda w: {"epoch": 3, "best": {"generator": w}, "optimizer": {"state": {0: w}}},
    "under model_state_dict": lambda w: {"model_state_dict": w, "optimizer_state_dict": {"state": {}}},
    "beside an average": lambda w: {"state_dict_ema": zeroed(w), "state_dict": w},
    "beside numbers": lambda w: w | {"epoch": 3, "arch": "resnet8"},
    "behind a prefix": lambda w: prefixed(w, "model.") | {"criterion.weight": torch.ones(10)},
    "behind a prefix of one's own": lambda w: {"state_dict": prefixed(w, "student.net.backbone.")},
    "behind a prefix, beside an average": lambda w: prefixed(w, "model.") | prefixed(zeroed(w), "model_ema.module."),
    "behind two prefixes, of one network": lambda w: prefixed(w, "student.") | prefixed(w, "loss.student."),
    "data parallel in lightning": lambda w: {"state_dict": prefixed(w, "model.module.")},
    "data parallel inside": lambda w: {key.replace("layer1.", "layer1.module."): each for key, each in w.items()},
    "profiled": lambda w: w | {"total_ops": torch.zeros(1), "layer1.0.conv1.total_params": torch.zeros(1)},
    "profiled in data parallel": lambda w: prefixed(w, "module.") | {"total_ops": torch.zeros(1)},
}


@pytest.mark.parametrize("form", ACCEPTED)
def test_a_checkpoint_is_found_in_every_usual_form(form, net, weights, tmp_path):
    torch.save(ACCEPTED[form](weights), tmp_path / "weights.pt")
    load_weights(net, tmp_path / "weights.pt")
    assert_loaded(net, weights)


def test_what_is_found_where_is_told(net, weights, tmp_path, caplog):
    caplog.set_level("INFO", "pruning_lit")
    torch.save({"state_dict": prefixed(weights, "model.") | {"loss.weight": torch.ones(10)}}, tmp_path / "a.pt")
    load_weights(net, tmp_path / "a.pt")
    assert "found under 'state_dict', behind the prefix 'model.'; left out: loss.weight" in caplog.text
    caplog.clear()
    torch.save(weights, tmp_path / "b.pt")
    load_weights(net, tmp_path / "b.pt")
    assert caplog.text == ""


@pytest.mark.parametrize("prefix", ["", "backbone.", "net.", "module.", "net.body."])
def test_a_network_around_the_one_that_was_saved_finds_its_weights(weights, tmp_path, prefix):
    net = nn.ModuleDict({"net": nn.ModuleDict({"body": cifar_resnet(8)})})
    torch.save(prefixed(weights, prefix), tmp_path / "weights.pt")
    load_weights(net, tmp_path / "weights.pt")
    assert_loaded(net["net"]["body"], weights)


def test_two_networks_in_a_file_are_named(net, weights, tmp_path):
    torch.save(prefixed(weights, "student.") | prefixed(zeroed(weights), "teacher."), tmp_path / "both.pt")
    with pytest.raises(ValueError, match=r"more than once, behind the prefix 'student\.' and .* 'teacher\.': save"):
        load_weights(net, tmp_path / "both.pt")


def test_misfits_behind_a_prefix_are_those_of_the_network(net, weights, tmp_path):
    weights["linear.bias"] = torch.zeros(100)
    torch.save({"model_state_dict": prefixed(weights, "model.")}, tmp_path / "other.pt")
    with pytest.raises(ValueError, match=r"do not fit") as refusal:
        load_weights(net, tmp_path / "other.pt")
    assert "(under 'model_state_dict', behind the prefix 'model.')" in str(refusal.value)
    assert "CifarResNet: linear.bias is (100,) in the file and (10,) in the network; build" in str(refusal.value)


def test_safetensors_are_read_too(net, weights, tmp_path):
    save_file(weights, tmp_path / "weights.safetensors")
    load_weights(net, str(tmp_path / "weights.safetensors"))
    assert_loaded(net, weights)


def test_a_network_whose_own_names_look_wrapped_keeps_them(weights, tmp_path):
    net = nn.ModuleDict({"module": cifar_resnet(8)})
    torch.save(prefixed(weights, "module."), tmp_path / "weights.pt")
    load_weights(net, tmp_path / "weights.pt")
    assert_loaded(net["module"], weights)


def test_batch_counters_and_relabelling_sources_may_be_absent(net, weights, tmp_path):
    old = {key: tensor for key, tensor in weights.items() if not key.endswith(("num_batches_tracked", "source"))}
    assert len(old) < len(weights)
    torch.save(old, tmp_path / "old.th")
    load_weights(net, tmp_path / "old.th")
    assert_loaded(net, weights)


def test_a_buffer_called_source_elsewhere_is_not_optional(tmp_path):
    net = nn.Sequential(nn.Linear(1, 1))
    torch.save(net.state_dict(), tmp_path / "weights.pt")
    net[0].register_buffer("source", torch.zeros(1))
    with pytest.raises(ValueError, match=r"0\.source is missing"):
        load_weights(net, tmp_path / "weights.pt")


def test_misfits_are_named_and_leave_the_network_as_it_was(net, weights, tmp_path):
    before = {key: tensor.clone() for key, tensor in net.state_dict().items()}
    weights["fc.weight"] = weights.pop("linear.weight")
    weights["linear.bias"] = torch.zeros(100)
    torch.save(weights, tmp_path / "other.pt")
    with pytest.raises(ValueError, match=r"do not fit") as refusal:
        load_weights(net, tmp_path / "other.pt")
    text = str(refusal.value)
    assert "linear.weight is missing" in text
    assert "fc.weight is unexpected" in text
    assert "linear.bias is (100,) in the file and (10,) in the network" in text
    assert "more" not in text
    assert_loaded(net, before)


def test_many_misfits_are_cut_off_after_five_with_the_number_of_the_others(net, tmp_path):
    torch.save(cifar_resnet(14).state_dict(), tmp_path / "deeper.pt")
    with pytest.raises(ValueError, match=r"do not fit") as refusal:
        load_weights(net, tmp_path / "deeper.pt")
    # a ResNet-14 has three more blocks, of twelve tensors each
    assert str(refusal.value).count("is unexpected") == 5
    assert "and 31 more" in str(refusal.value)


def test_a_missing_file_is_said_to_be_missing(net, tmp_path):
    for absent in (tmp_path / "absent.pt", tmp_path / "absent.safetensors", tmp_path):
        with pytest.raises(FileNotFoundError, match="no weight file"):
            load_weights(net, absent)


def test_a_file_with_pickled_objects_is_refused_by_their_name_and_runs_nothing(net, weights, tmp_path):
    fuse = tmp_path / "lit"
    for legacy in (False, True):
        content = {"state_dict": weights, "args": Bomb(fuse)}
        torch.save(content, tmp_path / "bomb.pt", _use_new_zipfile_serialization=not legacy)
        with pytest.raises(ValueError, match=r"holds a pickled io.open, and only plain data"):
            load_weights(net, tmp_path / "bomb.pt")
    assert not fuse.exists()


DAMAGED = {
    "empty": b"",
    "text": b"version https://git-lfs.github.com/spec/v1",
    "web page": b"<!DOCTYPE html><html></html>",
    "pickle": b"\x80\x02garbage",
    "zip": b"PK\x03\x04garbage",
}


@pytest.mark.parametrize("suffix", [".pt", ".safetensors"])
@pytest.mark.parametrize("kind", DAMAGED)
def test_what_is_no_weight_file_is_refused_by_name(kind, suffix, net, tmp_path):
    path = tmp_path / f"weights{suffix}"
    path.write_bytes(DAMAGED[kind])
    with pytest.raises(ValueError, match=rf"weights\{suffix}' is no"):
        load_weights(net, path)


@pytest.mark.parametrize("legacy", [False, True])
def test_a_file_cut_off_by_a_full_disk_is_refused(legacy, net, weights, tmp_path):
    path = tmp_path / "weights.pt"
    torch.save(weights, path, _use_new_zipfile_serialization=not legacy)
    whole = path.read_bytes()
    for share in (0.01, 0.5, 0.99):
        path.write_bytes(whole[: int(share * len(whole))])
        with pytest.raises(ValueError, match=r"is no checkpoint"):
            load_weights(net, path)


def test_a_checkpoint_without_a_state_dict_is_refused(net, tmp_path):
    contents = [{"epoch": 3, "loss": 0.1}, {0: torch.zeros(1)}, [1, 2]]
    for content, found in zip(contents, ["a dict of epoch, loss", "a dict of 0", "a list"], strict=True):
        torch.save(content, tmp_path / "log.pt")
        with pytest.raises(ValueError, match=rf"holds {found}; expected a state dict"):
            load_weights(net, tmp_path / "log.pt")


@pytest.mark.at_once(2)
@pytest.mark.parametrize(("depth", "name"), PRETRAINED)
def test_published_cifar_weights_load(depth, name):
    path = DATA / "pretrained" / name
    if not path.is_file():
        pytest.skip(f"no {name} under PRUNING_LIT_DATA/pretrained")
    net = cifar_resnet(depth)
    load_weights(net, path)
    content = torch.load(path, weights_only=True, map_location="cpu")["state_dict"]
    for key, tensor in content.items():
        torch.testing.assert_close(net.state_dict()[key.removeprefix("module.")], tensor, rtol=0, atol=0)
