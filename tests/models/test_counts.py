"""Every configured architecture has the published numbers of parameters and multiply-accumulates."""

import re

import pytest
import torch
from hydra.utils import instantiate
from omegaconf import OmegaConf
from torch import nn
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

from pruning_lit.channels import cost, trace
from pruning_lit.models import cifar_densenet, cifar_resnet, preresnet, vgg_bn
from pruning_lit.models.detector_views import REGIONS, detector_view, view_size
from tests.places import CONF

ARCH = CONF / "arch"

PUBLISHED = {  # name: classes, image size, parameters, MACs
    "resnet56": (10, 32, 853_018, 125_485_696),  # CHIP, table 1, in integers
    "resnet110": (10, 32, 1_727_962, 252_887_680),  # CHIP, table 1
    "vgg16_bn": (10, 32, 14_991_946, 313_463_808),  # CHIP, table 1, without biases and batch norm in the MACs
    "resnet50": (1000, 224, 25_557_032, 4_089_184_256),  # CHIP, table 2; torchvision's own 25,557,032
    "vgg19_bn": (10, 32, 20_035_018, 398_136_320),  # Network Slimming's released networks; their selection layers,
    "preresnet164": (10, 32, 1_703_258, 247_646_720),  # which have parameters there, not counted
    "vgg11_bn": (10, 32, 9_228_362, 152_769_536),
    "vgg13_bn": (10, 32, 9_413_066, 228_267_008),
    "vgg16_bn_slimming": (10, 32, 14_724_042, 313_201_664),
    "preresnet56": (10, 32, 590_426, 87_214_592),
    "densenet40": (10, 32, 1_059_298, 282_917_328),
    "resnet34": (1000, 224, 21_797_672, 3_663_761_408),  # torchvision's weight page: 21,797,672 and 3.66 G
    "resnet101": (1000, 224, 44_549_160, 7_801_405_440),  # torchvision's weight page: 44,549,160 and 7.80 G
    "vgg16_bn_resrep": (10, 32, 14_986_698, 313_463_808),  # ResRep's released networks, counted on those
    "mobilenet_v1": (1000, 224, 4_231_976, 568_740_352),  # the same; Howard et al. 2017, table 8: 4.2 M and 569 M
    "mobilenet_v2": (1000, 224, 3_504_872, 300_774_272),  # torchvision's weight page: 3,504,872 and 0.30 G
    "densenet121": (1000, 224, 7_978_856, 2_834_161_664),  # torchvision's weight page: 7,978,856 and 2.83 G
    "resnet18": (1000, 224, 11_689_512, 1_814_073_344),  # torchvision's weight page: 11,689,512 and 1.81 G
}


def count(net: nn.Module, size: int) -> tuple[int, int]:
    """Parameters, and MACs of one image by torch's own counter, which counts two operations for each."""
    net = net.eval().to("meta")
    counter = FlopCounterMode(display=False)
    with counter:
        net(torch.zeros(1, 3, size, size, device="meta"))
    return sum(parameter.numel() for parameter in net.parameters()), counter.get_total_flops() // 2


def preresnet_by_hand(num_blocks: int, num_classes: int = 10) -> tuple[int, int]:
    """The same for bottlenecks 1x1, 3x3, 1x1 with a batch norm before each kernel; entries have a 1x1 shortcut."""
    kernels, norm_channels, macs, incoming = 27 * 16, 256, 27 * 16 * 32**2, 16
    for stage, planes in enumerate((16, 32, 64)):
        for block in range(num_blocks):
            entry = block == 0
            rest = 13 * planes**2 + entry * 4 * planes * incoming
            kernels += incoming * planes + rest
            macs += incoming * planes * (64 >> stage if entry and stage else 32 >> stage) ** 2
            macs += rest * (32 >> stage) ** 2
            norm_channels += incoming + 2 * planes
            incoming = 4 * planes
    return kernels + 2 * norm_channels + 257 * num_classes, macs + 256 * num_classes


def cifar_resnet_by_hand(num_blocks: int, num_classes: int = 10) -> tuple[int, int]:
    """The same by arithmetic from the definition: 3x3 kernels, two scalars per batch-norm channel, one linear layer."""
    kernels, norm_channels, macs = 27 * 16, 16, 27 * 16 * 32**2
    for stage, width in enumerate((16, 32, 64)):
        for block in range(num_blocks):
            incoming = width // 2 if stage and block == 0 else width
            block_kernels = 9 * width * (incoming + width)
            kernels += block_kernels
            norm_channels += 2 * width
            macs += block_kernels * (32 >> stage) ** 2
    return kernels + 2 * norm_channels + 65 * num_classes, macs + 64 * num_classes


@pytest.mark.at_once(1)
@pytest.mark.parametrize("name", PUBLISHED)
def test_configured_architecture_has_the_published_counts(name):
    num_classes, size, *expected = PUBLISHED[name]
    net = instantiate(OmegaConf.load(ARCH / f"{name}.yaml"), num_classes=num_classes)
    assert count(net, size) == tuple(expected)


