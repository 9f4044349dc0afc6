"""A rate per layer: whose rate each entry is, and what a wrong list is told."""

import json
from fractions import Fraction

import pytest
import torch
from torch import nn

from pruning_lit.channels import cost_of_widths, trace
from pruning_lit.sparsity import DenseCost, Layerwise
from tests.places import VECTORS
from tests.sparsity.networks import noise, plain, traced

TABLES = json.loads((VECTORS / "chip" / "tables.json").read_text())
PRUNED = [row for row in TABLES["rows"] if row["sparsity"] != "[0.]*100"]
TIED = [row for row in PRUNED if "counts_stem_tied" in row]

everything = Fraction(1)


def widths(sparsity: Layerwise, graph) -> dict[str, int]:
    return sparsity.widths(graph, {}, DenseCost.of(graph), everything)


def as_published(arch: str, planned: dict) -> dict[str, int]:
    """The widths of a row of the table by the names of our groups (section 5 of the method's description)."""
    if arch.startswith("vgg"):
        return {f"features.conv{i}": width for i, width in enumerate(planned["conv"][:12], start=1)}
    blocks = {"resnet_56": (9, 9, 9), "resnet_110": (18, 18, 18), "resnet_50": (3, 4, 6, 3)}[arch]
    stream, inner = ("conv3", ("conv1", "conv2")) if arch == "resnet_50" else ("conv2", ("conv1",))
    places = [(stage, block) for stage, count in enumerate(blocks, start=1) for block in range(count)]
    named = {"conv1": planned["stem"]}
    named |= {f"layer{s}.0.{stream}": width for s, width in enumerate(planned["stage_out"][:-1], start=1)}
    for (stage, block), width in zip(places, planned["mid"], strict=True):
        named |= {f"layer{stage}.{block}.{conv}": width for conv in inner}
    return named


def row_name(row: dict) -> str:
    return f"{row['arch']} {row['sparsity']}"


@pytest.mark.at_once(4)
@pytest.mark.parametrize("row", PRUNED, ids=row_name)
def test_published_rates_give_the_published_network(row):
    graph = traced(row["arch"])
    sparsity = Layerwise(row["sparsity"])
    sparsity.check(graph)
    chosen = widths(sparsity, graph)
    expected = as_published(row["arch"], row["widths"])
    assert chosen == {name: width for name, width in expected.items() if width < graph[name].size}
    counted = cost_of_widths(graph, chosen)
    assert (counted.macs, counted.params) == (row["counts"]["macs"], row["counts"]["params"])


@pytest.mark.at_once(2)
@pytest.mark.parametrize("row", TIED, ids=row_name)
def test_with_a_tied_stem_the_same_rates_narrow_the_stem_too(row):
    graph = traced(row["arch"] + "_tied")
    chosen = widths(Layerwise(row["sparsity"]), graph)
    assert chosen["conv1"] == row["widths"]["stage_out"][0]
    counted = cost_of_widths(graph, chosen)
    expected = row["counts_stem_tied"]
    assert (counted.macs, counted.params) == (expected["macs"], expected["params"])


