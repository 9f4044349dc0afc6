"""One forward pass tells which slices of which tensors leave together, and which may not go."""

import copy
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pruning_lit.channels import ChannelGraph, ChannelGroup, ChannelSlice, cost, mask, narrow, trace, verify
from pruning_lit.models import cifar_resnet
from tests.channels.chance import random_kept, randomise

IMAGE = torch.zeros(1, 3, 8, 8)


class Net(nn.Module):
    """Layers by name, and the function that connects them."""

    def __init__(self, connect: Callable[[nn.Module, Tensor], Tensor], **layers: nn.Module) -> None:
        super().__init__()
        self.connect = connect
        for name, layer in layers.items():
            self.add_module(name, layer)

    def forward(self, x: Tensor) -> Tensor:
        return self.connect(self, x)


def chain(*layers: str) -> Callable[[nn.Module, Tensor], Tensor]:
    """Call the layers one after the other, with a ReLU behind each, and average over the pixels."""

    def connect(net: nn.Module, x: Tensor) -> Tensor:
        for layer in layers:
            x = net.get_submodule(layer)(x).relu()
        return x.mean((2, 3))

    return connect


def conv(c_in: int, c_out: int, **options: int) -> nn.Conv2d:
    return nn.Conv2d(c_in, c_out, 3, padding=1, **options)


def where(group: ChannelGroup) -> set[tuple[str, int, str]]:
    return {(piece.tensor, piece.dim, piece.role) for piece in group.slices}


def piece_of(group: ChannelGroup, tensor: str) -> ChannelSlice:
    (piece,) = [piece for piece in group.slices if piece.tensor == tensor]
    return piece


def protections(graph: ChannelGraph) -> dict[str, str | None]:
    return {group.name: group.protected for group in graph.groups}


def assert_narrowed_is_masked(net: nn.Module, *shape: int) -> None:
    """The trace is right: cuts by it change nothing but what masking changes."""
    randomise(net).double()
    inputs = torch.randn(*shape, dtype=torch.float64)
    graph = trace(net, inputs[:1])
    for seed in range(3):
        kept = random_kept(graph, seed)
        narrowed, masked = copy.deepcopy(net), copy.deepcopy(net)
        narrow(narrowed, graph, kept)
        mask(masked, graph, kept)
        assert verify(narrowed, masked, inputs) < 1e-10


def test_the_groups_of_a_small_resnet():
    graph = trace(cifar_resnet(8), torch.zeros(1, 3, 32, 32))
    assert [(group.name, group.size, group.protected) for group in graph.groups] == [
        ("conv1", 16, None),
        ("layer1.0.conv1", 16, None),
        ("layer1.0.conv2", 16, None),
        ("layer2.0.conv1", 32, None),
        ("layer2.0.conv2", 32, None),
        ("layer3.0.conv1", 64, None),
        ("layer3.0.conv2", 64, None),
        ("linear", 10, "it leaves the model"),
    ]
    assert graph.entries == ("conv1",)
    assert (graph["conv1"].writers, graph["conv1"].readers) == (("conv1",), ("layer1.0.conv1",))
    assert graph["layer3.0.conv2"].readers == ("linear",)
    assert where(graph["layer2.0.conv1"]) == {
        ("layer2.0.conv1.weight", 0, "writes"),
        ("layer2.0.bn1.weight", 0, "along"),
        ("layer2.0.bn1.bias", 0, "along"),
        ("layer2.0.bn1.running_mean", 0, "along"),
        ("layer2.0.bn1.running_var", 0, "along"),
        ("layer2.0.conv2.weight", 1, "reads"),
    }
    assert ("layer1.0.shortcut.source", 0, "along") in where(graph["layer1.0.conv2"])
    assert {group.name for group in graph.prunable} == {group.name for group in graph.groups} - {"linear"}


def test_a_tied_stem_and_the_first_stage_are_one_group():
    graph = trace(cifar_resnet(20, stem="tied"), torch.zeros(1, 3, 32, 32))
    stream = graph["conv1"]
    assert stream.writers == ("conv1", "layer1.0.conv2", "layer1.1.conv2", "layer1.2.conv2")
    assert stream.readers == ("layer1.0.conv1", "layer1.1.conv1", "layer1.2.conv1", "layer2.0.conv1")
    assert len(stream.feature_maps) == 4


def test_an_unknown_name_is_refused_with_the_names_there_are():
    graph = trace(cifar_resnet(8), torch.zeros(1, 3, 32, 32))
    with pytest.raises(ValueError, match=r"called 'layer1'; the groups are \['conv1', 'layer1.0.conv1'"):
        graph["layer1"]


