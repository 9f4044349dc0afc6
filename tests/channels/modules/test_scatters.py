"""Scatters behind the layers on shortcuts: where they are put, that nothing else changes, and what can go then."""

import copy
import io
import json

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pruning_lit.channels import (
    ChannelGraph,
    ChannelScatter,
    Cost,
    adopt_on_load,
    attach_scatters,
    cost,
    insert_scatters,
    load,
    mask,
    narrow,
    observe,
    save,
    trace,
    verify,
    widen,
)
from pruning_lit.channels.tracing.operations import OperationMode
from pruning_lit.models import cifar_resnet, load_weights, preresnet, torchvision_model, vgg_bn
from pruning_lit.phases.sync_batch_norm import GpuSyncBatchNorm, SyncBatchNorm
from tests.channels.chance import random_kept, randomise
from tests.places import VECTORS


class Bottleneck(nn.Module):
    """Two convolutions beside a projection whose result is added in place; sigmoid, which lets no zero be zero."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(8, 5, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(5)
        self.conv2 = nn.Conv2d(5, 12, 3, stride=2, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(12)
        self.pool = nn.AvgPool2d(2)
        self.project = nn.Conv2d(8, 12, 1, bias=False)
        self.norm = nn.BatchNorm2d(12)

    def forward(self, x: Tensor) -> Tensor:
        inner = self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x)))))
        inner += self.norm(self.project(self.pool(x)))
        return torch.sigmoid(inner)


class Residual(nn.Module):
    """A projection with a norm and one without, which has a bias and an activation of its own; then an identity."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, padding=1)
        self.block = Bottleneck()
        self.branch = nn.Sequential(nn.Conv2d(12, 4, 3, padding=1), nn.Conv2d(4, 9, 3, padding=1))
        self.bare = nn.Conv2d(12, 9, 1)
        self.behind = nn.Conv2d(9, 9, 3, padding=1)
        self.fc = nn.Linear(9, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = self.block(F.relu(self.stem(x)))
        x = F.softplus(self.bare(x)) + self.branch(x)
        x = x + F.relu(self.behind(x))
        return self.fc(F.adaptive_avg_pool2d(x, 1).flatten(1))


def sites_of(pattern: str, stages: tuple[int, ...], norm: str, conv: str) -> dict[str, str]:
    return {pattern.format(stage) + norm: pattern.format(stage) + conv for stage in stages}


#: How a network is built, and the places of its scatters with the convolutions whose channels go through them.
NETWORKS = {
    "residual": (Residual, {"block.norm": "block.project", "bare": "bare"}),
    "resnet8": (lambda: cifar_resnet(8, shortcut="option_b"), sites_of("layer{}.0.shortcut.", (2, 3), "bn", "conv")),
    "preresnet11": (lambda: preresnet(11), sites_of("layer{}.0.downsample.", (1, 2, 3), "0", "0")),
    "resnet18": (lambda: torchvision_model("resnet18", 10), sites_of("layer{}.0.downsample.", (2, 3, 4), "1", "0")),
}
each_network = pytest.mark.parametrize("name", NETWORKS)


def build(name: str) -> tuple[nn.Module, Tensor]:
    """In float64, with random statistics, and two images."""
    torch.manual_seed(0)
    return randomise(NETWORKS[name][0]()).double(), torch.randn(2, 3, 32, 32, dtype=torch.float64)


def inserted(name: str) -> tuple[nn.Module, Tensor, ChannelGraph]:
    net, images = build(name)
    insert_scatters(net, images[:1])
    return net, images, trace(net, images[:1])


def of_shortcuts(name: str, kept: dict[str, list[int]]) -> dict[str, list[int]]:
    return {conv: kept[conv] for conv in NETWORKS[name][1].values()}


def scatters(model: nn.Module) -> dict[str, ChannelScatter]:
    return {name: module for name, module in model.named_modules() if name.endswith(".scatter")}


@each_network
def test_insertion_changes_no_output_and_no_name(name):
    net, images = build(name)
    plain = copy.deepcopy(net)
    sites = insert_scatters(net, images[:1])
    assert sites == list(NETWORKS[name][1])
    assert torch.equal(net(images), plain(images))
    assert net.state_dict().keys() == plain.state_dict().keys() | {f"{site}.scatter.source" for site in sites}
    assert [key for key, _ in net.named_parameters()] == [key for key, _ in plain.named_parameters()]


@pytest.mark.at_once(2)
@each_network
def test_a_second_insertion_does_nothing(name):
    net, images, graph = inserted(name)
    before = net.state_dict().keys()
    assert insert_scatters(net, images[:1]) == []
    narrow(net, graph, of_shortcuts(name, random_kept(graph, seed=0)))
    assert insert_scatters(net, images[:1]) == []
    assert net.state_dict().keys() == before


BOTTLENECKS = [f"layer{stage}.0.downsample.1" for stage in (1, 2, 3, 4)]
REGNET = [f"trunk_output.block{stage}.block{stage}-0.proj.1" for stage in (1, 2, 3, 4)]
FOUND = {
    "resnet34": BOTTLENECKS[1:],
    "resnet50": BOTTLENECKS,
    "resnet101": BOTTLENECKS,
    "resnext50_32x4d": BOTTLENECKS,
    "regnet_y_400mf": REGNET,  # its squeeze and excitation is in front of the last convolution
    "densenet121": [],
    "mobilenet_v2": [],
    "mobilenet_v3_small": [],
    "efficientnet_b0": [],
    "shufflenet_v2_x0_5": [],
}


@pytest.mark.at_once(1)
@pytest.mark.parametrize("arch", FOUND)
def test_projections_of_torchvisions_networks_get_one_and_no_other_layer(arch):
    assert insert_scatters(torchvision_model(arch), torch.zeros(1, 3, 64, 64)) == FOUND[arch]


@pytest.mark.parametrize(
    ("net", "expected"),
    [
        (cifar_resnet(8), []),  # slices between zeros: nothing to prune
        (cifar_resnet(8, shortcut="conv", stem="tied"), ["layer2.0.shortcut.bn", "layer3.0.shortcut.bn"]),
        (vgg_bn(16), []),
    ],
    ids=["option_a", "conv", "vgg"],
)
def test_networks_for_small_images_get_one_where_a_convolution_is_on_the_shortcut(net, expected):
    assert insert_scatters(net, torch.zeros(1, 3, 32, 32)) == expected


@pytest.mark.slow
def test_layers_on_the_shortcuts_of_films_get_one():
    net = torchvision_model("r3d_18", 10)
    film = torch.randn(1, 3, 4, 32, 32)
    expected = net.eval()(film)
    assert insert_scatters(net, film) == BOTTLENECKS[1:]
    assert torch.equal(net(film), expected)
    assert trace(net, film)["layer3.0.downsample.0"].size == 256


class Odd(nn.Module):
    """Sums of all kinds, each of a path of one convolution and of one of two; the keys say what is special."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 6, 1)
        self.long = nn.ModuleList(nn.Sequential(nn.Conv2d(6, 6, 1), nn.Conv2d(6, 6, 1)) for _ in range(15))
        self.plain = nn.Conv2d(6, 6, 1)
        self.synchronised = nn.Sequential(nn.Conv2d(6, 6, 1), nn.SyncBatchNorm(6))
        self.scaleless = nn.Sequential(nn.Conv2d(6, 6, 1), nn.BatchNorm2d(6, affine=False))
        self.by_groups = nn.Sequential(nn.Conv2d(6, 6, 1), nn.GroupNorm(2, 6))
        self.transposed = nn.ConvTranspose2d(6, 6, 1)
        self.depthwise = nn.Conv2d(6, 6, 1, groups=6)
        self.twice = nn.Conv2d(6, 6, 1)
        self.forked = nn.Conv2d(6, 6, 1)
        self.gated = nn.Conv2d(6, 6, 1)
        self.narrow = nn.Conv2d(6, 1, 1)
        self.leaving = nn.Conv2d(6, 6, 1)
        self.unmixed, self.mixed = nn.Conv2d(6, 6, 1), nn.Linear(6, 6)
        self.first, self.second, self.shared = nn.Conv2d(6, 6, 1), nn.Conv2d(6, 6, 1), nn.BatchNorm2d(6)
        self.own = nn.Sequential(nn.Conv2d(6, 6, 1), ChannelScatter([0, 1, 2, -1, 4, 5]))
        self.equal = nn.ModuleList([nn.Conv2d(6, 6, 1), nn.Conv2d(6, 6, 1)])
        self.head = nn.Conv2d(6, 2, 1)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        x = self.stem(x)
        long = iter(self.long)
        for layer in (self.plain, self.synchronised, self.scaleless, self.by_groups, self.transposed, self.own):
            x = layer(x) + next(long)(x)
        x = self.depthwise(x) + next(long)(x)
        x = self.twice(x) + next(long)(self.twice(x))
        forked = self.forked(x)
        x = forked + next(long)(x) * forked.mean()
        x = self.gated(x) * torch.sigmoid(x) + next(long)(x)
        x = self.mixed(self.unmixed(x).movedim(1, -1)).movedim(-1, 1) + next(long)(x)
        x = self.shared(self.first(x)) + next(long)(x)
        x = self.shared(self.second(x)) + next(long)(x)
        leaving = self.leaving(x)
        x = (leaving + next(long)(x)) * 2
        x = self.narrow(x) + next(long)(x)
        x = self.equal[0](x) + self.equal[1](x.relu())
        return self.head(x + x), leaving


@pytest.mark.slow
def test_only_terms_that_are_the_work_of_one_layer_and_of_a_longer_path_get_one():
    net, images = Odd(), torch.randn(2, 3, 4, 4)
    before = net.eval()(images)
    expected = ["plain", "synchronised.1", "scaleless.1", "by_groups.0", "transposed", "first", "second"]
    assert insert_scatters(net, images) == expected
    assert all(torch.equal(one, other) for one, other in zip(net(images), before, strict=True))
    net = randomise(net).double()
    graph = trace(net, images.double())
    for seed in range(3):
        narrowed, masked = copy.deepcopy(net), copy.deepcopy(net)
        kept = {site.replace(".1", ".0"): random_kept(graph, seed)[site.replace(".1", ".0")] for site in expected}
        narrow(narrowed, graph, kept)
        mask(masked, graph, kept)
        assert verify(narrowed, masked, images.double()) < 1e-10


def test_a_model_that_does_not_run_is_left_alone():
    net = Residual()
    with pytest.raises(ValueError, match="does not run on the example input"):
        insert_scatters(net, torch.zeros(1, 4, 8, 8))
    assert not scatters(net)
    assert not any(module._forward_hooks for module in net.modules())


@pytest.mark.slow
def test_every_layer_on_a_shortcut_of_resnet50_has_a_group_of_its_own_apart_from_its_stream():
    """Sizes: section 2 of CHEX's description, 3,840 channels of shortcuts in four layers."""
    net, image = torchvision_model("resnet50"), torch.zeros(1, 3, 64, 64)
    bound = {group.name: group for group in trace(net, image).groups}
    insert_scatters(net, image)
    free = {group.name: group for group in trace(net, image).groups}
    for stage, size in enumerate((256, 512, 1024, 2048), start=1):
        projection, stream = free[f"layer{stage}.0.downsample.0"], free[f"layer{stage}.0.conv3"]
        assert (projection.size, projection.protected, stream.size) == (size, None, size)
        assert projection.writers == (projection.name,)
        assert projection.readers == ()
        norm = f"layer{stage}.0.downsample.1"
        tensors = {f"{projection.name}.weight"} | {f"{norm}.{key}" for key in ("weight", "bias")}
        assert {piece.tensor for piece in projection.slices} == tensors | {
            f"{norm}.running_mean",
            f"{norm}.running_var",
        }
        assert {*stream.writers} == {*bound[stream.name].writers} - {projection.name}
    assert free.keys() == bound.keys() | {f"layer{stage}.0.downsample.0" for stage in (1, 2, 3, 4)}


@pytest.mark.at_once(2)
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.float64, 1e-10)])
@each_network
def test_narrowed_shortcuts_are_the_masked_ones(name, dtype, tolerance):
    net, images, graph = inserted(name)
    net, images = net.to(dtype), images.to(dtype)
    alone = of_shortcuts(name, random_kept(graph, seed=1))
    streams = {group.name: [0, 2] for group in graph.prunable if group.name not in alone}
    for kept in (random_kept(graph, seed=0), alone, {conv: [1] for conv in alone}, streams):
        narrowed, masked = copy.deepcopy(net), copy.deepcopy(net)
        narrow(narrowed, graph, kept)
        mask(masked, graph, kept)
        assert verify(narrowed, masked, images) < tolerance