@pytest.mark.at_once(7)
@pytest.mark.parametrize(
    ("arch", "entry", "groups"),
    [
        ("resnet_56", 0, ["conv1"]),
        ("resnet_56", 1, ["layer1.0.conv2"]),
        ("resnet_56", 2, ["layer2.0.conv2"]),
        ("resnet_56", 3, ["layer1.0.conv1"]),
        ("resnet_56", 12, ["layer2.0.conv1"]),
        ("resnet_56", 29, ["layer3.8.conv1"]),
        ("resnet_110", 3, ["layer1.0.conv1"]),
        ("resnet_110", 56, ["layer3.17.conv1"]),
        ("vgg_16_bn", 0, ["features.conv1"]),
        ("vgg_16_bn", 11, ["features.conv12"]),
        ("resnet_50", 0, ["conv1"]),
        ("resnet_50", 3, ["layer3.0.conv3"]),
        ("resnet_50", 4, ["layer1.0.conv1", "layer1.0.conv2"]),  # both convolutions inside a bottleneck
        ("resnet_50", 19, ["layer4.2.conv1", "layer4.2.conv2"]),
        ("resnet_8", 2, ["layer2.0.conv2"]),  # one block per stage: the streams are there all the same
    ],
)
def test_an_entry_belongs_to_its_layers_alone(arch, entry, groups):
    length = {"resnet_56": 30, "resnet_110": 57, "vgg_16_bn": 12, "resnet_50": 20, "resnet_8": 6}[arch]
    graph = traced(arch)
    rates = [0.0] * length
    rates[entry] = 0.5
    chosen = widths(Layerwise(rates), graph)
    assert chosen == {name: graph[name].size // 2 for name in groups}


@pytest.mark.parametrize("arch", ["resnet_56", "vgg_16_bn", "resnet_50"])
def test_what_has_a_rate_of_zero_needs_no_scores(arch):
    graph = traced(arch)
    length = {"resnet_56": 30, "vgg_16_bn": 12, "resnet_50": 20}[arch]
    sparsity = Layerwise(f"[0]*{length}")
    sparsity.check(graph)
    assert sparsity.prunable_groups(graph) == []
    assert sparsity.kept(graph, {}) == {}


def test_a_high_rate_leaves_one_channel():
    assert widths(Layerwise([0.99, 0.5]), plain(8, 6, 4)) == {"0": 1, "1": 3}


@pytest.mark.parametrize(
    ("arch", "rates", "told"),
    [
        (
            "resnet_56",
            "[0.]+[0.15]*2+[0.4]*26",
            ["has 29 entries", "takes 30 rates", "1 for the stem", "2 for the residual streams", "27 for the blocks"],
        ),
        (
            "resnet_50",
            "[0.]*100",
            ["has 100 entries", "takes 20 rates", "3 for the residual streams", "16 for the blocks"],
        ),
        ("vgg_16_bn", "[0.45]*7+[0.78]*6", ["has 13 entries", "12 rates", "12 for the layers", "features.conv13"]),
    ],
)
def test_a_list_of_the_wrong_length_is_told_the_layout(arch, rates, told):
    with pytest.raises(ValueError, match=r"sparsity\.rates") as refusal:
        Layerwise(rates).check(traced(arch))
    assert [part for part in told if part not in str(refusal.value)] == []


def test_a_tied_stem_takes_zero_or_the_rate_of_its_stream():
    graph = traced("resnet_56_tied")
    for stem in ("0.", "0.4"):
        Layerwise(f"[{stem}]+[0.4]*29").check(graph)
    with pytest.raises(ValueError, match=r"the first rate must be 0 or 0\.4, not 0\.3"):
        Layerwise("[0.3]+[0.4]*29").check(graph)


def test_an_untied_stem_takes_any_rate():
    graph = traced("resnet_56")
    assert widths(Layerwise("[0.5]+[0.]*29"), graph) == {"conv1": 8}


def test_rates_by_name_narrow_what_is_named():
    graph = plain(8, 6, 4)
    assert widths(Layerwise({"1": 0.5}), graph) == {"1": 3}
    assert Layerwise({"1": "0.5"}).kept(graph, noise(graph)).keys() == {"1"}


def test_a_name_that_is_not_there_is_refused_with_those_that_are():
    with pytest.raises(ValueError, match=r"no channel group is called 'conv9'.*'0', '1', '2'"):
        Layerwise({"conv9": 0.5}).check(plain(8, 6, 4))


def test_a_protected_group_is_refused_with_the_reason():
    graph = plain(8, 6, 4)
    logits = graph.groups[-1]
    with pytest.raises(ValueError, match=f"'{logits.name}' is protected: it leaves the model"):
        Layerwise({logits.name: 0.5}).check(graph)


def test_a_rate_by_name_outside_the_interval_is_refused_with_the_name():
    with pytest.raises(ValueError, match=r"rate of 'layer1.0.conv1' 1.5 lies outside \[0, 1\)"):
        Layerwise({"layer1.0.conv1": 1.5})


def test_half_of_the_way_is_half_of_every_rate():
    graph = plain(100, 40, 4)
    halfway = Layerwise([0.5, 0.25]).widths(graph, {}, DenseCost.of(graph), Fraction(1, 2))
    assert halfway == {"0": 75, "1": 35}


def test_the_last_of_several_cuts_ends_where_one_cut_would():
    sparsity, dense = Layerwise([0.5, 0.3]), DenseCost.of(plain(9, 7, 4))
    between = sparsity.widths(plain(9, 7, 4), {}, dense, Fraction(1, 2))
    assert between == {"0": 6, "1": 5}
    assert sparsity.widths(plain(6, 5, 4), {}, dense, everything) == widths(sparsity, plain(9, 7, 4))


class Block(nn.Module):
    """A residual block without an activation, which is enough to tie."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(width, 2 * width, 1), nn.Conv2d(2 * width, width, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.second(self.first(x))


def test_an_unknown_residual_network_has_a_layout_too():
    net = nn.Sequential(
        nn.Conv2d(3, 4, 1),
        Block(4),
        nn.Conv2d(4, 6, 1),
        Block(6),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(6, 2),
    )
    graph = trace(net, torch.zeros(1, 3, 4, 4))
    chosen = widths(Layerwise([0, 0.5, 0.25, 0.5]), graph)  # tied stem, stream, and what is inside the two blocks
    assert chosen == {"0": 2, "1.first": 6, "3.first": 6}