def test_channels_of_a_concatenation_stay_apart():
    net = Net(
        lambda net, x: net.head(torch.cat([net.one(x), F.relu(net.other(x), inplace=True)], 1)).mean((2, 3)),
        one=conv(3, 4),
        other=conv(3, 6),
        head=conv(10, 5),
    )
    graph = trace(net, IMAGE)
    assert [(group.name, group.size) for group in graph.groups] == [("one", 4), ("other", 6), ("head", 5)]
    assert piece_of(graph["one"], "head.weight").positions.flatten().tolist() == [0, 1, 2, 3]
    assert piece_of(graph["other"], "head.weight").positions.flatten().tolist() == [4, 5, 6, 7, 8, 9]
    assert_narrowed_is_masked(net, 2, 3, 8, 8)


def test_a_depthwise_convolution_follows_its_input():
    net = Net(
        lambda net, x: net.head(net.depthwise(net.norm(net.wide(x)).relu()).relu()).mean((2, 3)),
        wide=conv(3, 6),
        norm=nn.BatchNorm2d(6),
        depthwise=conv(6, 6, groups=6),
        head=conv(6, 5),
    )
    graph = trace(net, IMAGE)
    assert graph["wide"].writers == ("wide", "depthwise")
    assert graph["wide"].readers == ("depthwise", "head")
    narrow(net, graph, {"wide": [0, 2, 5]})
    assert (net.depthwise.groups, net.depthwise.in_channels, net.depthwise.out_channels) == (3, 3, 3)
    assert tuple(net.depthwise.weight.shape) == (3, 1, 3, 3)
    assert_narrowed_is_masked(net, 2, 3, 8, 8)


def test_a_depthwise_convolution_that_multiplies_channels_keeps_its_factor():
    net = Net(
        lambda net, x: net.head(net.depthwise(net.wide(x))).mean((2, 3)),
        wide=conv(3, 4),
        depthwise=conv(4, 12, groups=4),
        head=conv(12, 5),
    )
    graph = trace(net, IMAGE)
    kernels = piece_of(graph["wide"], "depthwise.weight").positions
    assert torch.equal(kernels, torch.arange(12).reshape(4, 3))
    narrow(net, graph, {"wide": [1, 3]})
    assert (net.depthwise.groups, net.depthwise.in_channels, net.depthwise.out_channels) == (2, 2, 6)
    assert_narrowed_is_masked(net, 2, 3, 8, 8)


def test_whole_convolution_groups_go():
    net = Net(
        lambda net, x: net.head(net.grouped(net.wide(x).relu()).relu()).mean((2, 3)),
        wide=conv(3, 8),
        grouped=conv(8, 12, groups=4),
        head=conv(12, 5),
    )
    graph = trace(net, IMAGE)
    group = graph["wide"]
    assert (group.size, group.writers) == (4, ("wide", "grouped"))
    assert piece_of(group, "wide.weight").positions.tolist() == [[0, 1], [2, 3], [4, 5], [6, 7]]
    assert piece_of(group, "head.weight").positions.tolist() == [[0, 1, 2], [3, 4, 5], [6, 7, 8], [9, 10, 11]]
    narrow(net, graph, {"wide": [0, 3]})
    assert (net.grouped.groups, net.grouped.in_channels, net.grouped.out_channels) == (2, 4, 6)
    assert_narrowed_is_masked(net, 2, 3, 8, 8)


def test_whole_convolution_groups_go_with_all_that_were_concatenated_into_them():
    net = Net(
        lambda net, x: net.head(net.grouped(net.depthwise(torch.cat([net.left(x), net.right(x)], 1)))).mean((2, 3)),
        left=conv(3, 6),
        right=conv(3, 4),
        depthwise=conv(10, 10, groups=10),
        grouped=conv(10, 6, groups=2),
        head=conv(6, 5),
    )
    first, second = trace(net, IMAGE).groups[:2]
    rows = [{p.tensor: p.positions.tolist() for p in group.slices if p.dim == 0} for group in (first, second)]
    assert [each["depthwise.weight"] for each in rows] == [[[0, 1, 2, 3, 4]], [[5, 6, 7, 8, 9]]]
    assert [each["grouped.weight"] for each in rows] == [[[0, 1, 2]], [[3, 4, 5]]]
    assert (rows[1]["left.weight"], rows[1]["right.weight"]) == ([[5]], [[0, 1, 2, 3]])
    assert second.writers == ("left", "right", "depthwise", "grouped")
    assert_narrowed_is_masked(net, 2, 3, 8, 8)