@pytest.mark.at_once(2)
@each_network
def test_channels_without_a_maker_are_zeros_beside_the_others_of_the_shortcut(name):
    net, images, graph = inserted(name)
    narrowed, seen = copy.deepcopy(net), {}
    narrow(narrowed, graph, {conv: [1] for conv in NETWORKS[name][1].values()})
    site = next(iter(NETWORKS[name][1]))  # the first one: what it reads is the same in both
    for key, model in (("wide", net), ("narrow", narrowed)):
        model.get_submodule(site).register_forward_hook(lambda *args, key=key: seen.update({key: args[2]}))
        model(images)
    assert seen["narrow"].shape == seen["wide"].shape
    torch.testing.assert_close(seen["narrow"][:, 1], seen["wide"][:, 1])
    assert not seen["narrow"][:, [0, *range(2, seen["narrow"].shape[1])]].any()


def test_a_shortcut_whose_last_channel_finds_no_place_in_the_stream_gives_zeros():
    net, images, graph = inserted("resnet8")
    kept = {"layer2.0.shortcut.conv": [3], "layer2.0.conv2": [0, 1, 7]}
    narrowed, masked = copy.deepcopy(net), copy.deepcopy(net)
    narrow(narrowed, graph, kept)
    mask(masked, graph, kept)
    assert narrowed.layer2[0].shortcut.bn.scatter.source.tolist() == [-1, -1, -1]
    assert verify(narrowed, masked, images) < 1e-10


