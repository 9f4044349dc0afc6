"""PointNet++ against the golden networks and counts; pruned exactly, saved, brought back."""

import copy
import json

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pruning_lit.channels import ChannelGraph, Kept, cost, cost_of_widths, load, mask, narrow, save, trace, widen
from pruning_lit.models import pointnet2_cls, pointnet2_part_seg
from pruning_lit.tasks.base import forward
from tests.channels.chance import randomise
from tests.models.pointnet_golden import fill, golden
from tests.places import VECTORS

COUNTS = json.loads((VECTORS / "pointnet2" / "counts.json").read_text())
BUILD = {"cls": pointnet2_cls, "part_seg": pointnet2_part_seg}
BLOCKS = {"cls": ("sa1", "sa2", "sa3"), "part_seg": ("sa1", "sa2", "sa3", "fp3", "fp2", "fp1")}
SMALL = {"width": 0.25, "centres": (24, 8), "norm_scale": 0.5}
DOUBLE = {"rtol": 0, "atol": 1e-8}


def named(name: str) -> tuple[str, dict[str, object]]:
    """The kind and the keywords of a network of the golden set, such as ``cls_msg_normals``."""
    kind = "cls" if name.startswith("cls") else "part_seg"
    return kind, {"scales": "multi" if "msg" in name else "single", "normals": name.endswith("normals")}


def clouds(number: int, length: int, normals: bool = False, seed: int = 0) -> Tensor:
    """Points of a sphere, and their normals."""
    random = torch.Generator().manual_seed(seed)
    points = F.normalize(torch.randn(number, length, 3, generator=random), dim=2)
    return torch.cat([points, points], 2) if normals else points


def inputs_of(kind: str, cloud: Tensor) -> Tensor | tuple[Tensor, Tensor]:
    return cloud if kind == "cls" else (cloud, torch.arange(len(cloud)) % 3)


def filled(kind: str, **keywords: object) -> nn.Module:
    net = BUILD[kind](**keywords)
    fill(net, *(getattr(net, block) for block in BLOCKS[kind]), *net.head)
    return net


@pytest.mark.at_once(1)
@pytest.mark.parametrize("name", ["cls_ssg_normals", "cls_ssg_xyz", "cls_msg_xyz", "cls_msg_normals"])
@torch.no_grad()
def test_clouds_are_classified_as_the_golden_networks_do(name):
    kind, keywords = named(name)
    net, vectors = filled(kind, **keywords), golden("classification")
    features = {}
    for block in ("sa1", "sa2", "sa3"):
        layer = getattr(net, block)
        layer.register_forward_hook(lambda _, __, out, key=block: features.update({key: out}))
    points = vectors["xyz"].double()
    logits = net(torch.cat([points, vectors["normals"]], 2) if keywords["normals"] else points)
    for block in ("sa1", "sa2"):
        torch.testing.assert_close(features[block][1].mean(2), vectors[f"{name}_{block}_mean"], **DOUBLE)
    torch.testing.assert_close(features["sa3"].flatten(1), vectors[f"{name}_feature"], **DOUBLE)
    torch.testing.assert_close(logits.log_softmax(1), vectors[f"{name}_logprob"], **DOUBLE)


@pytest.mark.at_once(1)
@pytest.mark.parametrize("name", ["part_seg_ssg", "part_seg_msg"])
@torch.no_grad()
def test_parts_are_told_as_the_golden_networks_do(name):
    vectors = golden("part_segmentation")
    logits = filled(*named(name)[:1], **named(name)[1])(vectors["xyz"].double(), vectors["categories"])
    assert torch.equal(logits.argmax(1), vectors[f"{name}_argmax"].long())
    some = logits.log_softmax(1)[:, :, :: vectors["point_step"]].mT
    torch.testing.assert_close(some, vectors[f"{name}_logprob"], **DOUBLE)


