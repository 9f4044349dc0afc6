"""Multiply-accumulates: those of one example, whatever lies along the leading dimension."""

import pytest
import torch
from torch import nn
from torchvision.models.detection import maskrcnn_resnet50_fpn
from torchvision.ops import roi_align

from pruning_lit.channels import cost, macs_by_layer, narrow, trace
from tests.channels.constructions import Blur, Codebook, Einsum, FixedProjection, Matmul, NonLocal, OwnAttention


class Frames(nn.Module):
    """A video network: a convolution on every frame, and a classifier on their mean."""

    def __init__(self):
        super().__init__()
        self.conv, self.classify = nn.Conv2d(3, 4, 3, padding=1), nn.Linear(4, 2)

    def forward(self, video):
        frames = self.conv(video.flatten(0, 1)).unflatten(0, video.shape[:2])
        return self.classify(frames.mean((1, 3, 4)))


class Regions(nn.Module):
    """A backbone, and a head on five regions of each image."""

    def __init__(self):
        super().__init__()
        self.backbone = nn.Conv2d(3, 4, 3, padding=1)
        self.head = nn.Sequential(nn.Conv2d(4, 6, 3, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(54, 2))

    def forward(self, images):
        boxes = [torch.tensor([[0.0, 0.0, 4.0, 4.0]], dtype=images.dtype, device=images.device).expand(5, -1)]
        return self.head(roi_align(self.backbone(images).relu(), boxes * len(images), 3))


class StandardisedConv(nn.Conv2d):
    """A convolution whose kernels are standardised before each use, as in BiT's ResNets."""

    def forward(self, x):
        centred = self.weight - self.weight.mean((1, 2, 3), keepdim=True)
        return nn.functional.conv2d(x, centred / (centred.std((1, 2, 3), keepdim=True) + 1e-5), self.bias, padding=1)


class Attended(nn.Module):
    """Attention whose keys and values come from another layer than its queries."""

    def __init__(self):
        super().__init__()
        self.queries, self.keys = nn.Linear(16, 16), nn.Linear(16, 16)
        self.attention = nn.MultiheadAttention(16, 4, batch_first=True)

    def forward(self, x):
        keys = self.keys(x)
        return self.attention(self.queries(x), keys, keys, need_weights=False)[0]


def standardised(conv):
    return StandardisedConv(conv.in_channels, conv.out_channels, 3)


HEAD = 9 * 4 * 9 * 6 + 54 * 2  # of one region
BACKBONE = 36 * 3 * 9 * 4


@pytest.mark.parametrize("batch", [1, 3])
def test_frames_in_the_place_of_the_batch_are_counted_for_each_video(batch):
    graph = trace(Frames(), torch.randn(batch, 5, 3, 6, 6))
    assert cost(graph).macs == 5 * 36 * 3 * 9 * 4 + 4 * 2


@pytest.mark.parametrize("batch", [1, 2])
def test_a_head_is_counted_for_the_regions_that_it_gets(batch):
    net = Regions()
    graph = trace(net, torch.randn(batch, 3, 6, 6))
    assert cost(graph).macs == BACKBONE + 5 * HEAD
    declared = graph.with_regions({"head": 1000})
    assert cost(declared).macs == BACKBONE + 1000 * HEAD
    kept = {"backbone": [0, 2], "head.0": [1, 4, 5]}
    narrow(net, graph, kept)
    again = trace(net, torch.randn(batch, 3, 6, 6)).with_regions({"head": 1000})
    assert cost(declared, kept) == cost(again)


def test_regions_of_no_head_are_refused():
    graph = trace(Regions(), torch.randn(1, 3, 6, 6))
    for numbers in ({"heads": 10}, {"hea": 10}, {"head": -1}, {"head": 1.5}):
        with pytest.raises(ValueError, match="regions"):
            graph.with_regions(numbers)


def test_a_part_of_the_network_is_counted_alone():
    net = Regions()
    graph = trace(net, torch.randn(1, 3, 6, 6)).with_regions({"head": 7})
    backbone, head = cost(graph.within("backbone")), cost(graph.within("head"))
    assert (backbone.macs, head.macs) == (BACKBONE, 7 * HEAD)
    assert backbone.params == sum(each.numel() for each in net.backbone.parameters())
    assert sum(macs_by_layer(graph).values()) == cost(graph).macs
    kept = {"backbone": [0, 2], "head.0": [1, 4, 5]}
    parts = [cost(graph.within(path), kept) for path in ("backbone", "head")]
    assert sum(part.macs for part in parts) == cost(graph, kept).macs
    assert sum(part.params for part in parts) == cost(graph, kept).params
    with pytest.raises(ValueError, match="no layer is used in a module called 'neck'; there are backbone, head"):
        graph.within("neck")


@pytest.mark.parametrize("construction", [Matmul, FixedProjection, Einsum, NonLocal, OwnAttention, Blur, Codebook])
def test_macs_do_not_depend_on_the_batch(construction):
    net = construction()
    one, three = (cost(trace(net, torch.randn(batch, 3, 6, 6))) for batch in (1, 3))
    assert one == three


def test_an_image_without_a_batch_costs_the_same():
    net = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.ReLU(), nn.Conv2d(4, 2, 1))
    assert cost(trace(net, torch.randn(3, 6, 6))) == cost(trace(net, torch.randn(2, 3, 6, 6)))


