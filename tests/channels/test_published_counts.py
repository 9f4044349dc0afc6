"""Really narrowed networks have the integers behind CHIP's tables; three independent counts agree."""

import json

import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from pruning_lit.channels import Cost, cost, narrow, trace
from pruning_lit.models import cifar_resnet, torchvision_model, vgg_bn
from pruning_lit.sparsity import Layerwise
from tests.channels.chance import random_scores
from tests.places import VECTORS

TABLES = VECTORS / "chip" / "tables.json"
ROWS = json.loads(TABLES.read_text())["rows"]
UNPRUNED = "[0.]*100"


def row_name(row: dict) -> str:
    return f"{row['arch']}-{'unpruned' if row['sparsity'] == UNPRUNED else row['sparsity']}"


def build(arch: str, stem: str = "select") -> nn.Module:
    if arch == "vgg_16_bn":
        return vgg_bn(16)
    if arch == "resnet_50":
        return torchvision_model("resnet50")
    return cifar_resnet(int(arch.removeprefix("resnet_")), stem=stem)


def narrowed_by(rates: str, net: nn.Module, image: torch.Tensor) -> Cost:
    """Narrow ``net`` in place; the cost foretold from the graph of the wide network."""
    graph = trace(net, image)
    kept = {} if rates == UNPRUNED else Layerwise(rates).kept(graph, random_scores(graph, seed=0))
    foretold = cost(graph, kept)
    narrow(net, graph, kept)
    return foretold


def counted(net: nn.Module, image: torch.Tensor) -> Cost:
    """Parameters by their sizes, MACs by torch's own counter (two operations each)."""
    counter = FlopCounterMode(display=False)
    with torch.no_grad(), counter:
        net.eval()(image)
    return Cost(counter.get_total_flops() // 2, sum(parameter.numel() for parameter in net.parameters()))


def widths(net: nn.Module, arch: str) -> dict:
    """Output channels by the names that the tables use."""
    if arch == "vgg_16_bn":
        return {"conv": [module.out_channels for module in net.features if isinstance(module, nn.Conv2d)]}
    stages = [stage for name, stage in net.named_children() if name.startswith("layer")]
    last = "conv3" if arch == "resnet_50" else "conv2"
    assert all(len({getattr(block, last).out_channels for block in stage}) == 1 for stage in stages)
    blocks = [block for stage in stages for block in stage]
    assert last == "conv2" or all(block.conv1.out_channels == block.conv2.out_channels for block in blocks)
    return {
        "stem": net.conv1.out_channels,
        "stage_out": [getattr(stage[0], last).out_channels for stage in stages],
        "mid": [block.conv1.out_channels for block in blocks],
    }


@pytest.mark.at_once(1)
@pytest.mark.parametrize("row", ROWS, ids=row_name)
def test_a_network_narrowed_by_published_rates_has_the_published_counts(row):
    with torch.device("meta" if row["arch"] == "resnet_50" else "cpu"):  # without one multiplication, where it can be
        net, image = build(row["arch"]), torch.zeros(1, *row["input"])
    foretold = narrowed_by(row["sparsity"], net, image)
    expected = Cost(row["counts"]["macs"], row["counts"]["params"])
    assert foretold == expected
    assert counted(net, image) == expected
    assert cost(trace(net, image)) == expected
    assert widths(net, row["arch"]) == row["widths"]


@pytest.mark.slow
@pytest.mark.at_once(1)
@pytest.mark.parametrize("row", [row for row in ROWS if "counts_stem_tied" in row], ids=row_name)
def test_a_stem_tied_to_the_first_stage_has_its_own_counts(row):
    net, image = build(row["arch"], stem="tied"), torch.zeros(1, *row["input"])
    foretold = narrowed_by(row["sparsity"], net, image)
    expected = Cost(row["counts_stem_tied"]["macs"], row["counts_stem_tied"]["params"])
    assert foretold == expected
    assert counted(net, image) == expected
    assert net.conv1.out_channels == row["widths"]["stage_out"][0]


@pytest.mark.slow
def test_the_cost_of_random_widths_is_that_of_the_narrowed_network():
    image = torch.zeros(1, 3, 32, 32)
    for seed in range(5):
        net = cifar_resnet(20)
        graph = trace(net, image)
        random = torch.Generator().manual_seed(seed)
        kept = {g.name: range(int(torch.randint(1, g.size + 1, (), generator=random))) for g in graph.prunable}
        foretold = cost(graph, kept)
        narrow(net, graph, kept)
        assert foretold == counted(net, image) == cost(trace(net, image))


def test_the_cost_is_that_of_one_example_whatever_the_batch():
    net = cifar_resnet(8)
    assert cost(trace(net, torch.zeros(3, 3, 32, 32))) == cost(trace(net, torch.zeros(1, 3, 32, 32)))