@pytest.mark.at_once(2)
@pytest.mark.parametrize(("depth", "millions"), [(20, 0.27), (32, 0.46), (44, 0.66), (56, 0.85), (110, 1.7)])
def test_cifar_resnet_counts_follow_from_its_definition(depth, millions):
    net = instantiate(OmegaConf.load(ARCH / f"resnet{depth}.yaml"), num_classes=10)
    num_parameters, macs = count(net, 32)
    assert (num_parameters, macs) == cifar_resnet_by_hand((depth - 2) // 6)
    assert num_parameters / 1e6 == pytest.approx(millions, rel=0.02)  # He et al. 2016, table 6


@pytest.mark.at_once(2)
@pytest.mark.parametrize("depth", [20, 56, 110, 164])
def test_preactivation_resnet_counts_follow_from_its_definition(depth):
    net = instantiate(OmegaConf.load(ARCH / f"preresnet{depth}.yaml"), num_classes=10)
    assert count(net, 32) == preresnet_by_hand((depth - 2) // 9)


@pytest.mark.parametrize("depth", [8, 14])
@pytest.mark.parametrize("num_classes", [10, 100])
def test_small_depths_and_other_class_counts_follow_the_same_definition(depth, num_classes):
    assert count(cifar_resnet(depth, num_classes), 32) == cifar_resnet_by_hand((depth - 2) // 6, num_classes)


@pytest.mark.at_once(3)
@pytest.mark.parametrize(
    ("depth", "num_classes", "num_parameters", "macs"),
    [  # the counts of Network Slimming's released networks
        (11, 10, 9_228_362, 152_769_536),
        (13, 10, 9_413_066, 228_267_008),
        (16, 10, 14_724_042, 313_201_664),
        (16, 100, 14_770_212, 313_247_744),
        (19, 10, 20_035_018, 398_136_320),
        (19, 100, 20_081_188, 398_182_400),
    ],
)
def test_vgg_with_a_linear_classifier_and_no_bias_is_network_slimmings(depth, num_classes, num_parameters, macs):
    assert count(vgg_bn(depth, num_classes, classifier="linear", bias=False), 32) == (num_parameters, macs)


@pytest.mark.at_once(1)
@pytest.mark.parametrize(
    ("net", "num_parameters", "macs"),
    [
        (preresnet(164, 10), 1_703_258, 247_646_720),  # the counts of Network Slimming's released networks
        (preresnet(164, 100), 1_726_388, 247_669_760),
        (preresnet(56, 10), 590_426, 87_214_592),
        (cifar_densenet(40, 10), 1_059_298, 282_917_328),
        (cifar_densenet(40, 100), 1_100_428, 282_958_368),
        (cifar_densenet(40, 10, stem=16), 1_019_722, 264_812_928),  # the stem of the papers
        (cifar_densenet(40, 100, stem=16), 1_060_132, 264_812_928 + 448 * 90),
    ],
    ids=[
        "preresnet164",
        "preresnet164-100",
        "preresnet56",
        "densenet40",
        "densenet40-100",
        "densenet40-paper",
        "densenet40-paper-100",
    ],
)
def test_slimming_networks_have_the_published_counts(net, num_parameters, macs):
    assert count(net, 32) == (num_parameters, macs)


def count_detector(net: nn.Module) -> tuple[int, int]:
    """The same of a detector, at the size to which it brings images, for as many regions as it looks at."""
    view = detector_view(net.eval().to("meta"))
    counter = FlopCounterMode(display=False)
    with counter:
        view(torch.zeros(1, 3, *view_size(net), device="meta"))
    macs = counter.get_total_flops() // 2
    for path, regions in getattr(view, "regions", {}).items():
        [counted] = [each for name, each in counter.get_flop_counts().items() if name.endswith(path)]
        macs += sum(counted.values()) // 2 // len(REGIONS) * (regions - len(REGIONS))
    return sum(parameter.numel() for parameter in net.parameters()), macs


CLOUDS = sorted(ARCH.glob("pointnet*.yaml"))


@pytest.mark.parametrize("config", CLOUDS, ids=lambda path: path.stem)
def test_the_comment_in_the_config_of_a_network_for_clouds_tells_the_true_counts(config):
    text = config.read_text()
    num_points, number, kind = re.search(r"([\d,]+) points: .* \((\d+) (classes|parts)\)", text).groups()
    net = instantiate(OmegaConf.load(config), **{f"num_{kind}": int(number)}).eval()
    cloud = F.normalize(torch.randn(1, int(num_points.replace(",", "")), 3), dim=2)  # sampling looks at distances
    graph = trace(net, cloud if kind == "classes" else (cloud, torch.zeros(1, dtype=torch.int64)))
    assert f"{cost(graph).params:,} parameters, {cost(graph).macs:,} MACs" in text


@pytest.mark.at_once(1)
@pytest.mark.parametrize("config", sorted({*ARCH.glob("*.yaml")} - {*CLOUDS}), ids=lambda path: path.stem)
def test_the_comment_in_the_config_tells_the_true_counts(config):
    text = config.read_text()
    num_classes = int(re.search(r"\((\d+) classes\)", text).group(1))
    net = instantiate(OmegaConf.load(config), num_classes=num_classes)
    detects = hasattr(net, "backbone")
    num_parameters, macs = count_detector(net) if detects else count(net, 224 if num_classes == 1000 else 32)
    assert f"{num_parameters:,} parameters, {macs:,} MACs" in text
    if detects:
        assert "{}x{} images".format(*view_size(net)) in text
