"""Filter norms by hand, summed over the layers of a tied group."""

import pytest
import torch
from torch import nn

from pruning_lit.channels import trace
from pruning_lit.criteria import Magnitude, Random, Scoring
from pruning_lit.criteria.magnitude import filter_powers
from pruning_lit.models import preresnet

KERNEL = torch.tensor([[[[1.0, -2.0]], [[0.0, 3.0]]], [[[0.5, 0.5]], [[0.0, 0.0]]]])  # (out 2, in 2, 1, 2)


class Residual(nn.Module):
    """A stem and a block that ties it, both 2 channels wide, and an untied layer inside."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(1, 2, 1, bias=False)
        self.inner = nn.Conv2d(2, 3, 1, bias=False)
        self.outer = nn.Conv2d(3, 2, 1, bias=False)
        self.head = nn.Conv2d(2, 1, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.stem(x)
        return self.head(x + self.outer(self.inner(x)))


@pytest.fixture
def residual():
    net = Residual()
    with torch.no_grad():
        net.stem.weight.copy_(torch.tensor([3.0, -1.0]).reshape(2, 1, 1, 1))
        net.inner.weight.copy_(torch.tensor([[1.0, -1.0], [0.0, 2.0], [0.0, 0.0]]).reshape(3, 2, 1, 1))
        net.outer.weight.copy_(torch.tensor([[2.0, 0.0, -2.0], [1.0, 1.0, 1.0]]).reshape(2, 3, 1, 1))
    return net, trace(net, torch.zeros(1, 1, 2, 2))


def scores(criterion, net, graph):
    return criterion.scores(Scoring(net, graph, list(graph.prunable)))


def test_a_filter_is_as_large_as_its_weights_together():
    assert filter_powers(KERNEL, 1).tolist() == [6.0, 1.0]
    assert filter_powers(KERNEL, 2).tolist() == [14.0, 0.5]


def test_the_output_channels_may_lie_in_another_dimension():
    assert filter_powers(KERNEL, 1, dim=1).tolist() == [4.0, 3.0]  # as in a transposed convolution


@pytest.mark.parametrize(
    ("power", "stream", "inner"),
    [
        (1, [3.0 + 4.0, 1.0 + 3.0], [2.0, 2.0, 0.0]),
        (2, [(9.0 + 8.0) ** 0.5, (1.0 + 3.0) ** 0.5], [2.0**0.5, 2.0, 0.0]),
    ],
)
def test_a_tied_group_is_summed_over_all_layers_that_make_it(residual, power, stream, inner):
    net, graph = residual
    found = scores(Magnitude(power), net, graph)
    torch.testing.assert_close(found["stem"], torch.tensor(stream, dtype=torch.float64))
    torch.testing.assert_close(found["inner"], torch.tensor(inner, dtype=torch.float64))


def test_layers_that_read_a_channel_do_not_count(residual):
    net, graph = residual
    before = scores(Magnitude(), net, graph)
    with torch.no_grad():
        net.head.weight.fill_(100.0)
    assert all(torch.equal(before[name], values) for name, values in scores(Magnitude(), net, graph).items())


def test_linear_layers_and_the_weights_of_a_trained_network_are_covered():
    net = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2))
    graph = trace(net, torch.zeros(1, 3))
    net[0].weight.requires_grad_(True)
    found = scores(Magnitude(), net, graph)
    assert not found["0"].requires_grad
    torch.testing.assert_close(found["0"], net[0].weight.detach().double().abs().sum(1))


@pytest.mark.parametrize("power", [0, 3, 1.5])
def test_other_powers_are_refused(power):
    with pytest.raises(ValueError, match=f"criterion.power must be 1 or 2, got {power}"):
        Magnitude(power)


def test_the_same_seed_gives_the_same_noise_whatever_the_weights(residual):
    net, graph = residual
    first = scores(Random(seed=4), net, graph)
    with torch.no_grad():
        net.stem.weight.zero_()
    torch.manual_seed(99)
    again, other = scores(Random(seed=4), net, graph), scores(Random(seed=5), net, graph)
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not any(torch.equal(first[name], other[name]) for name in first)


def test_noise_leaves_the_random_numbers_of_the_training_alone(residual):
    torch.manual_seed(0)
    expected = torch.rand(3)
    torch.manual_seed(0)
    scores(Random(), *residual)
    assert torch.equal(torch.rand(3), expected)


@pytest.mark.parametrize("criterion", [Magnitude(), Magnitude(2), Random()], ids=["l1", "l2", "random"])
def test_scores_are_one_double_per_channel_on_the_cpu(residual, criterion):
    net, graph = residual
    found = scores(criterion, net.half(), graph)
    assert {name: values.shape for name, values in found.items()} == {g.name: (g.size,) for g in graph.prunable}
    assert all(values.dtype == torch.float64 and values.device.type == "cpu" for values in found.values())


def test_what_is_selected_from_a_stream_is_measured_by_the_weights_that_read_it():
    net = preresnet(11)
    graph = trace(net, torch.zeros(1, 3, 32, 32))
    (group,) = [group for group in graph.prunable if group.name == "layer1.0.select"]
    scores = Magnitude().scores(Scoring(net, graph, [group]))
    torch.testing.assert_close(scores[group.name], net.layer1[0].conv1.weight.detach().double().abs().sum((0, 2, 3)))
