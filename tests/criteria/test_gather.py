"""Means over images of the scores of feature maps, in one pass and without storing a map."""

import pytest
import torch
from torch import Tensor, nn

from pruning_lit.channels import trace
from pruning_lit.criteria.gather import mean_scores

IMAGES = torch.randn(7, 3, 6, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(0))


def batches(sizes: int | list[int]) -> list[Tensor]:
    return list(IMAGES.split(sizes))


class Split(nn.Module):
    """A layer whose channels go two ways after its activation, so that they are two groups with one map."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.norm = nn.Conv2d(3, 6, 3), nn.BatchNorm2d(6)
        self.left, self.right = nn.Conv2d(4, 5, 3), nn.Conv2d(2, 5, 3)
        self.head = nn.Linear(5, 2)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.norm(self.first(x)))
        return self.head(torch.relu(self.left(x[:, :4]) + self.right(x[:, 4:])).mean(dim=(2, 3)))


@pytest.fixture
def split():
    torch.manual_seed(0)
    net = Split().double()
    net.norm.running_mean.normal_()
    return net, trace(net, IMAGES[:1])


def power(maps: Tensor) -> Tensor:
    return maps.square().mean(dim=(2, 3))


def by_hand(net: Split) -> tuple[Tensor, Tensor]:
    """Mean power of the channels of the first map and of the second."""
    net.eval()
    with torch.no_grad():
        first = torch.relu(net.norm(net.first(IMAGES)))
        second = torch.relu(net.left(first[:, :4]) + net.right(first[:, 4:]))
    return power(first).mean(0), power(second).mean(0)


@pytest.mark.parametrize("sizes", [[7], [3, 4], [4, 3], [1] * 7, [5, 1, 1]], ids=str)
def test_means_do_not_depend_on_how_the_images_are_split(split, sizes):
    net, graph = split
    means = mean_scores(net, list(graph.prunable), batches(sizes), power)
    for found, expected in zip(means.values(), by_hand(net), strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-12, atol=0)


def test_maps_of_points_and_vectors_are_scored_as_images_of_one_row():
    torch.manual_seed(0)
    points, vectors = nn.Conv1d(3, 4, 1), nn.Linear(4, 5)
    net = nn.Sequential(points, nn.ReLU(), nn.AdaptiveMaxPool1d(1), nn.Flatten(), vectors, nn.ReLU(), nn.Linear(5, 2))
    x = IMAGES.flatten(2)
    means = mean_scores(net.double(), list(trace(net, x[:1]).prunable), [x], power)
    maps = torch.relu(points(x)).detach()
    hidden = torch.relu(vectors(maps.amax(2))).detach()
    for found, expected in zip(means.values(), (maps.square().mean((0, 2)), hidden.square().mean(0)), strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-12, atol=0)


def test_a_map_shared_by_several_groups_is_scored_once_per_batch(split):
    net, graph = split
    groups = [group for group in graph.groups if group.name != "head"]  # feature maps do not ask who may be pruned
    assert [group.name for group in groups] == ["first#1", "first#2", "left"]
    assert groups[0].feature_maps[0].operation == groups[1].feature_maps[0].operation
    shapes = []

    def count(maps: Tensor) -> Tensor:
        shapes.append(tuple(maps.shape))
        return power(maps)

    mean_scores(net, groups, batches(4), count)
    assert shapes == [(4, 6, 4, 4), (4, 5, 2, 2), (3, 6, 4, 4), (3, 5, 2, 2)]


def test_each_group_finds_its_channels_in_the_shared_map(split):
    net, graph = split
    means = mean_scores(net, list(graph.prunable), batches(len(IMAGES)), power)
    expected = by_hand(net)[0]
    for name, place in (("first#1", slice(0, 4)), ("first#2", slice(4, 6))):
        feature_map = graph[name].feature_maps[0]
        torch.testing.assert_close(means[feature_map.operation][feature_map.positions].sum(1), expected[place])


def test_only_maps_that_are_asked_for_are_scored(split):
    net, graph = split
    assert mean_scores(net, [graph["left"]], batches(len(IMAGES)), power).keys() == {
        graph["left"].feature_maps[0].operation
    }


def test_the_pass_runs_in_eval_mode_and_leaves_the_network_as_it_was(split):
    net, graph = split
    net.train()
    net.norm.eval()
    before = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    mean_scores(net, list(graph.prunable), batches(2), power)
    assert [net.training, net.norm.training, net.first.training] == [True, False, True]
    assert all(torch.equal(before[name], tensor) for name, tensor in net.state_dict().items())
    assert all(parameter.grad is None for parameter in net.parameters())


def test_a_map_overwritten_in_place_is_seen_after_the_activation():
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(inplace=True), nn.Conv2d(4, 2, 1)).double()
    graph = trace(net, IMAGES[:1])
    (mean,) = mean_scores(net, [graph["0"]], batches(len(IMAGES)), lambda maps: maps.amin(dim=(2, 3))).values()
    assert (mean >= 0).all()
    with torch.no_grad():
        expected = net[:3](IMAGES).amin(dim=(2, 3)).mean(0)
    torch.testing.assert_close(mean, expected)


def test_channels_of_a_linear_layer_are_maps_of_one_pixel():
    torch.manual_seed(0)
    net = nn.Sequential(nn.Flatten(), nn.Linear(108, 3), nn.ReLU(), nn.Linear(3, 2)).double()
    graph = trace(net, IMAGES[:1])
    (mean,) = mean_scores(net, [graph["1"]], batches(len(IMAGES)), power).values()
    with torch.no_grad():
        torch.testing.assert_close(mean, net[:3](IMAGES).square().mean(0))


def test_no_image_at_all_is_refused(split):
    net, graph = split
    with pytest.raises(ValueError, match="the criterion saw no image"):
        mean_scores(net, list(graph.prunable), [], power)
