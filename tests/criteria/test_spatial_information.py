"""Spatial information: the released numbers, hand-made maps, half precision, and the scores of whole networks."""

from pathlib import Path

import numpy as np
import pytest
import torch
from hydra import compose, initialize_config_dir
from hydra.utils import instantiate
from torch import Tensor, nn

from pruning_lit.channels import trace
from pruning_lit.criteria import Scoring, SpatialInformation
from pruning_lit.criteria.gather import mean_scores
from pruning_lit.criteria.redundancy_graph.reference_layer import NO_CONVOLUTION, SELECTED
from pruning_lit.criteria.spatial_information import spatial_information
from pruning_lit.models import cifar_resnet, preresnet
from tests.places import CONF, VECTORS

CASE = np.load(VECTORS / "chex" / "si.npz")
BATCHES = [torch.from_numpy(CASE[f"batch{number}"]) for number in (0, 1)]


@pytest.mark.parametrize("number", [0, 1])
def test_every_map_has_the_score_of_the_release(number):
    scores = spatial_information(BATCHES[number])
    assert scores.dtype == torch.float64
    torch.testing.assert_close(scores.float(), torch.from_numpy(CASE[f"si{number}"]), atol=1e-5, rtol=0)


def test_means_of_batches_added_give_the_order_of_the_release():
    total = sum(spatial_information(batch).mean(0) for batch in BATCHES)
    torch.testing.assert_close(total.float(), torch.from_numpy(CASE["score"]), atol=1e-5, rtol=0)
    assert total.argsort(descending=True).tolist() == CASE["order_desc"].tolist()