@pytest.mark.slow
@pytest.mark.parametrize("name", COUNTS["dense"])
def test_macs_parameters_and_groups_are_those_of_the_specification(name):
    kind, keywords = named(name)
    net = BUILD[kind](**keywords)
    graph = trace(net, inputs_of(kind, clouds(1, 1024 if kind == "cls" else 2048, keywords["normals"])))
    counted = cost(graph)
    assert [counted.macs, counted.params] == COUNTS["dense"][name]
    assert [sum(group.size for group in graph.prunable), len(graph.prunable)] == COUNTS["explored_channels"][
        name.rpartition("_")[0]
    ]
    if name in COUNTS["half_of_every_explored_group"]:
        half = cost_of_widths(graph, {group.name: group.size // 2 for group in graph.prunable})
        assert [half.macs, half.params] == COUNTS["half_of_every_explored_group"][name]
    if name == "cls_ssg_xyz":
        for uniform in COUNTS["cls_ssg_uniform"].values():
            names = [group.name for group in graph.prunable]
            pruned = cost_of_widths(graph, dict(zip(names, uniform["widths"], strict=True)))
            assert [pruned.macs, pruned.params] == uniform["macs_params"]


def half(graph: ChannelGraph) -> Kept:
    return {group.name: list(range(group.size % 3, group.size, 2)) for group in graph.prunable}


small = pytest.mark.parametrize(
    ("kind", "keywords"),
    [
        ("part_seg", {"scales": "multi", "normals": True}),
        ("cls", {"scales": "single"}),
        ("cls", {"scales": "multi", "normals": True}),
        ("part_seg", {"scales": "single"}),
    ],
)


@pytest.mark.at_once(1)
@small
@torch.no_grad()
def test_all_but_the_last_layer_can_be_pruned_exactly_saved_and_brought_back(tmp_path, kind, keywords):
    torch.manual_seed(0)
    net = randomise(BUILD[kind](**SMALL, **keywords)).double()
    inputs = inputs_of(kind, clouds(3, 48, bool(keywords.get("normals"))).double())
    graph = trace(net, inputs)
    assert [group.protected for group in graph.groups if group.protected] == ["it leaves the model"]
    assert graph.not_followed is None
    kept, dense = half(graph), forward(net, inputs)
    masked, narrowed = copy.deepcopy(net), copy.deepcopy(net)
    mask(masked, graph, kept)
    moves = narrow(narrowed, graph, kept)
    expected = forward(masked, inputs)
    torch.testing.assert_close(forward(narrowed, inputs), expected)
    assert not torch.allclose(expected, dense)

    arch = {"_target_": f"pruning_lit.models.{BUILD[kind].__name__}", **SMALL, **keywords}
    save(narrowed, tmp_path / "net.safetensors", arch)
    loaded = load(tmp_path / "net.safetensors").double().eval()
    assert torch.equal(forward(loaded, inputs), forward(narrowed, inputs))

    widen(narrowed, moves)
    assert torch.equal(forward(narrowed, inputs), dense)


@torch.no_grad()
def test_the_order_of_points_behind_the_first_does_not_matter():
    torch.manual_seed(0)
    net = pointnet2_cls(5, width=0.25, centres=(24, 8), neighbours=(48, 24))  # no ball can overflow
    randomise(net).double()
    cloud = clouds(2, 48).double()
    order = torch.cat([torch.zeros(1, dtype=torch.long), 1 + torch.randperm(47)])
    torch.testing.assert_close(net(cloud[:, order]), net(cloud), rtol=0, atol=1e-6)


def test_networks_start_as_the_recipe_says():
    torch.manual_seed(0)
    parts, net = pointnet2_part_seg(norm_scale=0.5), pointnet2_cls()
    kernel = parts.sa3.layers[2][0]
    assert kernel.weight.std().item() == pytest.approx((2 / (512 + 1024)) ** 0.5, rel=0.01)  # Xavier, normal
    assert not kernel.bias.any()
    assert parts.fp1.layers[0][0].bias.any()
    assert all(bool((each.weight == 0.5).all()) for each in parts.modules() if "BatchNorm" in type(each).__name__)
    assert net.sa3.layers[2][0].weight.abs().max().item() <= 512**-0.5  # torch's own start, uniform


def test_the_small_network_has_the_parameters_of_the_specification():
    net = pointnet2_cls(10, width=0.25, centres=(64, 16), radii=(0.25, 0.5), neighbours=(16, 16))
    assert sum(each.numel() for each in net.parameters()) == 94_362


@pytest.mark.parametrize(
    ("keywords", "told"),
    [
        ({"scales": "double"}, r"arch\.scales must be 'single' or 'multi', got 'double'"),
        ({"first_centre": "last"}, r"arch\.first_centre must be 'random' or 'first', got 'last'"),
        ({"width": 0}, r"arch\.width must be above 0, got 0"),
        ({"centres": (64,)}, r"arch\.centres must be two values above 0, .* got \(64,\)"),
        ({"radii": (0.1, -0.2)}, r"arch\.radii must be two values above 0, .* got \(0\.1, -0\.2\)"),
        (
            {"scales": "multi", "neighbours": ([8, 8], [8, 8, 8])},
            r"arch\.neighbours must be one for each of the 3 scales of arch\.scales=multi, got \(\[8, 8\], \[8, 8",
        ),
    ],
)
def test_sizes_that_make_no_network_are_refused(keywords, told):
    with pytest.raises(ValueError, match=told):
        pointnet2_cls(**keywords)


@pytest.mark.parametrize(
    ("normals", "channels", "told"), [(True, 3, "coordinates and normals"), (False, 6, "coordinates alone")]
)
def test_clouds_with_or_without_normals_are_refused_where_they_do_not_fit(normals, channels, told):
    net = pointnet2_cls(5, normals=normals, **SMALL)
    with pytest.raises(ValueError, match=rf"arch\.normals={str(normals).lower()}: .*{told}; got \(2, 48, {channels}\)"):
        net(torch.randn(2, 48, channels))