@pytest.mark.parametrize("groups", [1, 2])
def test_a_transposed_convolution_has_its_dimensions_the_other_way_round(groups):
    net = Net(
        lambda net, x: net.head(net.up(net.wide(x).relu()).relu()).mean((2, 3)),
        wide=conv(3, 4),
        up=nn.ConvTranspose2d(4, 6, 2, stride=2, groups=groups),
        head=conv(6, 5),
    )
    graph = trace(net, IMAGE)
    if groups == 1:
        assert piece_of(graph["up"], "up.weight").dim == 1
        assert piece_of(graph["wide"], "up.weight").dim == 0
    assert_narrowed_is_masked(net, 2, 3, 8, 8)


def test_a_flattening_gives_every_channel_its_columns():
    net = Net(
        lambda net, x: net.classify(F.max_pool2d(net.wide(x).relu(), 2).flatten(1)),
        wide=conv(3, 5),
        classify=nn.Linear(5 * 16, 7),
    )
    graph = trace(net, IMAGE)
    columns = piece_of(graph["wide"], "classify.weight")
    assert tuple(columns.positions.shape) == (5, 16)
    assert torch.equal(columns.positions, torch.arange(80).reshape(5, 16))
    assert_narrowed_is_masked(net, 2, 3, 8, 8)


def test_a_shared_convolution_ties_its_input_to_its_output():
    net = Net(chain("stem", "shared", "shared", "head"), stem=conv(3, 6), shared=conv(6, 6), head=conv(6, 5))
    graph = trace(net, IMAGE)
    assert graph["stem"].writers == ("stem", "shared")
    assert {("shared.weight", 0, "writes"), ("shared.weight", 1, "reads")} <= where(graph["stem"])
    assert [call.weight for call in graph.calls] == [f"{name}.weight" for name in ("stem", "shared", "shared", "head")]
    assert cost(graph).macs == 9 * 64 * (3 * 6 + 2 * 6 * 6 + 6 * 5)  # the shared one counts twice
    assert_narrowed_is_masked(net, 2, 3, 8, 8)


def test_a_module_used_under_two_names_is_narrowed_under_both():
    shared = conv(6, 6)
    net = Net(chain("stem", "a", "b", "head"), stem=conv(3, 6), a=shared, b=shared, head=conv(6, 5))
    narrow(net, trace(net, IMAGE), {"stem": [0, 4]})
    assert net.a is net.b
    assert tuple(net.b.weight.shape) == (2, 2, 3, 3)
    assert net(IMAGE).shape == (1, 5)


def test_a_weight_used_by_two_modules_is_narrowed_in_both():
    one, other = conv(6, 6), conv(6, 6)
    other.weight = one.weight
    net = Net(chain("stem", "a", "b", "head"), stem=conv(3, 6), a=one, b=other, head=conv(6, 5))
    narrow(net, trace(net, IMAGE), {"stem": [0, 4]})
    assert net.a.weight is net.b.weight
    assert net.b.bias.shape == (2,)
    assert net(IMAGE).shape == (1, 5)


def test_the_slopes_of_a_prelu_belong_to_the_channels():
    net = Net(
        lambda net, x: net.head(net.slope(net.wide(x))).mean((2, 3)),
        wide=conv(3, 6),
        slope=nn.PReLU(6),
        head=conv(6, 5),
    )
    graph = trace(net, IMAGE)
    assert ("slope.weight", 0, "along") in where(graph["wide"])
    assert_narrowed_is_masked(net, 2, 3, 8, 8)


def test_a_single_slope_belongs_to_nobody():
    net = Net(
        lambda net, x: net.head(net.slope(net.wide(x))).mean((2, 3)),
        wide=conv(3, 6),
        slope=nn.PReLU(1),
        head=conv(6, 5),
    )
    assert not any(piece.tensor == "slope.weight" for piece in trace(net, IMAGE)["wide"].slices)
    assert_narrowed_is_masked(net, 2, 3, 8, 8)


def test_in_place_activations_between_sums_do_not_disturb():
    def connect(net: nn.Module, x: Tensor) -> Tensor:
        stream = F.relu_(net.norm(net.stem(x)))
        inner = F.relu_(net.one(stream))
        stream = net.two(inner).add_(stream)
        return net.head(F.relu_(stream)).mean((2, 3))

    net = Net(connect, stem=conv(3, 6), norm=nn.BatchNorm2d(6), one=conv(6, 4), two=conv(4, 6), head=conv(6, 5))
    graph = trace(net, IMAGE)
    assert graph["stem"].writers == ("stem", "two")
    assert graph["stem"].readers == ("one", "head")
    assert_narrowed_is_masked(net, 2, 3, 8, 8)


