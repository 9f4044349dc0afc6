"""The criterion on whole networks: kept sets and narrowed networks of the original code, its modes, its limits."""

import json
import logging

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from pruning_lit.channels import cost, narrow, trace
from pruning_lit.criteria import RedundancyGraph, RedundancyScores, Scoring
from pruning_lit.criteria.redundancy_graph.decomposition import decompose
from pruning_lit.models import cifar_resnet, load_weights
from pruning_lit.sparsity import Similarity
from tests.conftest import shared_file
from tests.models.redundancy_golden import LAYER_NAMES, golden, golden_densenet10, golden_resnet8
from tests.places import ROOT

NETWORKS = {"e2e_resnet8": golden_resnet8, "e2e_densenet10": golden_densenet10}
PUBLISHED_MODES = {"batch": "train_by_name", "running": "eval_by_name"}


class Given:
    """Calibration data that are these images."""

    def __init__(self, images: Tensor) -> None:
        self.images, self.num_training = images, len(images)

    def calibration(self, num_images, seed, augment, rank, world_size, batch_size):
        return ((each, None) for each in self.images[:num_images].split(batch_size))


def judged(net: nn.Module, images: Tensor, criterion: RedundancyGraph):
    graph = criterion.protect(net, trace(net, images[:1]))
    return graph, criterion.scores(Scoring(net, graph, list(graph.prunable), Given(images)))


def kept_by_reference_layer(scores: RedundancyScores, threshold: float) -> dict[str, list[int]]:
    return {each.reference_layer: decompose(each.similarity, each.norms, threshold) for each in scores.layers.values()}


@pytest.mark.parametrize("mode", ["batch", "running"])
@pytest.mark.parametrize("name", NETWORKS)
def test_kept_sets_are_those_of_the_original_code(name, mode):
    arrays, net = golden(name), NETWORKS[name]()
    _, scores = judged(net, torch.from_numpy(arrays["x"]).double(), RedundancyGraph(statistics=mode, batch_size=3))
    ours = LAYER_NAMES[name]
    assert {each.reference_layer for each in scores.layers.values()} == {
        ours[layer] for layer in arrays["decider_layers"]
    }
    for layer in arrays["decider_layers"] if mode == "batch" else ():
        (found,) = [each for each in scores.layers.values() if each.reference_layer == ours[layer]]
        np.testing.assert_array_equal(found.similarity.numpy(), arrays[f"similarity/{layer}"])
    for threshold, expected in json.loads(str(arrays["kept_json"]))[PUBLISHED_MODES[mode]].items():
        found = kept_by_reference_layer(scores, float(threshold))
        assert found == {ours[layer]: expected[layer] for layer in arrays["decider_layers"]}, threshold


@pytest.mark.parametrize("name", NETWORKS)
def test_the_narrowed_network_is_that_of_the_original_code(name):
    arrays, net = golden(name), NETWORKS[name]()
    images, threshold = torch.from_numpy(arrays["x"]).double(), float(arrays["logits_pruned_threshold"])
    graph, scores = judged(net, images, RedundancyGraph(statistics="batch"))
    plan = Similarity(threshold).plan(graph, scores)
    narrow(net, graph, plan.kept)
    torch.testing.assert_close(net(images), torch.from_numpy(arrays["logits_pruned"]), rtol=0, atol=1e-9)
    counts = json.loads(str(arrays["counts_json"]))
    counted = cost(trace(net, images[:1]))
    expected = next(value for key, value in counts.items() if key != "unpruned" and float(key) == threshold)
    assert [counted.params, counted.macs] == [expected["params"], expected["macs"]]


def small() -> tuple[nn.Module, Tensor]:
    torch.manual_seed(0)
    net = cifar_resnet(8, stem="tied", shortcut="conv")
    return net, torch.randn(6, 3, 32, 32)


def test_bits_do_not_depend_on_how_images_are_batched():
    net, images = small()
    _, one_by_one = judged(net.double(), images.double(), RedundancyGraph())
    _, together = judged(net, images.double(), RedundancyGraph(batch_size=6))
    for name, layer in one_by_one.layers.items():
        assert torch.equal(layer.similarity, together.layers[name].similarity)


@pytest.mark.parametrize("mode", ["batch", "running"])
def test_the_network_is_left_as_it_was(mode):
    net, images = small()
    net.train()
    before = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    judged(net, images, RedundancyGraph(statistics=mode))
    assert net.training
    assert all(torch.equal(before[name], tensor) for name, tensor in net.state_dict().items())


@pytest.mark.slow
def test_train_mode_goes_by_the_statistics_of_the_images():
    net, images = small()
    _, trained = judged(net, images, RedundancyGraph(statistics="batch"))
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_()
    _, again = judged(net, images, RedundancyGraph(statistics="batch"))
    _, evaluated = judged(net, images, RedundancyGraph())
    name = "layer1.0.conv1"  # the first layer behind a batch norm
    assert torch.equal(trained.layers[name].similarity, again.layers[name].similarity)
    assert not torch.equal(trained.layers[name].similarity, evaluated.layers[name].similarity)


def test_scores_order_filters_by_when_they_go_and_then_by_norm():
    net, images = small()
    _, scores = judged(net, images, RedundancyGraph())
    for name, layer in scores.layers.items():
        best = int(scores[name].argmax())
        assert best == int(layer.norms.argmax())
        assert scores[name].isfinite().all()
        assert float(scores[name].min()) >= 0
        assert len(scores[name].unique()) == len(scores[name])