@pytest.mark.parametrize(
    "made",
    [
        standardised,
        nn.utils.parametrizations.spectral_norm,
        nn.utils.spectral_norm,
        lambda conv: nn.utils.parametrizations.weight_norm(conv, dim=1),
    ],
)
def test_a_weight_that_is_computed_costs_what_it_costs(made):
    last = nn.Sequential(nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(6, 2))
    graph = trace(nn.Sequential(nn.Conv2d(3, 4, 1), made(nn.Conv2d(4, 6, 3, padding=1)), last), torch.randn(1, 3, 8, 8))
    assert macs_by_layer(graph) == {"0": 64 * 3 * 4, "1": 64 * 4 * 6 * 9, "2.3": 6 * 2}


class BesideAGrid(nn.Module):
    """The first layer that is called runs over a grid, whatever the images."""

    def __init__(self):
        super().__init__()
        self.project, self.conv, self.head = nn.Linear(2, 8), nn.Conv2d(3, 8, 1), nn.Conv2d(8, 5, 1)
        self.register_buffer("grid", torch.randn(49, 2))

    def forward(self, x):
        where = self.project(self.grid).mean(0).view(1, -1, 1, 1)
        return self.head((self.conv(x) + where).relu())


@pytest.mark.parametrize("batch", [1, 2, 4])
def test_a_layer_that_runs_over_no_batch_does_not_say_that_there_is_none(batch):
    assert cost(trace(BesideAGrid(), torch.randn(batch, 3, 6, 6))).macs == 49 * 2 * 8 + 36 * 3 * 8 + 36 * 8 * 5


def test_projections_of_attention_are_counted_each():
    graph = trace(Attended(), torch.randn(2, 5, 16))
    assert cost(graph).macs == 6 * 5 * 16 * 16
    assert macs_by_layer(graph)["attention.in_proj_weight"] == 3 * 5 * 16 * 16


def test_a_buffer_used_as_a_weight_has_macs_and_no_parameters():
    net = FixedProjection()
    graph = trace(net, torch.randn(1, 3, 6, 6))
    kept = {"first": [0, 3, 4], "kernel": [1, 2]}
    assert cost(graph).params == sum(parameter.numel() for parameter in net.parameters())
    before = cost(graph, kept)
    narrow(net, graph, kept)
    assert before == cost(trace(net, torch.randn(1, 3, 6, 6)))
    assert before.macs == 36 * (27 * 3 + 3 * 2 + 9 * 2 * 6) + 6 * 4


@pytest.mark.slow
def test_mask_rcnn_is_counted_for_1000_boxes_and_100_masks():
    torch.manual_seed(0)
    net = maskrcnn_resnet50_fpn(weights=None, weights_backbone=None, num_classes=81, min_size=64, max_size=64).eval()
    graph = trace(net, [torch.rand(3, 64, 64)])
    none, declared = (
        cost(
            graph.with_regions(
                {"roi_heads.box_head": boxes, "roi_heads.box_predictor": boxes}
                | {"roi_heads.mask_head": masks, "roi_heads.mask_predictor": masks}
            )
        )
        for boxes, masks in ((0, 0), (1000, 100))
    )
    boxes = 256 * 49 * 1024 + 1024 * 1024 + 1024 * (81 + 4 * 81)
    masks = 4 * 14 * 14 * 9 * 256 * 256 + 14 * 14 * 4 * 256 * 256 + 28 * 28 * 256 * 81
    assert declared.macs - none.macs == 1000 * boxes + 100 * masks
    assert boxes + masks == 544_367_616  # both heads on one region
    assert round(declared.macs - none.macs, -8) == 67_300_000_000
