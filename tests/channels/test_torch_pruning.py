"""An independent library lets the same channels leave together, on the networks of the benchmarks that it can trace.

Every layer is asked about, with one channel of each of its groups; layers, sides and positions must be the same. Where
they are not, the layer is in a table below, with the reason; a difference that is not in the table fails, and so does
an entry that is not a difference any more.
"""

import functools
import importlib.util
import re
import sys
from dataclasses import dataclass
from types import ModuleType
from typing import Any, Literal

import pytest
import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_map_only

from pruning_lit.channels import ChannelGraph, ChannelGroup, trace
from tests.places import ROOT

torch_pruning = pytest.importorskip("torch_pruning")

NETWORKS = ROOT / "benchmarks" / "networks.py"

Leaving = dict[tuple[str, str], set[int]]  # (layer, "out" or "in") to the positions that leave
Kind = Literal["left alone", "other slices"]


@dataclass(frozen=True)
class Difference:
    """What is different about some layers.

    Attributes:
        kind: "left alone" where we protect channels that the other library would cut, "other slices" where both would
            cut, but not the same.
        because: the reason.
    """

    kind: Kind
    because: str


LAYER_NORM = Difference(
    "left alone",
    "the stream of a transformer or ConvNeXt runs through layer norms over all its channels: without some of them the "
    "others get another mean and variance, and the network is not the masked one. The other library cuts all the same",
)
ATTENTION = Difference(
    "left alone", "attention mixes these channels, scales by their number and splits them into a fixed number of heads"
)
CHANNEL_CONVOLUTION = Difference("left alone", "efficient channel attention convolves along the channels")
SELECTION = Difference(
    "left alone", "a ChannelSelect in front of each reader takes them: Network Slimming decides there, reader by reader"
)
DETECTED = Difference(
    "left alone", "what a detector's head says becomes boxes, by class and anchor, and leaves the model"
)
POOLED = Difference("left alone", "RoI pooling writes the maps of all levels into one tensor by lists of positions")
COMPUTED = Difference("left alone", "their weights are standardised anew in every pass: there is no parameter to cut")
ONE_UNIT = Difference(
    "left alone", "each half of a grouped convolution of two parts reads everything, so that nothing less can leave"
)
OTHER_PART = Difference("other slices", "the other library takes the parts of a split map for one another")
AUXILIARY = Difference(
    "other slices", "a head that runs in training only reads these, too; the other library looks at one mode"
)
GROUPED = Difference(
    "other slices",
    "of a grouped convolution we remove whole parts, with what they read and write; the other library thins every part",
)
SELECTED_PATH = Difference(
    "other slices",
    "one layer makes the weights of both paths of a selective kernel, path by path, C channels each: channel c is its "
    "rows c and C + c; the other library takes the neighbours 2c and 2c + 1, as of a flattened map",
)
OPTION_A = Difference(
    "other slices",
    "behind the zero-padded shortcut channels have new numbers; the other library ties them to those of the old number",
)
FROZEN = Difference(
    "other slices", "the other library does not know FrozenBatchNorm2d and leaves its four buffers long"
)

STREAM_164 = r"conv1|layer\d\.\d+\.(conv3|downsample\.0)"
HEADS_RCNN = r"roi_heads\.(box_predictor\.(cls_score|bbox_pred)|mask_predictor\.mask_fcn_logits)"
HEADS_SSD = r"head\.(classification|regression)_head\.module_list\..*"
HEADS_RETINANET = r"head\.classification_head\.cls_logits|head\.regression_head\.bbox_reg"
REGNET = r"trunk_output\.block\d\.block\d-\d+\.f"