def test_a_squeeze_and_excitation_gate_is_tied_to_what_it_multiplies():
    def connect(net: nn.Module, x: Tensor) -> Tensor:
        wide = net.wide(x)
        gate = net.excite(net.squeeze(wide.mean((2, 3), keepdim=True)).relu()).sigmoid()
        return net.head(wide * gate).mean((2, 3))

    net = Net(connect, wide=conv(3, 6), squeeze=nn.Conv2d(6, 2, 1), excite=nn.Conv2d(2, 6, 1), head=conv(6, 5))
    graph = trace(net, IMAGE)
    assert graph["wide"].writers == ("wide", "excite")
    assert_narrowed_is_masked(net, 2, 3, 8, 8)


class Scaled(nn.Module):
    """A scale per channel, learned or in a buffer that is saved or is not."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.wide, self.head = conv(3, 6), conv(6, 5)
        scale = torch.rand(6, 1, 1) + 0.5
        if kind == "parameter":
            self.scale = nn.Parameter(scale)
        else:
            self.register_buffer("scale", scale, persistent=kind == "buffer")

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.wide(x) * self.scale).mean((2, 3))


@pytest.mark.parametrize("kind", ["parameter", "buffer"])
def test_a_scale_of_ones_own_belongs_to_the_channels(kind):
    net = Scaled(kind)
    graph = trace(net, IMAGE)
    assert ("scale", 0, "along") in where(graph["wide"])
    assert_narrowed_is_masked(net, 2, 3, 8, 8)
    narrow(net.float(), graph, {"wide": [4]})  # a single number fits channels of any width; still it was theirs
    assert net.scale.shape == (1, 1, 1)


def test_a_buffer_that_is_not_saved_keeps_its_width():
    """Else a narrowed network could not be loaded from its file."""
    assert "width is fixed" in str(trace(Scaled("unsaved buffer"), IMAGE)["wide"].protected)


@pytest.mark.parametrize(
    ("mixing", "reason"),
    [
        (lambda x: x.softmax(1), "softmax mixes channels"),
        (lambda x: x.mean(1, keepdim=True) + x, "mean mixes channels"),
        (lambda x: F.group_norm(x, 2), "num_groups=2 (group_norm)"),
        (lambda x: F.layer_norm(x, x.shape[1:]), "layer_norm normalises over all channels"),
        (
            lambda x: x + torch.einsum("bchw,bdhw->bcd", x, x).sum((1, 2))[:, None, None, None],
            "two sets of channels meet",
        ),
        (lambda x: x.cumsum(1), "cumsum mixes channels"),
        (lambda x: (x + 1).sum(1, keepdim=True) + x, "sum mixes channels"),  # a removed one has added its 1
        (lambda x: x * torch.arange(6.0).view(6, 1, 1), "a tensor whose width is fixed"),
    ],
)
def test_what_mixes_channels_protects_them_and_says_why(mixing, reason):
    net = Net(lambda net, x: net.head(mixing(net.wide(x))).mean((2, 3)), wide=conv(3, 6), head=conv(6, 5))
    assert reason in str(trace(net, IMAGE)["wide"].protected)


def test_channels_that_meet_padding_are_protected_the_others_may_go():
    net = Net(
        lambda net, x: net.head(net.wide(x) + F.pad(net.part(x), (0, 0, 0, 0, 1, 1))).mean((2, 3)),
        wide=conv(3, 6),
        part=conv(3, 4),
        head=conv(6, 5),
    )
    graph = trace(net, IMAGE)
    found = {tuple(piece_of(group, "wide.weight").positions.flatten().tolist()): group for group in graph.groups[:2]}
    assert found[0, 5].protected == "it meets a constant of fixed width"
    assert found[1, 2, 3, 4].protected is None
    assert found[1, 2, 3, 4].writers == ("wide", "part")


def test_the_module_in_which_channels_are_mixed_is_named():
    net = nn.Sequential(conv(3, 6), nn.Sequential(nn.GroupNorm(1, 6)), conv(6, 5))
    assert trace(net, IMAGE)["0"].protected == "group_norm with one group normalises over all channels (in '1.0')"


def test_every_output_is_protected_however_it_is_wrapped():
    net = Net(lambda net, x: {"one": [net.one(x)], "other": (net.other(x).relu(), 3)}, one=conv(3, 4), other=conv(3, 4))
    assert protections(trace(net, IMAGE)) == dict.fromkeys(["one", "other"], "it leaves the model")


def test_layers_that_are_not_used_are_in_no_group_but_are_counted():
    net = Net(lambda net, x: net.head(net.wide(x)).mean((2, 3)), wide=conv(3, 6), idle=conv(7, 9), head=conv(6, 5))
    graph = trace(net, IMAGE)
    assert [group.name for group in graph.groups] == ["wide", "head"]
    assert "idle.weight" in graph.shapes
    before = net.idle.weight
    narrow(net, graph, {"wide": [0]})
    assert net.idle.weight is before
    assert net.idle.out_channels == 9


def test_a_layer_on_which_nothing_depends_is_left_alone():
    net = Net(lambda net, x: (net.dead(x), net.head(net.wide(x)))[1], wide=conv(3, 6), dead=conv(3, 4), head=conv(6, 5))
    assert trace(net, IMAGE)["dead"].protected == "nothing that can be seen depends on it"


def test_several_inputs_and_keywords_of_any_kind_are_passed_on():
    class Two(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.one, self.other, self.head = conv(3, 6), conv(1, 6), conv(6, 5)

        def forward(self, x: Tensor, extra: dict[str, list[Tensor]], scale: float) -> Tensor:
            return self.head(self.one(x) + scale * self.other(extra["depth"][0])).mean((2, 3))

    net = Two()
    graph = trace(net, (IMAGE, {"depth": [torch.zeros(1, 1, 8, 8)]}, 0.5))
    assert graph["one"].writers == ("one", "other")
    assert graph.entries == ("one", "other")
    narrow(net, graph, {"one": [1, 2]})
    assert net.other.out_channels == 2


@pytest.mark.parametrize("shape", [(2, 3, 9), (2, 3, 4, 5, 6)])
def test_one_and_three_dimensional_images(shape):
    dimensions = len(shape) - 2
    convolution, norm = getattr(nn, f"Conv{dimensions}d"), getattr(nn, f"BatchNorm{dimensions}d")
    net = nn.Sequential(
        convolution(3, 6, 3), norm(6), nn.ReLU(inplace=True), convolution(6, 4, 1), nn.Flatten(), nn.LazyLinear(5)
    )
    net(torch.zeros(shape))
    graph = trace(net, torch.zeros(shape))
    assert [(group.name, group.protected) for group in graph.groups] == [
        ("0", None),
        ("3", None),
        ("5", "it leaves the model"),
    ]
    assert_narrowed_is_masked(net, *shape)


@pytest.mark.parametrize("training", [True, False])
def test_a_trace_changes_nothing(training):
    net = randomise(cifar_resnet(8)).train(training)
    net.layer2.eval()
    flags = {name: module.training for name, module in net.named_modules()}
    objects = {name: id(tensor) for name, tensor in net.state_dict(keep_vars=True).items()}
    values = copy.deepcopy(net.state_dict())
    hooks = sum(len(module._forward_hooks) + len(module._forward_pre_hooks) for module in net.modules())
    trace(net, torch.randn(2, 3, 32, 32))
    assert flags == {name: module.training for name, module in net.named_modules()}
    assert objects == {name: id(tensor) for name, tensor in net.state_dict(keep_vars=True).items()}
    assert all(torch.equal(tensor, values[name]) for name, tensor in net.state_dict().items())
    assert hooks == sum(len(module._forward_hooks) + len(module._forward_pre_hooks) for module in net.modules())
    net.train()(torch.randn(2, 3, 32, 32)).sum().backward()  # and the parameters are no inference tensors
    assert all(parameter.grad is not None for parameter in net.parameters())


def test_a_model_that_fails_is_left_as_it_was():
    net = cifar_resnet(8).train()
    with pytest.raises(ValueError, match="does not run on the example input"):
        trace(net, torch.zeros(1, 4, 32, 32))
    assert net.training
    assert all(module.training for module in net.modules())
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in net.modules())


def test_a_trained_step_after_a_cut_reaches_every_parameter():
    net = cifar_resnet(8)
    graph = trace(net, torch.zeros(1, 3, 32, 32))
    narrow(net, graph, random_kept(graph, seed=0))
    net.train()(torch.randn(4, 3, 32, 32)).square().sum().backward()
    assert all(parameter.grad is not None for parameter in net.parameters())


def test_the_trace_is_the_same_every_time():
    one, other = (trace(cifar_resnet(20), torch.zeros(size, 3, 32, 32)) for size in (1, 2))
    assert one.calls == other.calls
    for group, same in zip(one.groups, other.groups, strict=True):
        assert (group.name, group.size, where(group)) == (same.name, same.size, where(same))
        assert [each.operation for each in group.feature_maps] == [
            feature_map.operation for feature_map in same.feature_maps
        ]