def narrowed_one(name: str, seed: int = 0) -> tuple[nn.Module, Tensor]:
    net, images, graph = inserted(name)
    narrow(net, graph, random_kept(graph, seed))
    return net, images


def test_a_narrowed_network_can_be_narrowed_again():
    net, images = narrowed_one("residual")
    graph = trace(net, images[:1])
    kept = random_kept(graph, seed=1)
    narrowed, masked = copy.deepcopy(net), copy.deepcopy(net)
    narrow(narrowed, graph, kept)
    mask(masked, graph, kept)
    assert verify(narrowed, masked, images) < 1e-10


@pytest.mark.at_once(2)
@each_network
def test_narrow_then_widen_is_the_same_network_bit_for_bit(name):
    net, images, graph = inserted(name)
    before, expected = copy.deepcopy(net.state_dict()), net(images)
    widen(net, narrow(net, graph, random_kept(graph, seed=0)))
    assert all(torch.equal(tensor, before[key]) for key, tensor in net.state_dict().items())
    assert torch.equal(net(images), expected)


@pytest.mark.slow
def test_a_saved_network_is_loaded_into_the_plain_architecture(tmp_path):
    net, images = narrowed_one("resnet18")
    net, images = net.float(), images.float()
    arch = {"_target_": "torchvision.models.resnet18", "num_classes": 10}
    save(net, tmp_path / "narrowed.safetensors", arch)
    assert torch.equal(load(tmp_path / "narrowed.safetensors")(images), net(images))
    plain = torchvision_model("resnet18", 10).eval()
    load_weights(plain, tmp_path / "narrowed.safetensors")
    assert torch.equal(plain(images), net(images))


