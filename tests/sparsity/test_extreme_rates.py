"""95 % of all channels, on every architecture there is a config for: it runs, and no layer is empty."""

import copy
import re

import pytest
import torch
import torchvision
from hydra.utils import instantiate
from omegaconf import OmegaConf
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from pruning_lit.channels import insert_selections, narrow, trace
from pruning_lit.criteria import BatchNormScale, Scoring
from pruning_lit.sparsity import Global
from tests.places import CONF

ARCH = CONF / "arch"
FAST = {"resnet8", "resnet20", "vgg11_bn", "preresnet20", "resnet18"}
FOREIGN = {"densenet121": False, "mobilenet_v2": True, "googlenet": False, "efficientnet_b0": False}


def configured(name: str) -> tuple[nn.Module, int]:
    size = 64 if "(1000 classes)" in (ARCH / f"{name}.yaml").read_text() else 32
    return instantiate(OmegaConf.load(ARCH / f"{name}.yaml"), num_classes=10), size


def foreign(name: str) -> tuple[nn.Module, int]:
    options = {"aux_logits": False} if name == "googlenet" else {}
    return torchvision.models.get_model(name, weights=None, num_classes=10, **options), 64


#: As others, only deeper.
ALIKE = {"resnet32", "resnet44", "resnet56", "resnet34", "resnet101", "preresnet56", "preresnet110"}
ALIKE |= {"vgg13_bn", "vgg16_bn", "vgg19_bn"}
#: Networks that take no batch of images.
OTHER = re.compile("ssd|fasterrcnn|maskrcnn|retinanet|fcos|pointnet")
NAMES = {path.stem for path in ARCH.glob("*.yaml") if not OTHER.match(path.stem)}
ALL = [(name, configured, name in FAST) for name in sorted(NAMES - ALIKE)]
ALL += [(name, foreign, fast) for name, fast in FOREIGN.items()]


@pytest.mark.at_once(2)
@pytest.mark.parametrize(
    ("name", "build"),
    [pytest.param(name, build, id=name, marks=() if fast else pytest.mark.slow) for name, build, fast in ALL],
)
def test_at_95_percent_every_network_runs_and_tells_which_floors_acted(name, build):
    net, size = build(name)
    random = torch.Generator().manual_seed(0)
    for number, module in enumerate(module for module in net.modules() if isinstance(module, _BatchNorm)):
        module.weight.data = torch.randn(module.num_features, generator=random) * 10.0 ** (number % 3 - 1)
    image = torch.randn(1, 3, size, size, generator=random)
    insert_selections(net, image)
    criterion = BatchNormScale()
    graph = criterion.protect(net, trace(net, image))
    for on_empty in ("floor", "remove"):
        sparsity = Global(0.95, rule="slimming", on_empty=on_empty)
        scores = criterion.scores(Scoring(net, graph, sparsity.prunable_groups(graph)))
        plan = sparsity.plan(graph, scores)
        would_go = {group for group, each in scores.items() if not bool((each.float() > plan.threshold).any())}
        branches = {name for branch in graph.branches if branch.path in plan.branches for name in branch.groups}
        narrowed = copy.deepcopy(net).eval()
        narrow(narrowed, graph, plan.kept)
        assert all(parameter.numel() for parameter in narrowed.parameters())
        assert narrowed(image).shape[:2] == (1, 10)
        assert would_go, "a test of nothing"
        told = " ".join(plan.notes)
        assert all(f"`{group}`" in told for group in would_go - branches)
        assert all(f"`{path}`" in told for path in plan.branches)
        if on_empty == "floor":
            assert all(len(plan.kept[group]) == 1 for group in would_go)