def test_dead_filters_score_lowest_and_one_of_them_is_worth_more():
    net, images = small()
    with torch.no_grad():
        net.layer1[0].conv1.weight[[2, 5, 7]] = 0  # blank maps are all alike
    _, scores = judged(net, images, RedundancyGraph())
    lowest = scores["layer1.0.conv1"].sort().indices.tolist()
    assert set(lowest[:2]) == {5, 7}  # of equal norms the lower index stays longer


def test_small_maps_can_be_left_whole():
    net, images = small()
    graph, scores = judged(net, images, RedundancyGraph(min_pixels=65))
    assert all(layer.places >= 256 for layer in scores.layers.values())
    assert "criterion.min_pixels=65" in graph["layer3.0.conv1"].protected


class Pixel(nn.Module):
    """Its second convolution sees one pixel."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.head = nn.Conv2d(3, 6, 3), nn.Conv2d(6, 5, 1), nn.Linear(5, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = nn.functional.adaptive_avg_pool2d(self.first(x).relu(), 1)
        return self.head(self.second(x).relu().flatten(1))


def test_maps_of_one_pixel_keep_one_filter_and_the_plan_says_so(caplog):
    torch.manual_seed(0)
    net, images = Pixel(), torch.randn(4, 3, 8, 8)
    graph, scores = judged(net, images, RedundancyGraph())
    with caplog.at_level(logging.WARNING):
        RedundancyGraph().check(list(graph.prunable))
    assert "all filters of second look equal" in caplog.text  # before any training
    plan = Similarity(0.7).plan(graph, scores)
    assert plan.kept["second"] == [int(net.second.weight.abs().sum((1, 2, 3)).argmax())]
    assert any("`second` look equal, since their maps have one pixel" in note for note in plan.notes)


@pytest.mark.slow
def test_a_reference_layer_can_be_named():
    net = cifar_resnet(14, stem="tied")
    images = torch.randn(3, 3, 32, 32)
    _, by_rule = judged(net, images, RedundancyGraph())
    _, named = judged(net, images, RedundancyGraph(reference_layers={"layer2.0.conv2": "layer2.1.conv2"}))
    assert by_rule.layers["layer2.0.conv2"].reference_layer == "layer2.0.conv2"
    assert named.layers["layer2.0.conv2"].reference_layer == "layer2.1.conv2"
    assert not torch.equal(by_rule.layers["layer2.0.conv2"].norms, named.layers["layer2.0.conv2"].norms)


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"statistics": "training"}, r"criterion\.statistics is one of \['running', 'batch'\], got 'training'"),
        ({"num_images": 0}, "num_images must be a whole number of at least 1, got 0"),
        ({"batch_size": 1.5}, r"batch_size must be a whole number of at least 1, got 1\.5"),
        ({"reference_layers": "conv1"}, "criterion.reference_layers maps names of groups to layers"),
    ],
)
def test_bad_settings_are_refused(settings, told):
    with pytest.raises(ValueError, match=told):
        RedundancyGraph(**settings)


def test_a_layer_that_does_not_decide_is_refused_with_those_that_could():
    net, images = small()
    with pytest.raises(
        ValueError, match=r"'bn1' does not decide on group 'layer2\.0\.conv2'; its channels are made by"
    ):
        judged(net, images, RedundancyGraph(reference_layers={"layer2.0.conv2": "bn1"}))
    with pytest.raises(
        ValueError, match=r"criterion\.reference_layers: 'nobody' is no group that can be pruned; these are \['conv1'"
    ):
        judged(net, images, RedundancyGraph(reference_layers={"nobody": "conv1"}))


def test_without_images_nothing_is_judged():
    net, images = small()
    criterion = RedundancyGraph()
    graph = trace(net, images[:1])
    data = Given(images[:0])
    data.num_training = 100
    with pytest.raises(ValueError, match="saw no image"):
        criterion.scores(Scoring(net, graph, [graph["conv1"]], data))


def test_fewer_images_than_asked_for_are_told(caplog):
    net, images = small()
    with caplog.at_level(logging.WARNING):
        judged(net, images, RedundancyGraph())
    assert "look at all 6 training images, not at 100" in caplog.text


def first_of_every_class() -> Tensor:
    """The first ten images of every class, ``(100, 3, 32, 32)``, normalised as ImageNet's are."""
    classes = sorted((ROOT / "data" / "cifar10_jpeg" / "train").glob("*"))
    files = [path for each in classes for path in sorted(each.iterdir())[:10]]
    images = [torch.from_numpy(np.array(Image.open(path).convert("RGB"))) for path in files]
    if not images or int(torch.stack(images).long().sum()) != 35_933_152:
        pytest.skip("the images of data/cifar10_jpeg are not there, or come out of another JPEG decoder")
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    return ((torch.stack(images) / 255 - mean) / std).permute(0, 3, 1, 2).contiguous()


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["running", "batch"])
@pytest.mark.parametrize("depth", [20, 56])
def test_kept_sets_of_trained_networks_on_real_images(mode, depth):
    """The files are not a part of the repository."""
    recorded = shared_file("golden/redundancy_graph/real_resnet_kept.json")
    weights = shared_file(f"data/pretrained/resnet{depth}-{'4bfd9763' if depth == 56 else '12fca82f'}.th")
    net, images = cifar_resnet(depth, stem="tied"), first_of_every_class()
    load_weights(net, weights)
    _, scores = judged(net, images, RedundancyGraph(statistics=mode))
    for threshold, expected in json.loads(recorded.read_text())["models"][f"resnet{depth}"][f"bn_{mode}"].items():
        found = kept_by_reference_layer(scores, float(threshold))
        assert {name: len(kept) for name, kept in found.items()} == {
            name: expected["kept_counts"][name] for name in found
        }, threshold
        for name, kept in found.items() if "kept" in expected else ():
            assert kept == expected["kept"][name], (threshold, name)
