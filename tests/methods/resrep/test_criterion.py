"""Which layers get compactors, and why not the others; whatever gets one is converted exactly."""

import copy
from typing import get_args

import pytest
import torch
from torch import Tensor, nn

from pruning_lit.channels import ChannelGraph, compactors, insert_compactors, trace, verify
from pruning_lit.criteria import Scoring
from pruning_lit.methods.resrep import CompactorNorm
from pruning_lit.methods.resrep.conversion import Conversion, FoldNorms
from pruning_lit.methods.resrep.placement import Policy
from pruning_lit.models import cifar_densenet, cifar_resnet, mobilenet_v1, torchvision_model, vgg_bn
from tests.channels import constructions
from tests.channels.chance import randomise
from tests.channels.constructions import PRUNABLE, Built, conv
from tests.methods.resrep.resrep_golden import half_dead, placements_of

SMALL = torch.zeros(1, 3, 32, 32)


def reasons_of(net: nn.Module, policy: Policy = "internal_only", image: Tensor = SMALL) -> dict[str, str]:
    return CompactorNorm(policy).unsupported(net, trace(net, image))


def layers_of(net: nn.Module, policy: Policy = "internal_only", image: Tensor = SMALL, without=()) -> list[list[str]]:
    return [list(placement.layers) for placement in placements_of(net, image, policy, without)]


def rows_of(net: nn.Module, image: Tensor = SMALL, without=()) -> int:
    return sum(
        len(rows) for placement in placements_of(net, image, without=without) for rows in placement.rows.values()
    )


# --- the networks of the release ---


@pytest.mark.slow
def test_in_resnet56_the_first_convolution_of_every_block_gets_one():
    net = cifar_resnet(56, stem="tied", shortcut="option_b")
    firsts = [[f"layer{stage}.{block}.conv1"] for stage in (1, 2, 3) for block in range(9)]
    assert layers_of(net) == firsts  # 27 layers
    assert rows_of(net) == 9 * (16 + 32 + 64) == 1008
    assert [placement.behind for placement in placements_of(net, SMALL)] == [
        (name.replace("conv", "bn"),) for (name,) in firsts
    ]


@pytest.mark.slow
def test_in_resnet50_the_first_two_convolutions_of_every_block_get_one_and_the_stem_would():
    net, image = torchvision_model("resnet50"), torch.zeros(1, 3, 64, 64)
    blocks = zip((1, 2, 3, 4), (3, 4, 6, 3), strict=True)
    inner = [[f"layer{s}.{block}.conv{n}"] for s, count in blocks for block in range(count) for n in (1, 2)]
    assert layers_of(net, image=image) == [["conv1"], *inner]  # the release leaves the stem whole
    assert len(layers_of(net, image=image, without=["conv1"])) == 32
    assert rows_of(net, image, without=["conv1"]) == 7552


@pytest.mark.slow
def test_in_vgg16_all_thirteen_convolutions_get_one_and_no_linear_layer():
    net = vgg_bn(16, classifier="mlp_plain", bias=False, pool="max")
    assert layers_of(net) == [[f"features.conv{number}"] for number in range(1, 14)]
    assert reasons_of(net) == {"classifier.linear1": "'classifier.linear1' makes its channels, which is no convolution"}


@pytest.mark.slow
def test_in_mobilenet_v1_the_stem_and_the_pointwise_convolutions_get_one():
    net, image = mobilenet_v1(10), torch.zeros(1, 3, 64, 64)
    assert layers_of(net, image=image) == [["conv1"], *([f"blocks.{n}.pointwise"] for n in range(13))]
    assert reasons_of(net, image=image) == {}


@pytest.mark.slow
def test_streams_get_one_for_all_their_layers_where_that_is_wanted():
    net = cifar_resnet(20, stem="tied", shortcut="option_b")
    reasons = reasons_of(net)
    assert reasons.keys() == {"conv1", "layer2.0.conv2", "layer3.0.conv2"}
    assert {reason.partition(";")[0] for reason in reasons.values()} == {"several layers make its channels"}
    assert reasons_of(net, "coupled") == {}
    streams = [layers for layers in layers_of(net, "coupled") if len(layers) > 1]
    assert streams == [
        ["conv1", *(f"layer1.{block}.conv2" for block in range(3))],
        *(
            [f"layer{stage}.0.conv2", f"layer{stage}.0.shortcut.conv", *(f"layer{stage}.{n}.conv2" for n in (1, 2))]
            for stage in (2, 3)
        ),
    ]


# --- why others get none ---


@pytest.mark.slow
def test_streams_behind_padded_shortcuts_stay_whole():
    """The channels of the stage before come into them between zeros, not by their own layers."""
    net = cifar_resnet(20, stem="tied", shortcut="option_a")
    reasons = reasons_of(net, "coupled")
    assert reasons.keys() == {"layer2.0.conv2", "layer3.0.conv2"}
    assert all(reason.startswith("a shortcut that places channels among zeros writes") for reason in reasons.values())
    assert ["conv1", *(f"layer1.{block}.conv2" for block in range(3))] in layers_of(net, "coupled")


