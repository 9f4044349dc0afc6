"""Files of Network Slimming's authors: pruned, trained and fine-tuned networks become ours."""

import copy

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from pruning_lit.channels import ChannelSelect, load, mask, narrow, save, trace, verify
from pruning_lit.models import load_weights, preresnet, vgg_bn
from tests.models.slimming_golden import COMPLETE, TOLERANCE, Golden

FAMILIES = ["vgg_plain", "preresnet_n1", "densenet_d13"]


def pruned_file(golden, **instead):
    """As the pruning scripts write it."""
    return {"cfg": golden.meta["kept_per_bn"], "state_dict": golden.under("pruned") | instead}


def imported(golden, content, folder):
    torch.save(content, folder / "pruned.pth.tar")
    net = golden.build()
    load_weights(net, folder / "pruned.pth.tar")
    return net


def trained(golden, weights):
    """As the training script writes it, with everything it puts beside the weights; no ``cfg``."""
    parameters = [nn.Parameter(tensor.clone()) for name, tensor in weights.items() if "running" not in name]
    optimizer = torch.optim.SGD(parameters, lr=0.1, momentum=0.9)
    for parameter in parameters:
        parameter.grad = torch.ones_like(parameter)
    optimizer.step()
    return {
        "epoch": 160,
        "state_dict": {f"module.{name}": nn.Parameter(tensor) for name, tensor in weights.items()},
        "best_prec1": torch.tensor(0.9377),
        "optimizer": optimizer.state_dict(),
    }


def assert_computes(net, golden, logits):
    with torch.no_grad():
        torch.testing.assert_close(net(golden.images), golden[logits], **TOLERANCE)


@pytest.mark.parametrize("name", COMPLETE)
def test_a_pruned_file_becomes_the_same_network_with_narrow_norms(name, tmp_path):
    golden = Golden(name)
    net = imported(golden, pruned_file(golden), tmp_path)
    assert_computes(net, golden, "logits_pruned")
    norms = [module for module in net.modules() if isinstance(module, nn.BatchNorm2d)]
    assert [norm.num_features for norm in norms] == [kept for kept in golden.meta["kept_per_bn"] if kept != "M"]
    assert (
        sum(parameter.numel() for parameter in net.parameters()) == golden.meta["counts_pruned"]["params_gather_first"]
    )


@pytest.mark.parametrize("name", FAMILIES)
def test_a_file_of_fine_tuning_needs_no_widths_beside_its_weights(name, tmp_path):
    golden = Golden(name)
    assert_computes(imported(golden, trained(golden, golden.under("pruned")), tmp_path), golden, "logits_pruned")


@pytest.mark.parametrize("name", FAMILIES)
def test_a_file_of_training_with_whole_selections_is_the_dense_network(name, tmp_path):
    golden = Golden(name)
    whole = {
        key: torch.ones_like(tensor) for key, tensor in golden.under("pruned").items() if key.endswith("select.indexes")
    }
    net = imported(golden, trained(golden, golden.under("w") | whole), tmp_path)
    assert_computes(net, golden, "logits_full")
    assert all(
        module.source.tolist() == list(range(len(module.source)))
        for module in net.modules()
        if isinstance(module, ChannelSelect)
    )


