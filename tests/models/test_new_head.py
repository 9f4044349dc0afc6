"""Trained weights for another number of classes: all but the head is taken, and it is said so."""

import logging

import pytest
import torch
from torch import nn

from pruning_lit.channels import narrow, save, trace
from pruning_lit.models import cifar_resnet, load_weights, ssd_small
from pruning_lit.models.new_head import heads_of
from pruning_lit.runs.stored import fill
from pruning_lit.tasks import Detection
from pruning_lit.tasks.base import Task

IMAGE = torch.zeros(1, 3, 32, 32)


def build(num_classes: int, seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    return cifar_resnet(8, num_classes=num_classes)


def test_the_layers_that_nothing_reads_are_the_heads():
    net = build(10)
    assert heads_of(net, net, trace(net, IMAGE)) == ["linear"]


def test_all_but_the_head_is_taken_and_the_log_says_so(tmp_path, caplog):
    torch.save(build(100, seed=1).state_dict(), tmp_path / "trained.pt")
    net, fresh = build(10), build(10).state_dict()
    with caplog.at_level(logging.INFO):
        fill(net, str(tmp_path / "trained.pt"), IMAGE, new_head=True)
    trained = build(100, seed=1).state_dict()
    for name, each in net.state_dict().items():
        assert torch.equal(each, fresh[name] if name.startswith("linear") else trained[name]), name
    assert f"linear starts anew: it has 10 outputs, 100 in '{tmp_path / 'trained.pt'}'" in caplog.messages


@pytest.mark.parametrize("num_classes", [4, 100])
def test_the_head_of_a_narrowed_network_gets_its_inputs(tmp_path, num_classes):
    pruned = build(10, seed=1)
    graph = trace(pruned, IMAGE)
    narrow(pruned, graph, {group.name: range(0, group.size, 2) for group in graph.prunable})
    save(pruned, tmp_path / "pruned.safetensors", {"_target_": "pruning_lit.models.cifar_resnet", "depth": 8})
    net, fresh = build(num_classes), build(num_classes).state_dict()
    fill(net, str(tmp_path / "pruned.safetensors"), IMAGE, new_head=True)
    width = pruned.linear.in_features
    assert width < fresh["linear.weight"].shape[1]
    assert torch.equal(net.linear.weight, fresh["linear.weight"][:, :width])
    assert torch.equal(net.layer1[0].conv1.weight, pruned.layer1[0].conv1.weight)
    assert net.eval()(IMAGE).shape == (1, num_classes)


def test_the_heads_of_a_detector_start_anew_where_they_tell_classes(tmp_path):
    options = {"image_size": 64, "width": 4}
    torch.manual_seed(1)
    trained = ssd_small(num_classes=7, **options)
    torch.save(trained.state_dict(), tmp_path / "trained.pt")
    torch.manual_seed(0)
    net = ssd_small(num_classes=5, **options)
    fresh = {name: each.clone() for name, each in net.state_dict().items()}
    example = Detection.view_example(net, torch.zeros(1, 3, 64, 64))
    fill(net, str(tmp_path / "trained.pt"), example, Detection.view, new_head=True)
    expected = trained.state_dict()
    anew = {name for name, each in net.state_dict().items() if not torch.equal(each, expected[name])}
    assert anew
    assert all("classification_head" in name and torch.equal(net.state_dict()[name], fresh[name]) for name in anew)


def test_a_head_that_fits_is_taken_with_a_warning(tmp_path, caplog):
    torch.save(build(10, seed=1).state_dict(), tmp_path / "trained.pt")
    net = build(10)
    fill(net, str(tmp_path / "trained.pt"), IMAGE, new_head=True)
    assert torch.equal(net.linear.weight, build(10, seed=1).linear.weight)
    assert "new_head=true, but all layers have as many outputs as in" in caplog.text


def test_without_the_setting_the_weights_are_refused_with_a_hint(tmp_path):
    torch.save(build(100).state_dict(), tmp_path / "trained.pt")
    with pytest.raises(ValueError, match=r"linear.weight is \(100, 64\) .*; new_head=true takes all but the layers"):
        load_weights(build(10), tmp_path / "trained.pt")


def test_another_network_is_refused_with_the_setting_too(tmp_path):
    torch.save(cifar_resnet(14, num_classes=100).state_dict(), tmp_path / "deep.pt")
    with pytest.raises(ValueError, match=r"do not fit the \w+: .*unexpected") as error:
        fill(build(10), str(tmp_path / "deep.pt"), IMAGE, Task.view, new_head=True)
    assert "new_head" not in str(error.value)
