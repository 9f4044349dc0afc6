"""An independent library finds the same layers to leave together."""

import pytest
import torch
from torch import nn

from pruning_lit.channels import ChannelGroup, trace
from pruning_lit.models import torchvision_model

torch_pruning = pytest.importorskip("torch_pruning")

Leaving = set[tuple[str, str]]  # (layer, "out" or "in")


def ours(net: nn.Module, group: ChannelGroup) -> Leaving:
    """Rows of the layers that write and columns of those that read; normalisations have only one kind."""
    kinds = {"writes": "out", "reads": "in", "along": "out"}
    return {(piece.tensor.rpartition(".")[0], kinds[piece.role]) for piece in group.slices}


def theirs(net: nn.Module, dependencies: "torch_pruning.DependencyGraph", layer: str, channel: int) -> Leaving:
    """What leaves with one output channel of ``layer``."""
    names = {module: name for name, module in net.named_modules()}
    group = dependencies.get_pruning_group(
        net.get_submodule(layer), torch_pruning.prune_conv_out_channels, idxs=[channel]
    )
    return {
        (names[dependency.target.module], "in" if dependencies.is_in_channel_pruning_fn(dependency.handler) else "out")
        for dependency, _ in group
        if dependency.target.module in names and list(dependency.target.module.parameters())
    }


@pytest.mark.parametrize("name", ["vgg11_bn", "resnet18"])
def test_the_same_layers_leave_together_with_an_output_channel(name):
    torch.manual_seed(0)
    net, picture = torchvision_model(name, num_classes=10).eval(), torch.randn(1, 3, 64, 64)
    graph = trace(net, picture)
    dependencies = torch_pruning.DependencyGraph().build_dependency(net, example_inputs=picture)
    norms = {layer for layer, module in net.named_modules() if isinstance(module, nn.BatchNorm2d)}
    checked = 0
    for layer, module in net.named_modules():
        if not isinstance(module, nn.Conv2d):
            continue
        (group,) = [group for group in graph.groups if layer in group.writers]
        expected = {(each, "out" if each in norms else kind) for each, kind in theirs(net, dependencies, layer, 3)}
        assert ours(net, group) == expected, layer
        checked += 1
    assert checked == {"vgg11_bn": 8, "resnet18": 20}[name]