class GatedBehindDepthwise(Built):
    """EfficientNet: a constant in the place of a removed channel is gated, and the gate depends on the image."""

    def build(self):
        self.deep, self.norm2 = conv(8, 8, groups=8), nn.BatchNorm2d(8)
        self.down, self.up = conv(8, 8, 1), conv(8, 8, 1)

    def between(self, x):
        x = self.norm2(self.deep(x)).relu()
        return x * self.up(self.down(x.mean((2, 3), keepdim=True)).relu()).sigmoid()

    def __init__(self):
        super().__init__()
        self.last = nn.Conv2d(8, 6, 1)  # which pads nothing, and could take up a constant


class TwoNorms(Built):
    """A batch norm that does not belong to the convolution alone turns zero into a constant, beside padded zeros."""

    def build(self):
        self.again = nn.BatchNorm2d(8)

    def between(self, x):
        return self.again(x)


class TwoNormsUnpadded(TwoNorms):
    """The same in front of a reader that pads nothing."""

    def __init__(self):
        super().__init__()
        self.last = nn.Conv2d(8, 6, 3)


def small_reasons(construction: type[Built], policy: Policy = "coupled") -> dict[str, str]:
    torch.manual_seed(0)
    return reasons_of(randomise(construction()), policy, torch.zeros(1, 3, 6, 6))


@pytest.mark.parametrize(
    ("construction", "group", "reason"),
    [
        (GatedBehindDepthwise, "first", "zero where they are made, its channels still"),
        (TwoNorms, "first", "a constant"),
        (constructions.Grouped, "first", "its channels leave in bundles"),
        (constructions.OptionA, "first", "the layers that make its channels make others beside them"),
        (constructions.Transposed, "up", "'up' makes its channels, a transposed convolution"),
        (constructions.FlattenCHW, "wide", "'wide' makes its channels, which is no convolution"),
        (constructions.UsedTwice, "first", "'again' is used more than once"),
        (constructions.SharedHead, "head", "'head' is used more than once"),
        (constructions.WeightNorm, "normed", "the kernel of 'normed' is computed, not stored"),
        (constructions.OwnWeight, "kernel", "'kernel' makes its channels, which is no convolution"),
    ],
    ids=lambda value: value.__name__ if isinstance(value, type) else None,
)
def test_what_gets_none_has_a_true_reason(construction, group, reason):
    found = small_reasons(construction)
    assert reason in found[group]


def test_the_reader_that_pads_zeros_around_constants_is_named():
    assert "'last', which pads" in small_reasons(TwoNorms)["first"]
    assert small_reasons(TwoNormsUnpadded) == {}


def test_squeeze_and_excitation_right_behind_a_convolution_is_no_hindrance():
    assert "first" not in small_reasons(constructions.SqueezeExcite)


@pytest.mark.slow
def test_layers_behind_batch_norms_of_a_stream_keep_their_channels():
    net = cifar_densenet(22, selections=False)
    reasons = reasons_of(net)
    growing = {name for name in reasons if name.startswith("dense")}
    assert growing  # 3x3 convolutions, which pad, read them behind a batch norm
    assert all("which pads" in reasons[name] for name in growing)
    for (layer,) in layers_of(net):  # what else is behind a norm is read by 1x1 convolutions and linear layers alone
        assert layer not in growing


@pytest.mark.slow
def test_in_resnext_only_the_stem_and_the_streams_get_one():
    net, image = torchvision_model("resnext50_32x4d"), torch.zeros(1, 3, 64, 64)
    assert layers_of(net, image=image) == [["conv1"]]
    bundles = [reason for reason in reasons_of(net, image=image).values() if "bundles" in reason]
    assert len(bundles) == 16  # one group per block: its 1x1 and its grouped 3x3 convolution
    assert len(layers_of(net, "coupled", image)) == 5


@pytest.mark.at_once(10)
@pytest.mark.parametrize("width", range(2, 9))
@pytest.mark.parametrize("seed", range(3))
def test_small_groups_are_judged_like_large_ones(width, seed):
    """A constant that a ReLU happens to swallow in one trial is not swallowed with other weights."""
    torch.manual_seed(seed)
    net = nn.Sequential(
        nn.Conv2d(3, width, 1),
        nn.BatchNorm2d(width),
        nn.Conv2d(width, width, 1, groups=width),
        nn.ReLU(),
        nn.Conv2d(width, 2, 3, padding=1),
    )
    assert "'4', which pads" in reasons_of(net, image=torch.zeros(1, 3, 6, 6)).get("0", "no reason")


# --- the criterion ---


@pytest.fixture
def resnet() -> tuple[nn.Module, ChannelGraph, CompactorNorm]:
    net = cifar_resnet(8, stem="tied", shortcut="option_b")
    criterion, graph = CompactorNorm("coupled"), trace(net, SMALL)
    return net, graph.protect(criterion.unsupported(net, graph)), criterion