#: Networks to what is different, and in which layers: a pattern for the whole name.
DIFFERENCES: dict[str, dict[Difference, str]] = {
    "CIFAR resnet56, option A": {OPTION_A: r"conv1|layer\d\.\d\.conv2"},
    "pre-activation resnet164": {SELECTION: STREAM_164},
    "CIFAR densenet40": {SELECTION: r"conv1|dense\d\.\d+\.conv1|trans\d\.conv1"},
    "resnext50_32x4d": {GROUPED: r"layer\d\.\d\.conv[12]"},
    "regnet_x_400mf": {GROUPED: rf"{REGNET}\.[ab]\.0"},
    "regnet_y_400mf": {GROUPED: rf"{REGNET}\.([ab]\.0|se\.fc2)"},
    "convnext_tiny": {LAYER_NORM: r"features\.(0\.0|[246]\.1)|features\.\d\.\d\.block\.[05]"},
    "vit_b_16": {LAYER_NORM: r"conv_proj|encoder\.layers\.encoder_layer_\d+\.mlp\.3"},
    "swin_t": {LAYER_NORM: r"features\.0\.0|features\.\d\.\d\.mlp\.3|features\.\d\.reduction"},
    "maxvit_t": {
        LAYER_NORM: r".*\.(MBconv\.proj\.1|MBconv\.layers\.conv_c|attn_layer\.1\.merge|mlp_layer\.3)",
        ATTENTION: r".*\.to_qkv",
    },
    "googlenet": {AUXILIARY: r"inception4[ad]\.(branch1|branch[234]\.1)\.conv"},
    "ssd300_vgg16": {DETECTED: HEADS_SSD},
    "ssdlite320_mobilenet_v3_large": {DETECTED: HEADS_SSD + r"\.1"},
    "fasterrcnn_resnet50_fpn": {POOLED: r"backbone\.fpn\.layer_blocks\.\d\.0", DETECTED: HEADS_RCNN},
    "maskrcnn_resnet50_fpn": {POOLED: r"backbone\.fpn\.layer_blocks\.\d\.0", DETECTED: HEADS_RCNN},
    "retinanet_resnet50_fpn": {DETECTED: HEADS_RETINANET},
    "fcos_resnet50_fpn": {DETECTED: HEADS_RETINANET + r"|head\.regression_head\.bbox_ctrness"},
    "retinanet_resnet50_fpn, frozen batch norm": {FROZEN: r"backbone\.body\..*", DETECTED: HEADS_RETINANET},
    "timm ecaresnet50t": {CHANNEL_CONVOLUTION: r"layer\d\.\d\.conv3|layer\d\.\d\.downsample\.1"},
    "timm res2net50_26w_4s": {OTHER_PART: r"layer\d\.[1-9]\.(conv1|convs\.\d)"},
    "timm resnest14d": {ONE_UNIT: r"layer\d\.0\.(conv1|conv2\.conv|conv2\.fc2)"},
    "timm regnety_004": {GROUPED: r"s\d\.b\d+\.(conv[12]\.conv|se\.fc2)"},
    "timm cspdarknet53": {OTHER_PART: r"stages\.\d\.(conv_exp|blocks\.\d\.conv2|conv_transition_b)\.conv"},
    "timm skresnet18": {SELECTED_PATH: r"layer\d\.\d\.conv1\.(paths\.\d\.conv|attn\.fc_select)"},
    "timm cspresnet50": {OTHER_PART: r"stages\.\d\.(conv_exp|blocks\.\d\.conv3|conv_transition_b)\.conv"},
    "timm fasternet_t0": {
        OTHER_PART: r"patch_embed\.proj|stages\.\d\.(blocks\.\d\.(mlp\.3|.*\.partial_conv3)|downsample\.reduction)"
    },
    "timm convnext_atto": {LAYER_NORM: r"stem\.0|stages\.\d\.(downsample\.1|blocks\.\d\.(conv_dw|mlp\.fc2))"},
    "timm nfnet_l0": {COMPUTED: r"stem\.conv\d|stages\..*\.(conv|conv\d|conv\db|fc2)|final_conv"},
    "timm mixer_s32_224": {LAYER_NORM: r"stem\.proj|blocks\.\d\.mlp_(tokens|channels)\.fc2"},
    "timm deit_tiny_patch16_224": {
        LAYER_NORM: r"patch_embed\.proj|blocks\.\d+\.(attn\.proj|mlp\.fc2)",
        ATTENTION: r"blocks\.\d+\.attn\.qkv",
    },
    "timm efficientvit_b0": {
        ATTENTION: r".*\.context_module\.main\.(qkv\.conv|aggreg\.0\.[01])",
        LAYER_NORM: r"head\.classifier\.0",
    },
}