@pytest.mark.at_once(2)
@each_network
def test_a_checkpoint_is_loaded_into_the_plain_architecture_inside_another_module(name):
    net, images = narrowed_one(name)
    plain = build(name)[0]
    adopt_on_load(plain)
    nn.ModuleDict({"net": plain}).load_state_dict({f"net.{key}": value for key, value in net.state_dict().items()})
    assert torch.equal(plain(images), net(images))


@pytest.mark.slow
def test_weights_of_a_plain_network_are_loaded_into_one_with_scatters(tmp_path):
    plain, images = build("resnet18")
    torch.save(plain.state_dict(), tmp_path / "plain.pt")
    net, _, _ = inserted("resnet18")
    for parameter in net.parameters():
        parameter.data.zero_()
    load_weights(net, tmp_path / "plain.pt")
    assert torch.equal(net(images), plain(images))


def test_a_scatter_behind_anything_else_than_a_norm_or_convolution_is_refused():
    net, _ = narrowed_one("residual")
    state = net.state_dict() | {"fc.scatter.source": torch.tensor([0])}
    plain = Residual().double()
    adopt_on_load(plain)
    with pytest.raises(RuntimeError, match=r'Unexpected key\(s\) in state_dict: "fc.scatter.source"\.'):
        plain.load_state_dict(state)


