"""Never wrong in silence, never half-cut: what cannot be narrowed exactly is refused, and the model is as it was."""

import copy

import pytest
import torch
from torch import nn

from pruning_lit.channels import narrow, trace


class Literal(nn.Module):
    """A channel number written into forward."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.kind = kind
        self.first, self.left, self.right = nn.Conv2d(3, 16, 1), nn.Conv2d(8, 4, 1), nn.Conv2d(8, 4, 1)

    def forward(self, x):
        x = self.first(x)
        if self.kind == "slice":
            left, right = x[:, :8], x[:, 8:]
        elif self.kind == "split":
            left, right = x.split([8, 8], dim=1)
        elif self.kind == "view":
            left, right = x.view(len(x), 2, 8, *x.shape[2:]).unbind(1)
        else:  # a channel shuffle
            x = x.view(len(x), 2, 8, *x.shape[2:]).transpose(1, 2).reshape(x.shape)
            left, right = x.chunk(2, dim=1)
        return (self.left(left) + self.right(right)).mean((2, 3))


@pytest.mark.parametrize("kind", ["slice", "split", "view", "shuffle"])
def test_a_literal_channel_number_is_found_before_anything_is_cut(kind):
    net = Literal(kind)
    graph = trace(net, torch.zeros(1, 3, 4, 4))
    before, layers = copy.deepcopy(net.state_dict()), repr(net)
    group = graph.prunable[0]
    with pytest.raises(ValueError, match="narrower"):
        narrow(net, graph, {group.name: range(1, group.size)})
    assert repr(net) == layers
    assert all(torch.equal(tensor, before[name]) for name, tensor in net.state_dict().items())


@pytest.mark.parametrize(
    ("kept", "told"),
    [
        ({"first": []}, "cannot be emptied"),
        ({"first": [3, 1]}, "ascending"),
        ({"first": [1, 1]}, "ascending"),
        ({"first": [0, 16]}, r"16 channels \(0…15\)"),
        ({"nothing": [0]}, "no channel group is called 'nothing'"),
        ({"last": [0]}, "protected: it leaves the model"),
    ],
)
def test_a_choice_that_does_not_fit_is_refused(kept, told):
    net = nn.Sequential()
    net.add_module("first", nn.Conv2d(3, 16, 1))
    net.add_module("last", nn.Conv2d(16, 2, 1))
    graph = trace(net, torch.zeros(1, 3, 4, 4))
    with pytest.raises(ValueError, match=told):
        narrow(net, graph, kept)
    assert net.first.out_channels == 16
