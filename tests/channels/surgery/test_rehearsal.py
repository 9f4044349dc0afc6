"""What a narrower model does is held against what the whole one did, before anything is cut."""

import copy

import pytest
import torch
from torch import Tensor, nn

from pruning_lit.channels import narrow, trace
from pruning_lit.channels.surgery.rehearsal_tracers import Rehearsal, without
from pruning_lit.channels.tracing.tracer import Tracer
from tests.channels.constructions import Built, Halves, LiteralSplit, LiteralTail, Residual, WidthScale

IMAGE = torch.zeros(1, 3, 6, 6)


class NotThree(Built):
    """Does something else to three channels: no probe with other widths can know."""

    def between(self, x: Tensor) -> Tensor:
        return x.relu() if x.shape[1] != 3 else x.relu() * 2


class Squeezed(Built):
    """Loses a dimension when a single channel is left."""

    def between(self, x: Tensor) -> Tensor:
        return x.squeeze()[None] if x.shape[0] == 1 else x


class NeedsData(Residual):
    """Looks at values, as detectors do: it cannot be run without them."""

    def forward(self, image: Tensor) -> Tensor:
        return super().forward(image if bool((image < 1e9).all()) else -image)


class NeedsDataLiteral(LiteralTail):
    def forward(self, image: Tensor) -> Tensor:
        return super().forward(image if bool((image < 1e9).all()) else -image)


@pytest.mark.parametrize(("network", "kept"), [(NotThree, [0, 3, 4]), (Squeezed, [5])])
def test_a_cut_that_does_not_pass_is_refused_with_the_groups_and_the_model_is_untouched(network, kept):
    net = network().eval()
    graph = trace(net, IMAGE)
    before, layers = copy.deepcopy(net.state_dict()), repr(net)
    objects = [id(tensor) for tensor in net.state_dict(keep_vars=True).values()]
    with pytest.raises(ValueError, match=r"nothing was cut, concerned are the groups \['first'\]") as refusal:
        narrow(net, graph, {"first": kept, "last": [0, 1]})
    assert "\n" not in str(refusal.value)
    assert objects == [id(tensor) for tensor in net.state_dict(keep_vars=True).values()]
    assert all(torch.equal(tensor, before[name]) for name, tensor in net.state_dict().items())
    assert repr(net) == layers
    narrow(net, graph, {"first": [0, 3, 4, 5], "last": [0, 1]})
    assert net(IMAGE).shape == (1, 4)


def test_a_model_that_needs_data_is_rehearsed_with_data():
    net = NeedsData().eval()
    graph = trace(net, IMAGE)
    assert graph["first"].protected is None
    assert not graph.transcript.on_meta
    narrow(net, graph, {"first": [0, 3]})
    assert net(IMAGE).shape == (1, 4)


def test_a_literal_in_a_model_that_needs_data_is_found():
    graph = trace(NeedsDataLiteral().eval(), IMAGE)
    widths = sorted((group.size, bool(group.protected)) for group in graph.groups if "first" in group.writers)
    assert widths == [(3, True), (5, False)]


def test_a_fixed_number_protects_and_says_where():
    reason = trace(LiteralSplit().eval(), IMAGE)["first"].protected
    assert reason == "the model takes it apart at a fixed channel number (split_with_sizes)"
    assert trace(WidthScale().eval(), IMAGE)["first"].protected == (
        "a number behind it depends on the number of channels (mul)"
    )


def test_the_other_groups_of_a_network_with_fixed_numbers_can_be_cut():
    net = LiteralSplit().eval()
    narrow(net, trace(net, IMAGE), {"last": [0, 3]})
    assert net(IMAGE).shape == (1, 4)


class ChoosesByWidth(nn.Module):
    """Two layers of one shape, added; then one of them again, which depends on the width."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.one, self.other, self.head = (nn.Conv2d(i, o, 1) for i, o in ((3, 8), (8, 8), (8, 8), (8, 2)))

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        x = self.one(x) + self.other(x)
        return self.head((self.one if x.shape[1] == 8 else self.other)(x))


def test_another_layer_of_the_same_shape_is_not_taken_for_the_one_that_was_run():
    graph = trace(ChoosesByWidth(), torch.rand(1, 3, 4, 4))
    assert not graph.prunable


def test_rules_are_not_asked_again_for_layers_that_are_as_they_were(monkeypatch):
    net = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 8, 3), nn.AvgPool2d(2))
    asked: list[str] = []
    follow = Tracer._follow
    monkeypatch.setattr(Rehearsal, "_follow", lambda self, *step: asked.append(str(step[0])) or follow(self, *step))
    trace(net, torch.rand(1, 3, 8, 8))
    assert asked == ["aten.conv2d.default"]  # the first, which reads what has no channels


def test_halves_lose_equally_much():
    net = Halves().eval()
    graph = trace(net, IMAGE)
    assert [piece.positions.tolist() for piece in graph["first"].slices if piece.tensor == "first.weight"] == [
        [[0, 4], [1, 5], [2, 6], [3, 7]]
    ]
    assert graph["first"].multiplicity == 2
    narrow(net, graph, {"first": [1, 2]})
    assert net.first.weight.shape[0] == 4


def test_a_model_that_was_moved_after_its_trace_is_rehearsed_where_it_is():
    net = Residual().eval()
    graph = trace(net, IMAGE)
    net.double()
    narrow(net, graph, {"last": [0, 1]})
    assert net(IMAGE.double()).shape == (1, 4)


def test_nothing_is_copied_and_no_device_changes():
    net = Residual().eval()
    tensors = [id(tensor) for tensor in net.state_dict(keep_vars=True).values()]
    trace(net, IMAGE)
    assert [id(tensor) for tensor in net.state_dict(keep_vars=True).values()] == tensors
    assert all(isinstance(module, nn.Module) and not module._forward_hooks for module in net.modules())


@pytest.mark.parametrize(
    ("before", "removed", "now", "same"),
    [
        ([0, 1, 2, 3], [1], [0, 2, 3], True),
        ([0, 1, 2, 3], [1], [0, 1, 2], False),
        ([0, -1, 2], [0], [-1, 2], True),
        ([[0, 1, 2], [3, 4, 5]], [1, 4], [[0, 2], [3, 5]], True),
        ([[0, 1, 2], [3, 4, 5]], [1, 3], [[0, 2], [4, 5]], True),
        ([[0, 1, 2], [3, 4, 5]], [0, 1, 2], [[3, 4, 5]], True),
        ([[0, 1, 2], [3, 4, 5]], [0, 1, 3, 5], [[2, 4]], False),
        ([[0, 1], [2, 3], [4, 5]], [0, 1], [[2, 3, 4, 5]], False),
    ],
)
def test_a_run_without_the_removed(before, removed, now, same):
    gone = torch.zeros(7, dtype=torch.bool)
    gone[removed] = True
    assert without(torch.tensor(before), gone, torch.tensor(now)) is same