def test_a_copy_writes_through_its_own_scatters():
    net, images = narrowed_one("residual")
    expected = net(images)
    twin = copy.deepcopy(net)
    twin.block.norm.scatter.source.fill_(-1)  # to see who notices
    assert torch.equal(net(images), expected)
    assert not torch.equal(twin(images), expected)


def test_a_pickled_network_writes_through_its_scatters():
    net, images = narrowed_one("residual")
    file = io.BytesIO()
    torch.save(net, file)
    file.seek(0)
    assert torch.equal(torch.load(file, weights_only=False)(images), net(images))


@pytest.mark.slow
def test_norms_made_anew_write_through_their_scatters_once_they_are_attached():
    net, images = narrowed_one("resnet18")
    expected = net(images)
    converted = nn.SyncBatchNorm.convert_sync_batchnorm(copy.deepcopy(net)).eval()
    for _ in range(2):  # the second time there is nothing left to do
        attach_scatters(converted)
        assert torch.equal(converted(images), expected)
        assert all(len(converted.get_submodule(site)._forward_hooks) == 1 for site in NETWORKS["resnet18"][1])


def test_a_scatter_that_is_not_attached_yet_is_not_replaced():
    net, images, _ = inserted("resnet18")
    converted = nn.SyncBatchNorm.convert_sync_batchnorm(net)
    assert insert_scatters(converted, images[:1]) == []


@pytest.mark.parametrize("plugin", [SyncBatchNorm(), GpuSyncBatchNorm()], ids=lambda plugin: type(plugin).__name__)
def test_scatters_stay_behind_when_norms_are_switched_over_and_back(plugin):
    net, images = narrowed_one("residual")
    expected, names = net(images), list(net.state_dict())
    switched = plugin.apply(copy.deepcopy(net))
    assert torch.equal(switched.eval()(images), expected)
    back = plugin.revert(switched)
    assert torch.equal(back.eval()(images), expected)
    assert list(back.state_dict()) == names
    assert [len(back.get_submodule(site)._forward_hooks) for site in NETWORKS["residual"][1]] == [1, 1]


@pytest.mark.at_once(2)
@each_network
def test_a_narrowed_network_learns(name):
    net, images = narrowed_one(name)
    net.train()
    net(images).square().sum().backward()
    assert all(parameter.grad is not None for parameter in net.parameters())
    convolutions = map(net.get_submodule, NETWORKS[name][1].values())
    assert any(float(conv.weight.grad.abs().sum()) > 0 for conv in convolutions)


@pytest.mark.parametrize("source", [[0, 1, 2], [-1, 0, -1, 2], [2, -1, 0, 1], [1, 1, -1], [-1, -1]])
@pytest.mark.parametrize("shape", [(2, 3), (2, 3, 2, 2), (2, 3, 2, 1, 2)])
def test_every_channel_of_a_scatter_gets_the_gradient_of_the_places_where_it_arrives(source, shape):
    x = torch.randn(shape, dtype=torch.float64)
    for layout in (x, x.movedim(1, -1).contiguous().movedim(-1, 1)):
        assert torch.autograd.gradcheck(ChannelScatter(source), (layout.requires_grad_(),))


class Counting(OperationMode):
    def seen(self, index: int, operation: object, args: tuple, kwargs: dict, result: object) -> None:
        pass


@pytest.mark.parametrize("shape", [(2, 4, 3), (2, 4, 3, 3), (2, 4, 3, 3, 3), (2, 4, 1, 1), (1, 4, 3, 1)])
@pytest.mark.parametrize("places", [[0, 1, 2, 3], [3, -1, 0, -1, 2]])
def test_a_scatter_keeps_the_layout_of_its_input_and_its_number_of_operations(shape, places):
    scatter, x = ChannelScatter(places), torch.randn(shape)
    counted = []
    for layout in (x, x.movedim(1, -1).contiguous().movedim(-1, 1)):
        with torch.inference_mode(), Counting() as operations:
            placed = scatter(layout)
        counted.append(operations.index)
        expected = F.pad(x, (0, 0) * (x.ndim - 2) + (1, 0))[:, scatter.source + 1]
        assert torch.equal(placed, expected)
        assert placed.movedim(1, -1).is_contiguous() or not layout.movedim(1, -1).is_contiguous()
        assert placed.is_contiguous() or not layout.is_contiguous()
    assert counted[0] == counted[1]