def test_scores_are_the_lengths_of_rows(resnet):
    net, graph, criterion = resnet
    groups = list(graph.prunable)
    wide, _ = half_dead(net, criterion.placements(net, graph, groups))
    scores = criterion.scores(Scoring(wide, graph, groups))
    assert list(scores) == [group.name for group in groups]
    expected = torch.linalg.vector_norm(wide.bn1.compactor.weight.detach().double(), dim=1)
    assert torch.equal(scores["conv1"], expected)
    assert all(score.dtype == torch.float64 and len(score) == graph[name].size for name, score in scores.items())
    assert sorted({int((score == 0).sum()) for score in scores.values()}) == [8, 16, 32]  # half of the rows are dead


def test_scores_can_be_asked_for_some_groups_alone(resnet):
    net, graph, criterion = resnet
    groups = [graph["layer1.0.conv1"], graph["conv1"]]
    insert_compactors(net, criterion.placements(net, graph, groups))
    assert len(compactors(net)) == 2
    assert list(criterion.scores(Scoring(net, graph, groups))) == ["layer1.0.conv1", "conv1"]


def test_rows_of_groups_that_have_to_stay_belong_to_no_one(resnet):
    net, graph, criterion = resnet
    rest = [group for group in graph.prunable if group.name != "conv1"]
    assert "conv1" not in {layer for placement in criterion.placements(net, graph, rest) for layer in placement.layers}


def test_rows_of_channels_that_have_to_stay_are_in_no_group_and_not_pulled():
    net = randomise(constructions.LiteralTail())  # its first three channels are cut off by number
    (placement,) = (
        placement for placement in placements_of(net, torch.zeros(1, 3, 6, 6)) if placement.layers == ("first",)
    )
    assert (placement.width, [*placement.rows.values()]) == (8, [[3, 4, 5, 6, 7]])
    compactor = insert_compactors(net, [placement])["norm"]
    assert compactor.regularised.tolist() == [0, 0, 0, 1, 1, 1, 1, 1]


def test_looking_for_placements_changes_neither_the_network_nor_chance(resnet):
    net, graph, _ = resnet
    net.train()
    before, state = copy.deepcopy(net.state_dict()), torch.get_rng_state()
    CompactorNorm("coupled").unsupported(net, graph)
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(tensor, before[name]) for name, tensor in net.state_dict().items())
    assert all(module.training for module in net.modules())
    assert not any(module._forward_hooks for module in net.modules())
    assert all(parameter.grad is None for parameter in net.parameters())


@pytest.mark.slow
def test_placements_are_the_same_whatever_the_weights():
    placements = []
    for seed in range(3):
        torch.manual_seed(seed)
        net = cifar_resnet(8, stem="tied", shortcut="option_a")
        if seed == 2:
            nn.init.zeros_(net.layer1[0].conv1.weight)
        placements.append((placements_of(net, SMALL, "coupled"), reasons_of(net, "coupled")))
    assert placements[0] == placements[1] == placements[2]


def test_one_criterion_tells_networks_apart():
    criterion = CompactorNorm()
    for depth in (8, 14, 8):
        net = cifar_resnet(depth, stem="tied", shortcut="option_b")
        graph = trace(net, SMALL)
        graph = graph.protect(criterion.unsupported(net, graph))
        assert len(criterion.placements(net, graph, list(graph.prunable))) == (depth - 2) // 2


def test_rows_are_of_one_unit():
    assert CompactorNorm.comparable


def test_without_compactors_there_is_nothing_to_judge_by(resnet):
    net, graph, criterion = resnet
    with pytest.raises(ValueError, match="method=resrep"):
        criterion.check(list(graph.prunable))
    with pytest.raises(ValueError, match="method=resrep"):
        criterion.scores(Scoring(net, graph, list(graph.prunable)))


def test_an_unknown_policy_is_refused():
    with pytest.raises(ValueError, match=r"criterion.policy must be one of \['internal_only', 'coupled'\], got 'all'"):
        CompactorNorm("all")


# --- whatever gets a compactor is converted exactly ---


@pytest.mark.at_once(5)
@pytest.mark.parametrize("policy", ["internal_only", pytest.param("coupled", marks=pytest.mark.slow)])
@pytest.mark.parametrize("construction", PRUNABLE, ids=lambda construction: construction.__name__)
def test_whatever_people_build_is_converted_exactly_where_it_gets_compactors(construction, policy):
    torch.manual_seed(0)
    net, images = randomise(construction()).double(), torch.randn(3, 3, 6, 6, dtype=torch.float64)
    with torch.no_grad():
        net(images)  # a kernel of the old weight_norm cannot be copied with its gradient's history
    placements = placements_of(net, images[:1], policy)
    if not placements:
        pytest.skip("it gets none")
    wide, kept = half_dead(net, placements)
    for norms in get_args(FoldNorms):
        narrow = copy.deepcopy(wide)
        Conversion(placements, kept, norms).convert(narrow, images[:1])
        assert verify(narrow, wide, images) < 1e-9
