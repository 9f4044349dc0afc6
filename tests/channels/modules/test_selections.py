"""Selections in front of the readers of a stream: where they are put, and that nothing else changes."""

import copy
import io

import pytest
import torch
import torchvision
from torch import Tensor, nn
from torch.nn import functional as F

from pruning_lit.channels import (
    ChannelSelect,
    adopt_on_load,
    attach_selections,
    insert_selections,
    load,
    mask,
    narrow,
    observe,
    save,
    trace,
    verify,
)
from pruning_lit.models import load_weights, preresnet
from tests.channels.chance import random_kept, randomise


class PreActivation(nn.Module):
    """A bottleneck without any selection of its own; its first norm reads the stream."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.bn1 = nn.BatchNorm2d(width)
        self.conv1 = nn.Conv2d(width, 5, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(5)
        self.conv2 = nn.Conv2d(5, width, 3, padding=1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.conv2(F.relu(self.bn2(self.conv1(F.relu(self.bn1(x))))))


class Residual(nn.Module):
    """Plain pre-activation blocks, two branches side by side, a pooled and flattened tail with a norm of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, padding=1)
        self.blocks = nn.Sequential(PreActivation(8), PreActivation(8))
        self.left = nn.Conv2d(8, 4, 1)
        self.right = nn.Conv2d(8, 6, 1)
        self.joined = nn.BatchNorm2d(10)
        self.head = nn.Conv2d(10, 7, 1)
        self.flat = nn.BatchNorm1d(7)
        self.hidden = nn.Linear(7, 6)
        self.last = nn.BatchNorm1d(6)
        self.fc = nn.Linear(6, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.blocks(self.stem(x)))
        x = F.relu(self.joined(torch.cat([self.left(x), self.right(x)], 1)))
        x = F.adaptive_avg_pool2d(F.relu(self.head(x)), 1).flatten(1)
        return self.fc(self.last(self.hidden(self.flat(x))))


RESIDUAL_SITES = ["blocks.0.bn1", "blocks.1.bn1", "joined"]


def densenet() -> nn.Module:
    return torchvision.models.densenet121(weights=None, num_classes=10)


NETWORKS = {"residual": Residual, "densenet121": densenet}
each_network = pytest.mark.parametrize("name", NETWORKS)


def build(name: str) -> tuple[nn.Module, Tensor]:
    """In float64, with random statistics, and two images."""
    torch.manual_seed(0)
    return randomise(NETWORKS[name]()).double(), torch.randn(2, 3, 64, 64, dtype=torch.float64)


def selections(model: nn.Module) -> list[str]:
    return [name for name, module in model.named_modules() if isinstance(module, ChannelSelect)]


def of_selections(kept: dict[str, list[int]]) -> dict[str, list[int]]:
    return {name: positions for name, positions in kept.items() if name.endswith(".select")}


@pytest.mark.at_once(1)
@each_network
def test_insertion_changes_no_output_and_no_name(name):
    net, images = build(name)
    plain = copy.deepcopy(net)
    norms = insert_selections(net, images[:1])
    assert torch.equal(net(images), plain(images))
    assert net.state_dict().keys() == plain.state_dict().keys() | {f"{norm}.select.source" for norm in norms}
    assert [key for key, _ in net.named_parameters()] == [key for key, _ in plain.named_parameters()]


@pytest.mark.at_once(1)
@each_network
def test_a_second_insertion_does_nothing(name):
    net, images = build(name)
    insert_selections(net, images[:1])
    before = net.state_dict().keys()
    assert insert_selections(net, images[:1]) == []
    assert net.state_dict().keys() == before


@pytest.mark.slow
def test_every_reader_of_a_densenets_stream_gets_one_and_no_other_norm():
    net, images = build("densenet121")
    norms = [name for name, module in net.named_modules() if isinstance(module, nn.BatchNorm2d)]
    readers = [name for name in norms if not name.endswith(("norm0", "norm2"))]
    assert len(readers) == 62  # 58 layers, 3 transitions, the tail
    assert insert_selections(net, images[:1]) == readers


def test_sums_and_concatenations_are_streams_and_what_one_layer_makes_is_none():
    net, images = build("residual")
    assert insert_selections(net, images) == RESIDUAL_SITES