@each_network
def test_insertion_changes_no_output_in_channels_last(name):
    net, images = build(name)
    net, images = (each.to(memory_format=torch.channels_last) for each in (net, images))
    plain = copy.deepcopy(net)
    insert_scatters(net, images[:1])
    assert torch.equal(net(images), plain(images))


def test_operations_keep_their_numbers_once_a_scatter_is_not_full():
    net, images, graph = inserted("resnet8")
    narrowed, masked = copy.deepcopy(net), copy.deepcopy(net)
    kept = of_shortcuts("resnet8", random_kept(graph, seed=0))
    narrow(narrowed, graph, kept)
    mask(masked, graph, kept)
    shapes: dict[str, list[tuple[int, ...]]] = {}
    feature_maps = [each.operation for group in graph.groups for each in group.feature_maps if group.name not in kept]
    for key, model in (("full", net), ("narrowed", narrowed), ("masked", masked)):
        seen = shapes.setdefault(key, [])
        observe(
            model,
            (images,),
            {at: lambda x, seen=seen: seen.append(tuple(x.shape)) for at in feature_maps},
        )
    assert shapes["full"] == shapes["narrowed"] == shapes["masked"] != []


@pytest.mark.slow
def test_an_exported_network_writes_through_its_scatters():
    net, images = narrowed_one("residual")
    full, _, _ = inserted("residual")
    for model in (net, full):
        program = torch.export.export(model, (images,))
        torch.testing.assert_close(program.module()(images), model(images))


# Parameters and multiply-accumulates of ResNets at 224x224 whose inner layers keep int(C * (1 - S)) channels each: with
# rows of projections that count as removed (masked_downsample) or with whole projections (full_downsample). Computed by
# formula, independently of this project, for section 12 of CHEX's description; see tests/golden/chex/README.md.
COUNTS = json.loads((VECTORS / "chex" / "counts.json").read_text())["classification_224"]


@pytest.mark.slow
@pytest.mark.at_once(1)
@pytest.mark.parametrize("arch", COUNTS)
def test_uniformly_narrowed_networks_have_the_counts_of_free_and_of_whole_projections(arch):
    net, image, golden = torchvision_model(arch), torch.zeros(1, 3, 224, 224), COUNTS[arch]
    plain = cost(trace(net, image))
    projections = [site.removesuffix("1") + "0" for site in insert_scatters(net, image)]
    graph = trace(net, image)
    assert cost(graph) == plain == Cost(golden["total_macs"], golden["params"])
    last = "conv1" if arch in ("resnet18", "resnet34") else ("conv1", "conv2")
    inner = [group.name for group in graph.prunable if group.name.startswith("layer") and group.name.endswith(last)]
    for sparsity, expected in golden["uniform"].items():
        kept = {name: range(int(graph[name].size * (1 - float(sparsity)))) for name in [*inner, *projections]}
        whole = {name: kept[name] for name in inner}
        for found, variant in ((cost(graph, kept), "masked"), (cost(graph, whole), "full")):
            assert found.macs == expected[f"{variant}_downsample"]
            assert found.params == expected.get(f"params_{variant}_downsample", found.params)


@pytest.mark.slow
def test_a_really_narrowed_resnet50_has_the_parameters_of_the_published_widths():
    net, image = torchvision_model("resnet50"), torch.zeros(1, 3, 224, 224)
    projections = [site.removesuffix("1") + "0" for site in insert_scatters(net, image)]
    graph = trace(net, image)
    inner = [group.name for group in graph.prunable if group.name.endswith((".conv1", ".conv2"))]
    narrow(net, graph, {name: range(int(graph[name].size * 0.3)) for name in [*inner, *projections]})
    assert sum(parameter.numel() for parameter in net.parameters()) == 6_720_994
    assert cost(trace(net, image)) == Cost(914_199_611, 6_720_994)