#: Networks that the other library cannot trace, with its error and what it stumbles over.
FAILING: dict[str, tuple[type[Exception], str]] = {
    "shufflenet_v2_x1_0": (ZeroDivisionError, "the view that shuffles channels is taken for a flattening"),
    "timm shvit_s1": (
        ZeroDivisionError,
        "the reshape that makes maps of the attended values is taken for a flattening, of which no channel is read",
    ),
    "timm dpn68": (TypeError, "the width of one of the parts of a concatenation is not found"),
}

#: As one of the others, only deeper, wider or with frozen batch norm.
ALIKE = {f"{name}_resnet50_fpn, frozen batch norm" for name in ["fasterrcnn", "maskrcnn", "fcos"]} | {
    "CIFAR resnet110, option A", "vgg11", "vgg16", "vgg11_bn", "vgg16_bn", "vgg19_bn", "resnet34", "resnet101",
    "wide_resnet50_2", "densenet201", "mobilenet_v3_large", "efficientnet_b1", "efficientnet_b2", "efficientnet_b3",
    "squeezenet1_0",
}  # fmt: skip

#: All others agree in everything.
AGREEING = [
    "CIFAR vgg16_bn", "alexnet", "vgg19", "resnet18", "resnet50", "densenet121", "mobilenet_v2", "mobilenet_v3_small",
    "mnasnet1_0", "efficientnet_b0", "efficientnet_v2_s", "squeezenet1_1", "inception_v3", "fcn_resnet50",
    "deeplabv3_resnet50", "lraspp_mobilenet_v3_large", "timm resnet50", "timm seresnet50", "timm efficientnet_b0",
    "timm mobilenetv3_large_100", "timm ghostnet_100", "timm hrnet_w18_small", "timm dla34", "timm repvgg_a0",
    "timm vovnet39a", "timm inception_v4", "timm convmixer_768_32", "timm ese_vovnet19b_dw",
]  # fmt: skip

#: Those that ``benchmarks/coverage.py`` alone looks at, by their last words; and raw views of detectors.
COVERED = {
    "rexnet_100", "hrnet_w18_small_v2", "mixnet_s", "efficientvit_m0", "res2next50", "dm_nfnet_f0",
}  # fmt: skip
COVERED_PACKAGES = {"pytorchcv", "segmentation_models", "monai", "ultralytics"}

FAST = {
    "CIFAR resnet56, option A", "CIFAR densenet40", "alexnet", "resnet18", "resnext50_32x4d", "mobilenet_v3_small",
    "squeezenet1_1", "timm resnest14d", "timm dla34", "timm convnext_atto", "timm efficientvit_b0",
}  # fmt: skip
SIZES = {
    "inception_v3": 96, "timm inception_v4": 96, "vit_b_16": 224, "maxvit_t": 224, "timm mixer_s32_224": 224,
    "timm deit_tiny_patch16_224": 224, "ssd300_vgg16": 300,
}  # fmt: skip