@pytest.mark.at_once(2)
@pytest.mark.parametrize("arch", ["resnet18", "googlenet", "mobilenet_v2", "vgg11_bn"])
def test_networks_with_norms_behind_their_layers_get_none(arch):
    options = {"init_weights": False} if arch in ("googlenet", "vgg11_bn") else {}  # their start takes seconds
    net = torchvision.models.get_model(arch, weights=None, **options)
    assert insert_selections(net, torch.zeros(1, 3, 64, 64)) == []


def test_a_network_with_selections_of_its_own_gets_no_others():
    assert insert_selections(preresnet(11), torch.zeros(1, 3, 32, 32)) == []


class Odd(nn.Module):
    """Norms of all kinds in one row; the keys say which of them read a stream."""

    def __init__(self) -> None:
        super().__init__()
        self.image = nn.BatchNorm2d(3)
        self.stem = nn.Conv2d(3, 6, 1)
        self.stream = nn.SyncBatchNorm(6)
        self.whole = nn.Conv2d(6, 6, 1)
        self.scaleless = nn.BatchNorm2d(6, affine=False)
        self.twice = nn.BatchNorm2d(6)
        self.shared = nn.Conv2d(6, 5, 1)
        self.first, self.second = nn.BatchNorm2d(5), nn.BatchNorm2d(5)
        self.parts = nn.Conv2d(6, 8, 1)
        self.front, self.back = nn.BatchNorm2d(4), nn.BatchNorm2d(4)
        self.rows = nn.BatchNorm1d(4)
        self.tokens = nn.Linear(4, 6)
        self.mixed = nn.BatchNorm2d(7)
        self.kept = nn.BatchNorm2d(4)
        self.tail = nn.Conv2d(7, 4, 1)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        x = self.image(x)
        stem = self.stem(x)
        stream = stem + self.whole(self.stream(stem))
        stream = self.twice(stream) + self.twice(self.scaleless(stream))
        shared = self.first(self.shared(stream)) + self.second(self.shared(stream.relu()))
        halves = self.parts(stream).chunk(2, 1)
        joined = self.front(halves[0]) + self.back(halves[1])
        tokens = self.rows(self.tokens(joined.flatten(2)[..., :4].transpose(1, 2)))
        tail = self.tail(self.mixed(torch.cat([joined, x], 1)))
        return self.kept(tail), tail, (shared.mean(), tokens.mean())


def test_only_norms_that_are_called_once_on_channels_and_have_scales_get_one():
    net = Odd()
    expected = ["stream", "first", "second", "front", "back", "mixed", "kept"]
    images = torch.randn(2, 3, 4, 4)
    before = net.eval()(images)
    assert insert_selections(net, images) == expected
    for one, other in zip(net(images)[:2], before[:2], strict=True):
        assert torch.equal(one, other)


def test_a_model_that_does_not_run_is_left_alone():
    net = Residual()
    with pytest.raises(ValueError, match="does not run on the example input"):
        insert_selections(net, torch.zeros(1, 4, 8, 8))
    assert not selections(net)
    assert not any(module._forward_pre_hooks for module in net.modules())


@pytest.mark.at_once(1)
@each_network
def test_every_reader_has_a_prunable_group_and_the_stream_stays_whole(name):
    net, images = build(name)
    norms = insert_selections(net, images[:1])
    graph = trace(net, images[:1])
    prunable = {group.name: group.size for group in graph.prunable}
    for norm in norms:
        assert prunable[f"{norm}.select"] == net.get_submodule(norm).num_features
    for group in graph.groups:
        assert group.protected is None or "takes it" in group.protected or "leaves the model" in group.protected
    assert "features.conv0" not in prunable
    assert "stem" not in prunable


@pytest.mark.at_once(1)
@each_network
def test_narrowed_selections_are_the_masked_ones(name):
    net, images = build(name)
    insert_selections(net, images[:1])
    graph = trace(net, images[:1])
    everything = random_kept(graph, seed=0)
    of_readers = of_selections(random_kept(graph, seed=1))
    for kept in (everything, of_readers, {name: [1] for name in of_readers}):
        narrowed, masked = copy.deepcopy(net), copy.deepcopy(net)
        narrow(narrowed, graph, kept)
        mask(masked, graph, kept)
        assert verify(narrowed, masked, images) < 1e-10


def narrowed_one(name: str, seed: int = 0) -> tuple[nn.Module, Tensor]:
    net, images = build(name)
    insert_selections(net, images[:1])
    graph = trace(net, images[:1])
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


