"""Every configured detector: traced through its view, half of its backbone's MACs gone, saved, loaded, compared."""

import copy
import io
from dataclasses import replace
from typing import Any

import pytest
import torch
from hydra.utils import instantiate
from omegaconf import OmegaConf
from torch import nn

from pruning_lit.channels import ChannelGraph, cost, load, mask, narrow, save, trace, verify
from pruning_lit.criteria import Magnitude, Scoring
from pruning_lit.models.detector_views import detector_view, view_size
from pruning_lit.sparsity import Macs
from tests.channels.chance import randomise
from tests.models.small_detectors import training_batch
from tests.places import CONF

SMALL_IMAGES = {"min_size": 64, "max_size": 64}
DETECTORS = [  # the quick ones first
    "ssd_small",
    "maskrcnn_small",
    "fasterrcnn_resnet50_fpn",
    "fcos_resnet50_fpn",
    "retinanet_resnet50_fpn",
    "ssdlite320_mobilenet_v3_large",
    "ssd300_resnet50",
    "ssd300_vgg16",
    "fasterrcnn_resnet50_fpn_v2",
    "maskrcnn_resnet50_fpn",
    "maskrcnn_resnet50_fpn_gn",
    "maskrcnn_resnet50_fpn_v2",
    "retinanet_resnet50_fpn_v2",
]


def configured(name: str) -> dict[str, Any]:
    """The config of a detector of five classes, for images of 64 pixels where it takes such."""
    arch: Any = OmegaConf.to_container(OmegaConf.load(CONF / "arch" / f"{name}.yaml"))
    return arch | {"num_classes": 5} | {key: side for key, side in SMALL_IMAGES.items() if key in arch}


def backbone_of(graph: ChannelGraph) -> ChannelGraph:
    """The graph, counting the backbone only."""
    return replace(graph, calls=tuple(call for call in graph.calls if call.weight.startswith("backbone.")))


def halved(net: nn.Module, graph: ChannelGraph) -> dict[str, list[int]]:
    """The channels of largest magnitude, so that half of the backbone's multiply-accumulates are left."""
    budget = Macs(0.5, exclude=["rpn.*", "roi_heads.*"] if hasattr(net, "rpn") else ["head.*"])
    scores = Magnitude().scores(Scoring(detector_view(net), graph, budget.prunable_groups(graph)))
    kept = budget.kept(backbone_of(graph), scores)
    assert {name.split(".")[0] for name, positions in kept.items() if len(positions) < graph[name].size} == {"backbone"}
    return kept


@pytest.mark.at_once(2)
@pytest.mark.parametrize("name", DETECTORS)
def test_a_detector_with_half_of_its_backbone_is_saved_loaded_and_runs(name, tmp_path):
    torch.manual_seed(0)
    arch = configured(name)
    net = randomise(instantiate(arch))
    height, width = view_size(net)
    graph = trace(detector_view(net), torch.zeros(1, 3, height, width))
    assert graph.not_followed is None
    kept, masked = halved(net, graph), copy.deepcopy(net)
    left = cost(backbone_of(graph), kept).macs / cost(backbone_of(graph)).macs
    assert 0.45 < left <= 0.5
    narrow(detector_view(net), graph, kept)
    mask(detector_view(masked), graph, kept)
    save(net, tmp_path / "narrowed.safetensors", arch=arch)
    loaded = load(tmp_path / "narrowed.safetensors")
    images = torch.randn(1, 3, height, width)
    assert verify(detector_view(loaded), detector_view(masked), images) < 1e-5
    assert sum(parameter.numel() for parameter in loaded.parameters()) == cost(graph, kept).params
    _require_whole(loaded)


def _require_whole(net: nn.Module) -> None:
    """It detects and trains, and a copy of it, pickled as PyTorch does, is the same."""
    buffer = io.BytesIO()
    torch.save(net, buffer)
    buffer.seek(0)
    with torch.no_grad():
        found, same = (each([torch.ones(3, 50, 70)])[0] for each in (net, torch.load(buffer, weights_only=False)))
    assert all(torch.equal(found[name], same[name]) for name in found)
    losses = net.train()(*training_batch())
    assert all(bool(torch.isfinite(loss)) for loss in losses.values())


@pytest.mark.slow
def test_a_narrowed_detector_of_torchvision_has_no_modules_but_theirs():
    net = instantiate(configured("fasterrcnn_resnet50_fpn"))
    graph = trace(detector_view(net.eval()), torch.zeros(1, 3, 64, 64))
    narrow(detector_view(net), graph, halved(net, graph))
    assert {type(module).__module__.partition(".")[0] for module in net.modules()} == {"torch", "torchvision"}