def test_kernels_are_the_released_one_and_its_transpose():
    kernel = torch.from_numpy(CASE["kernel"])
    maps = torch.randn(3, 1, 7, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    answers = torch.conv2d(maps, torch.stack([kernel, kernel.T])[:, None], padding=1)
    expected = answers.norm(dim=1).flatten(1).std(dim=1, correction=0)
    torch.testing.assert_close(spatial_information(maps)[:, 0], expected)


def test_a_blank_map_scores_nothing_and_doubling_a_map_doubles_its_score():
    assert spatial_information(torch.zeros(2, 3, 5, 5)).tolist() == [[0, 0, 0], [0, 0, 0]]
    torch.testing.assert_close(spatial_information(2 * BATCHES[0]), 2 * spatial_information(BATCHES[0]))


def test_the_mean_over_images_is_what_a_pass_over_them_gathers():
    net = nn.Sequential(nn.Conv2d(4, 4, 3, padding=1, bias=False), nn.Conv2d(4, 2, 1))
    nn.init.dirac_(net[0].weight)  # the maps are the images
    graph = trace(net, BATCHES[0][:1])
    (scores,) = mean_scores(net, list(graph.prunable), BATCHES, spatial_information).values()
    torch.testing.assert_close(scores.float(), torch.from_numpy(CASE["score"]) / 2, atol=1e-5, rtol=0)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_does_not_overflow(dtype):
    maps = (60_000 * BATCHES[0] / BATCHES[0].abs().max()).to(
        dtype
    )  # answers of the kernels above 65,504, the largest number of float16
    assert bool(maps.isfinite().all())
    torch.testing.assert_close(spatial_information(maps), spatial_information(maps.double()), rtol=1e-5, atol=0)


@pytest.mark.parametrize("maps", [torch.zeros(2, 3, 4), torch.zeros(1, 2, 3, 4, dtype=torch.int64)])
def test_other_tensors_are_refused(maps):
    with pytest.raises(ValueError, match=r"expected floating maps \(N, C, H, W\), got"):
        spatial_information(maps)


# The criterion on networks


class Given:
    """Calibration data that are these images; every rank has its share."""

    def __init__(self, images: Tensor) -> None:
        self.images, self.num_training = images, len(images)

    def calibration(self, num_images, seed, augment, rank, world_size, batch_size):
        return ((each, None) for each in self.images[rank:num_images:world_size].split(batch_size))


class Bundles(nn.Module):
    """Halves of the first layer are multiplied, a layer is used twice, and a depthwise one hands on what it reads."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.again, self.head = nn.Conv2d(3, 8, 3), nn.Conv2d(4, 4, 3, padding=1), nn.Linear(4, 2)
        self.depthwise, self.pointwise = nn.Conv2d(4, 4, 3, groups=4), nn.Conv2d(4, 4, 1)

    def forward(self, x: Tensor) -> Tensor:
        left, right = self.first(x).relu_().chunk(2, dim=1)  # in place: the maps are gone behind it
        x = self.depthwise(left * right).relu()
        x = self.pointwise(x).relu()
        x = self.again(x).relu()
        return self.head(self.again(x).mean((2, 3)))


def images(num: int, size: int = 32) -> Tensor:
    return torch.randn(num, 3, size, size, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


def resnet() -> nn.Module:
    torch.manual_seed(0)
    return cifar_resnet(8, stem="tied", shortcut="conv").double()


def bundles() -> nn.Module:
    torch.manual_seed(0)
    return Bundles().double()


def scores_of(net: nn.Module, given: Tensor, batch_size: int = 128, **options) -> dict[str, Tensor]:
    criterion = SpatialInformation(batch_size=batch_size, num_images=len(given), **options)
    graph = trace(net, given[:1])
    groups = list(graph.protect(criterion.unsupported(net, graph)).prunable)
    found = criterion.scores(Scoring(net, graph, groups, Given(given)))
    for group in groups:
        assert (found[group.name].shape, found[group.name].dtype) == ((group.size,), torch.float64)
    return found


def means_by_hooks(net: nn.Module, given: Tensor) -> dict[str, list[Tensor]]:
    """By convolution, for each of its uses, the mean over images of the function on what it returned."""
    found: dict[str, list[Tensor]] = {}
    for name, module in net.named_modules():
        if isinstance(module, nn.Conv2d):
            module.register_forward_hook(
                lambda _, __, maps, name=name: found.setdefault(name, []).append(spatial_information(maps).mean(0))
            )
    with torch.no_grad():
        net.eval()(given)
    return found


def assert_same(found: Tensor, expected: Tensor) -> None:
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=0)


def test_channels_of_one_convolution_have_the_means_of_its_outputs():
    found, means = scores_of(resnet(), images(5)), means_by_hooks(resnet(), images(5))
    for stage in (1, 2, 3):
        (expected,) = means[f"layer{stage}.0.conv1"]
        assert_same(found[f"layer{stage}.0.conv1"], expected)


def test_in_a_tied_group_the_scores_of_all_convolutions_are_added():
    found, means = scores_of(resnet(), images(5)), means_by_hooks(resnet(), images(5))
    assert_same(found["conv1"], means["conv1"][0] + means["layer1.0.conv2"][0])
    assert_same(found["layer2.0.conv2"], means["layer2.0.conv2"][0] + means["layer2.0.shortcut.conv"][0])


def test_scores_of_channels_that_leave_together_are_added_and_depthwise_convolutions_do_not_count():
    found, means = scores_of(bundles(), images(5, 8)), means_by_hooks(bundles(), images(5, 8))
    (first,) = means["first"]
    assert_same(found["first"], first[:4] + first[4:])


def test_scores_of_all_uses_of_a_layer_are_added():
    found, means = scores_of(bundles(), images(5, 8)), means_by_hooks(bundles(), images(5, 8))
    assert len(means["again"]) == 2
    assert_same(found["pointwise"], means["pointwise"][0] + sum(means["again"]))


def test_scores_do_not_depend_on_how_images_are_batched():
    together, split = (scores_of(resnet(), images(5), size) for size in (5, 2))
    assert together.keys() == split.keys()
    for name, scores in together.items():
        torch.testing.assert_close(split[name], scores, rtol=1e-9, atol=1e-9)


def test_statistics_of_the_batch_are_those_of_a_pass_in_training_mode_and_leave_the_network_as_it_was():
    net = resnet()
    was = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    found = scores_of(net, images(6), 2, statistics="batch")
    assert all(torch.equal(tensor, was[name]) for name, tensor in net.state_dict().items())
    hooked, means = resnet(), []
    hooked.layer2[0].conv1.register_forward_hook(lambda _, __, maps: means.append(spatial_information(maps).mean(0)))
    for batch in images(6).split(2):
        hooked.train()(batch)
    assert_same(found["layer2.0.conv1"], sum(means) / 3)
    assert not torch.allclose(found["layer2.0.conv1"], scores_of(net, images(6), 2)["layer2.0.conv1"])


def of_one_rank(rank: int, folder: Path) -> None:
    store = torch.distributed.FileStore(str(folder / "store"), 2)
    torch.distributed.init_process_group("gloo", rank=rank, world_size=2, store=store)
    torch.save(scores_of(bundles(), images(5, 8)), folder / f"{rank}.pt")
    torch.save(scores_of(resnet(), images(5), 2, statistics="batch"), folder / f"batch{rank}.pt")
    torch.distributed.destroy_process_group()


def test_two_processes_with_unequal_shares_find_the_scores_of_one(tmp_path):
    torch.multiprocessing.start_processes(of_one_rank, (tmp_path,), nprocs=2, start_method="fork")
    first, second = (torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in (0, 1))
    for name, scores in scores_of(bundles(), images(5, 8)).items():
        assert torch.equal(first[name], second[name])
        torch.testing.assert_close(first[name], scores, rtol=1e-9, atol=1e-9)
    by_batch = [torch.load(tmp_path / f"batch{rank}.pt", weights_only=True) for rank in (0, 1)]
    for name, scores in scores_of(resnet(), images(5), 2, statistics="batch").items():
        assert torch.equal(by_batch[0][name], scores)
        assert torch.equal(by_batch[1][name], scores)


def test_groups_that_no_convolution_makes_stay_whole():
    net = nn.Sequential(nn.Conv2d(3, 4, 8), nn.Flatten(), nn.Linear(4, 5), nn.ReLU(), nn.Linear(5, 2)).double()
    graph = trace(net, images(1, 8))
    assert SpatialInformation().unsupported(net, graph) == {"2": NO_CONVOLUTION}
    assert scores_of(net, images(2, 8)).keys() == {"0"}
    with pytest.raises(ValueError, match="group '2' stays whole: no two-dimensional convolution"):
        SpatialInformation().scores(Scoring(net, graph, list(graph.prunable), Given(images(2, 8))))


def test_channels_selected_from_a_stream_stay_whole():
    net = preresnet(11)
    graph = trace(net, torch.zeros(1, 3, 32, 32))
    selected = {group.name for group in graph.prunable if group.name.endswith("select")}
    assert SpatialInformation().unsupported(net, graph) == dict.fromkeys(selected, SELECTED)
    assert {"layer1.0.select", "layer3.0.select"} <= selected < {group.name for group in graph.prunable}


def test_maps_of_a_diverged_network_are_refused():
    net = resnet()
    with torch.no_grad():
        net.layer2[0].conv1.weight[3] = float("nan")
    with pytest.raises(ValueError, match=r"group 'layer2\.0\.conv1': the maps of its channels are not finite"):
        scores_of(net, images(2))


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"num_images": 0}, r"criterion\.num_images must be a whole number of at least 1, got 0"),
        ({"num_images": True}, r"criterion\.num_images must be a whole number of at least 1, got True"),
        ({"batch_size": 1.5}, r"criterion\.batch_size must be a whole number of at least 1, got 1\.5"),
        ({"statistics": "train"}, r"criterion\.statistics is one of \['running', 'batch'\], got 'train'"),
        ({"batch_size": "many"}, r"criterion\.batch_size must be a whole number of at least 1, got 'many'"),
    ],
)
def test_bad_settings_are_refused_by_name(settings, told):
    with pytest.raises(ValueError, match=told):
        SpatialInformation(**settings)


@pytest.mark.at_once(1)
@pytest.mark.parametrize("method", ["chex", "chip", "magnitude"])
def test_it_can_be_chosen_beside_a_method(method):
    with initialize_config_dir(str(CONF), version_base="1.3"):
        config = compose("config", overrides=[f"method={method}", "criterion=spatial_information", "seed=7"])
        quick = compose("config", overrides=["criterion=spatial_information", "debug=quick"])
    criterion = instantiate(config.criterion)
    assert isinstance(criterion, SpatialInformation)
    assert (criterion.num_images, criterion.batch_size, criterion.augment, criterion.seed) == (640, 128, True, 7)
    assert instantiate(quick.criterion).num_images == 64