@pytest.mark.slow
def test_a_saved_network_is_loaded_into_the_plain_architecture(tmp_path):
    net, images = narrowed_one("densenet121")
    net, images = net.float(), images.float()
    arch = {"_target_": "torchvision.models.densenet121", "num_classes": 10}
    save(net, tmp_path / "narrowed.safetensors", arch)
    assert torch.equal(load(tmp_path / "narrowed.safetensors")(images), net(images))
    plain = densenet().eval()
    load_weights(plain, tmp_path / "narrowed.safetensors")
    assert torch.equal(plain(images), net(images))


def test_a_checkpoint_is_loaded_into_the_plain_architecture_inside_another_module():
    net, images = narrowed_one("residual")
    plain = Residual().double().eval()
    adopt_on_load(plain)
    nn.ModuleDict({"net": plain}).load_state_dict({f"net.{key}": value for key, value in net.state_dict().items()})
    assert torch.equal(plain(images), net(images))


def test_a_selection_where_there_is_no_norm_is_refused():
    net, _ = narrowed_one("residual")
    state = net.state_dict() | {"stem.select.source": torch.tensor([0])}
    plain = Residual().double()
    adopt_on_load(plain)
    with pytest.raises(RuntimeError, match=r'Unexpected key\(s\) in state_dict: "stem.select.source"\.'):
        plain.load_state_dict(state)


def test_a_copy_reads_through_its_own_selections():
    net, images = narrowed_one("residual")
    expected = net(images)
    twin = copy.deepcopy(net)
    twin.blocks[0].bn1.select.source.fill_(0)  # another channel, many times over: to see who notices
    assert torch.equal(net(images), expected)
    assert not torch.equal(twin(images), expected)


def test_a_pickled_network_reads_through_its_selections():
    net, images = narrowed_one("residual")
    file = io.BytesIO()
    torch.save(net, file)
    file.seek(0)
    assert torch.equal(torch.load(file, weights_only=False)(images), net(images))


def test_norms_made_anew_read_through_their_selections_once_they_are_attached():
    net, images = narrowed_one("residual")
    expected = net(images)
    converted = nn.SyncBatchNorm.convert_sync_batchnorm(copy.deepcopy(net)).eval()
    for _ in range(2):  # the second time there is nothing left to do
        attach_selections(converted)
        assert torch.equal(converted(images), expected)
        assert all(len(converted.get_submodule(norm)._forward_pre_hooks) == 1 for norm in RESIDUAL_SITES)


@pytest.mark.at_once(1)
@each_network
def test_a_narrowed_network_learns(name):
    net, images = narrowed_one(name)
    net.train()
    net(images).square().sum().backward()
    assert all(parameter.grad is not None for parameter in net.parameters())
    for norm in selections(net):
        assert net.get_submodule(norm.removesuffix(".select")).weight.grad.abs().sum() > 0


def test_operations_keep_their_numbers_once_a_selection_is_not_full():
    net, images = build("residual")
    insert_selections(net, images[:1])
    graph = trace(net, images[:1])
    narrowed = copy.deepcopy(net)
    narrow(narrowed, graph, of_selections(random_kept(graph, seed=0)))
    shapes: dict[str, list[tuple[int, ...]]] = {"full": [], "narrowed": []}
    feature_maps = [
        feature_map.operation
        for group in graph.groups
        for feature_map in group.feature_maps
        if not group.name.endswith(".select")
    ]
    for key, model in (("full", net), ("narrowed", narrowed)):
        observe(
            model,
            (images,),
            {at: lambda x, key=key: shapes[key].append(tuple(x.shape)) for at in feature_maps},
        )
    assert shapes["full"] == shapes["narrowed"] != []


def test_a_full_selection_is_a_view_of_its_own():
    x = torch.randn(2, 4, 3, 3)
    everything = ChannelSelect(4)(x)
    assert everything is not x
    assert everything.data_ptr() == x.data_ptr()


@pytest.mark.parametrize("source", [[1, 0], [0, 2, 2]])
def test_positions_that_are_not_ascending_are_refused(source):
    with pytest.raises(ValueError, match="ascending order, each once; got"):
        ChannelSelect(source)


@pytest.mark.slow
def test_an_exported_network_reads_through_its_selections():
    net, images = narrowed_one("residual")
    full, _ = build("residual")
    insert_selections(full, images)
    for model in (net, full):
        program = torch.export.export(model, (images,))
        torch.testing.assert_close(program.module()(images), model(images))