@pytest.mark.at_once(1)
@pytest.mark.parametrize("name", FAMILIES)
def test_an_imported_network_can_be_cut_again(name, tmp_path):
    golden = Golden(name)
    net = imported(golden, pruned_file(golden), tmp_path)
    graph = trace(net, golden.images[:1])
    random = torch.Generator().manual_seed(0)
    kept = {
        group.name: torch.randperm(group.size, generator=random)[: (group.size + 1) // 2].sort().values.tolist()
        for group in graph.groups
        if group.protected is None
    }
    masked = copy.deepcopy(net)
    mask(masked, graph, kept)
    before = sum(parameter.numel() for parameter in net.parameters())
    narrow(net, graph, kept)
    assert sum(parameter.numel() for parameter in net.parameters()) < before
    assert verify(net, masked, golden.images) < 1e-5


@pytest.mark.parametrize("name", FAMILIES)
def test_an_imported_network_survives_a_file_of_our_own(name, tmp_path):
    golden = Golden(name)
    save(imported(golden, pruned_file(golden), tmp_path), tmp_path / "ours.safetensors")
    assert_computes(load(tmp_path / "ours.safetensors", golden.build()), golden, "logits_pruned")
    net = golden.build()
    load_weights(net, tmp_path / "ours.safetensors")
    assert_computes(net, golden, "logits_pruned")


@pytest.mark.parametrize("name", FAMILIES)
def test_counters_of_batches_and_of_a_profiler_do_not_matter(name, tmp_path):
    golden = Golden(name)
    layers = {key.rpartition(".")[0] for key in golden.under("pruned") if key.endswith("running_mean")}
    counters = {f"{layer}.num_batches_tracked": torch.tensor(7) for layer in layers}
    counters |= {f"{layer}.total_ops": torch.zeros(1) for layer in layers} | {"total_params": torch.zeros(1)}
    assert_computes(imported(golden, pruned_file(golden, **counters), tmp_path), golden, "logits_pruned")


def test_the_kind_of_file_does_not_matter(tmp_path):
    golden = Golden("preresnet_n1")
    save_file(golden.under("pruned"), tmp_path / "pruned.safetensors")
    net = golden.build()
    load_weights(net, tmp_path / "pruned.safetensors")
    assert_computes(net, golden, "logits_pruned")


MISSING = [  # the network, the key in the file, its name here
    ("vgg_plain", "feature.3.weight", "features.conv2.weight is missing"),
    ("vgg_plain", "feature.32.running_var", "features.bn10.running_var is missing"),
    ("preresnet_n1", "layer2.0.conv2.weight", "layer2.0.conv2.weight is missing"),
    ("preresnet_n1", "layer2.0.bn1.bias", "layer2.0.bn1.bias is missing"),
    ("preresnet_n1", "layer2.0.select.indexes", "'layer2.0.select.indexes' is missing"),
    ("densenet_d13", "select.indexes", "'select.indexes' is missing"),
    ("densenet_d13", "fc.bias", "fc.bias is missing"),
]


@pytest.mark.parametrize(("name", "key", "said"), MISSING)
def test_a_missing_tensor_is_named_and_the_network_stays_as_it_was(name, key, said, tmp_path):
    golden = Golden(name)
    content = pruned_file(golden)
    del content["state_dict"][key]
    torch.save(content, tmp_path / "part.pth.tar")
    net = golden.build()
    before = copy.deepcopy(net.state_dict())
    with pytest.raises(ValueError, match=said):
        load_weights(net, tmp_path / "part.pth.tar")
    for name, tensor in net.state_dict().items():
        torch.testing.assert_close(tensor, before[name], rtol=0, atol=0)


MISFITS = [
    (
        "preresnet_n1",
        {"layer1.0.select.indexes": torch.ones(3)},
        r"chooses among 3 channels, but .*bn1.weight' is \(4,",
    ),
    ("preresnet_n1", {"layer1.0.select.indexes": torch.ones(4)}, "layer1.0.conv1 does not have the width in the file"),
    (
        "preresnet_n1",
        {"layer1.0.conv1.weight": torch.zeros(3, 0, 1, 1)},
        "'layer1.0.conv1.weight' has no channels left",
    ),
    ("vgg_plain", {"feature.3.weight": torch.zeros(4, 5, 3, 3)}, "features.conv2 does not have the width in the file"),
    ("vgg_plain", {"feature.40.weight": torch.zeros(4)}, "feature.40.weight is unexpected"),
    ("vgg_plain", {"classifier.bias": torch.zeros(9)}, r"classifier.bias is \(9,\) in the file and \(10,\)"),
]


@pytest.mark.parametrize(("name", "instead", "said"), MISFITS)
def test_what_does_not_fit_is_said(name, instead, said, tmp_path):
    golden = Golden(name)
    with pytest.raises(ValueError, match=said):
        imported(golden, pruned_file(golden, **instead), tmp_path)


@pytest.mark.parametrize("num_classes", [100, 5])
def test_the_number_of_classes_is_no_width_to_adopt(num_classes, tmp_path):
    golden = Golden("vgg_plain")
    torch.save(pruned_file(golden), tmp_path / "pruned.pth.tar")
    with pytest.raises(ValueError, match=rf"classifier.bias is \(10,\) in the file and \({num_classes},\)"):
        load_weights(vgg_bn(13, num_classes, classifier="linear", bias=False), tmp_path / "pruned.pth.tar")


@pytest.mark.slow
def test_a_network_of_another_depth_or_form_is_refused(tmp_path):
    torch.save(pruned_file(Golden("vgg_plain")), tmp_path / "vgg.pth.tar")
    torch.save(pruned_file(Golden("preresnet_n1")), tmp_path / "resnet.pth.tar")
    with pytest.raises(ValueError, match="is missing"):
        load_weights(vgg_bn(16, classifier="linear", bias=False), tmp_path / "vgg.pth.tar")
    with pytest.raises(ValueError, match=r"features.conv1.bias is missing|classifier.linear1.weight is missing"):
        load_weights(vgg_bn(13), tmp_path / "vgg.pth.tar")
    with pytest.raises(ValueError, match="is missing"):
        load_weights(preresnet(20, width=4), tmp_path / "resnet.pth.tar")
    with pytest.raises(ValueError, match="is missing"):
        load_weights(vgg_bn(13, classifier="linear", bias=False), tmp_path / "resnet.pth.tar")


def test_weights_of_others_that_are_narrower_are_still_refused(tmp_path):
    torch.save(preresnet(11, width=4).state_dict(), tmp_path / "narrow.pt")
    with pytest.raises(ValueError, match=r"in the file and .* in the network"):
        load_weights(preresnet(11, width=8), tmp_path / "narrow.pt")