@functools.cache
def benchmark() -> ModuleType:
    """The module that lists the networks; it is no part of the package."""
    spec = importlib.util.spec_from_file_location("benchmark_networks", NETWORKS)
    assert spec is not None
    assert spec.loader is not None
    module = sys.modules[spec.name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def build(name: str) -> tuple[nn.Module, tuple[Any, ...]]:
    """A network of the benchmarks, and a small example for it."""
    found = {network.name: network for network in benchmark().networks()}
    if name not in found:
        pytest.skip(f"{name} needs timm, which is not installed")
    torch.manual_seed(0)
    net = benchmark().random_weights(found[name].build())
    size = SIZES.get(name, 64)
    if hasattr(net, "transform"):  # detectors resize what they get
        net.transform.min_size, net.transform.max_size, net.transform.fixed_size = (size,), size, (size, size)
    return net, tree_map_only(Tensor, lambda image: image[..., :size, :size], found[name].example())


def ours(net: nn.Module, known: Any, group: ChannelGroup, channel: int) -> Leaving:
    """Rows of the layers that write and columns of those that read; normalisations have only one kind."""
    leaving: Leaving = {}
    for piece in group.slices:
        layer = piece.tensor.rpartition(".")[0]
        name = layer if net.get_submodule(layer) in known.module2node else piece.tensor
        side = "in" if piece.role == "reads" else "out"
        leaving.setdefault((name, side), set()).update(piece.positions[channel].tolist())
    return leaving


def theirs(net: nn.Module, known: Any, layer: str, positions: list[int]) -> Leaving:
    """What leaves with some output channels of ``layer``."""
    named = [*net.named_modules(), *net.named_parameters()]
    names = {each: name for name, each in named if isinstance(each, Tensor) or list(each.parameters())}
    module = net.get_submodule(layer)
    leaving: Leaving = {}
    for dependency, where in known.get_pruning_group(
        module, known.get_pruner_of_module(module).prune_out_channels, positions
    ):
        if dependency.target.module in names:
            side = "out" if known.is_out_channel_pruning_fn(dependency.handler) else "in"
            leaving.setdefault((names[dependency.target.module], side), set()).update(where)
    return leaving


def layers(net: nn.Module, known: Any) -> list[str]:
    """The convolutions and linear layers that the other library has seen."""
    kinds = (nn.Conv2d, nn.ConvTranspose2d, nn.Linear)
    return [name for name, module in net.named_modules() if isinstance(module, kinds) and module in known.module2node]


def compare(net: nn.Module, graph: ChannelGraph, known: Any) -> set[tuple[str, Kind]]:
    """The layers with a difference; what leaves the model is passed over, the other library is to be told of that."""
    found: set[tuple[str, Kind]] = set()
    written: dict[str, list[tuple[ChannelGroup, list[int]]]] = {layer: [] for layer in layers(net, known)}
    for group in graph.groups:
        for piece in group.slices:
            layer, _, parameter = piece.tensor.rpartition(".")
            if parameter == "weight" and piece.role != "reads" and layer in written:
                written[layer].append((group, piece.positions[group.size // 2].tolist()))
    for layer, groups in written.items():
        if not groups:
            found.add((layer, "left alone"))
        for group, positions in groups:
            if group.protected is not None and "it leaves the model" in group.protected:
                continue
            if group.protected is not None or group.size == 1:
                found.add((layer, "left alone"))
            elif ours(net, known, group, group.size // 2) != theirs(net, known, layer, positions):
                found.add((layer, "other slices"))
    return found


def cases() -> list[Any]:
    names = [*DIFFERENCES, *AGREEING]
    return [pytest.param(name, marks=[] if name in FAST else pytest.mark.slow) for name in names]


@pytest.mark.at_once(2)
@pytest.mark.parametrize("name", cases())
def test_the_same_channels_leave_together(name: str):
    net, example = build(name)
    graph = trace(net, example)
    known = torch_pruning.DependencyGraph().build_dependency(net, example_inputs=example)
    expected: set[tuple[str, Kind]] = set()
    for difference, pattern in DIFFERENCES.get(name, {}).items():
        matching = {(layer, difference.kind) for layer in layers(net, known) if re.fullmatch(pattern, layer)}
        assert matching, f"no layer is called like {pattern}"
        expected |= matching
    found = compare(net, graph, known)
    assert sorted(found - expected) == [], "differences that nobody has explained"
    assert sorted(expected - found) == [], "explained, but not different any more"


@pytest.mark.parametrize("name", sorted(FAILING))
def test_where_the_other_library_fails_it_still_does(name: str):
    net, example = build(name)
    with pytest.raises(FAILING[name][0]):
        torch_pruning.DependencyGraph().build_dependency(net, example_inputs=example)


def test_every_network_of_the_benchmarks_is_compared_or_covered():
    tables = [*DIFFERENCES, *AGREEING, *FAILING, *ALIKE]
    assert len(tables) == len(set(tables))
    compared = {
        network.name
        for network in benchmark().networks()
        if network.name.split()[0] not in COVERED_PACKAGES
        and network.name.split()[-1] not in COVERED
        and not network.name.endswith("(raw view)")
    }
    assert compared <= set(tables)
