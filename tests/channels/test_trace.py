"""What one forward pass finds: groups, where they sit, who makes and reads them, and why some may not go."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from pruning_lit.channels import cost, trace
from pruning_lit.models import cifar_resnet

PICTURE = torch.zeros(1, 3, 32, 32)


def placed(group) -> set[tuple[str, int]]:
    return {(piece.tensor, piece.dim) for piece in group.slices}


def test_the_groups_of_a_resnet():
    graph = trace(cifar_resnet(8), PICTURE)
    assert [(g.name, g.size) for g in graph.groups] == [
        ("conv1", 16), ("layer1.0.conv1", 16), ("layer1.0.conv2", 16), ("layer2.0.conv1", 32), ("layer2.0.conv2", 32),
        ("layer3.0.conv1", 64), ("layer3.0.conv2", 64), ("linear", 10),
    ]  # fmt: skip
    assert [g.name for g in graph.groups if g.protected] == ["linear"]
    assert graph["linear"].protected == "it leaves the model"
    assert graph["layer1.0.conv2"].readers == ("layer2.0.conv1",)
    assert ("layer1.0.shortcut.source", 0) in placed(graph["layer1.0.conv2"])
    assert ("layer1.0.shortcut.source", 0) not in placed(graph["conv1"])
    assert graph.entries == ("conv1",)


def test_a_tied_stem_joins_the_stream_of_the_first_stage():
    graph = trace(cifar_resnet(20, stem="tied"), PICTURE)
    assert graph["conv1"].writers == ("conv1", "layer1.0.conv2", "layer1.1.conv2", "layer1.2.conv2")
    assert len(graph["conv1"].taps) == 4


def test_tracing_changes_nothing():
    net = cifar_resnet(8).train()
    net.layer1.eval()  # a part that somebody has frozen
    before = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    trace(net, PICTURE)
    assert net.training
    assert not net.layer1.training
    assert all(torch.equal(tensor, before[name]) for name, tensor in net.state_dict().items())
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in net.modules())


class Constructions(nn.Module):
    """In-place ReLU, concatenation, depthwise and grouped convolutions, a layer used twice, PReLU, flattening."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(inplace=True))
        self.left, self.right = nn.Conv2d(8, 6, 1), nn.Conv2d(8, 4, 1)
        self.depthwise = nn.Conv2d(10, 10, 3, padding=1, groups=10)
        self.grouped = nn.Conv2d(10, 6, 1, groups=2)
        self.twice = nn.Conv2d(6, 6, 3, padding=1)
        self.prelu = nn.PReLU(6)
        self.never_used = nn.Conv2d(4, 4, 1)
        self.head = nn.Linear(6 * 4 * 4, 5)

    def forward(self, x):
        x = self.stem(x)
        x = torch.cat([self.left(x), self.right(x)], dim=1)
        x = self.grouped(self.depthwise(x))
        x = self.prelu(self.twice(self.twice(x)))
        return self.head(F.max_pool2d(x, 2).flatten(1))


@pytest.fixture(scope="module")
def constructions():
    return trace(Constructions(), torch.zeros(1, 3, 8, 8))


def test_normalisation_follows_its_convolution(constructions):
    assert placed(constructions["stem.0"]) == {
        ("stem.0.weight", 0), ("stem.0.bias", 0), ("stem.1.weight", 0), ("stem.1.bias", 0),
        ("stem.1.running_mean", 0), ("stem.1.running_var", 0), ("left.weight", 1), ("right.weight", 1),
    }  # fmt: skip


def test_a_convolution_with_groups_loses_whole_groups_with_what_they_read(constructions):
    first, second = constructions["left#1"], constructions["left#2"]  # 5 concatenated channels in, 3 out, each
    rows = [{p.tensor: p.positions.tolist() for p in group.slices if p.dim == 0} for group in (first, second)]
    assert [each["depthwise.weight"] for each in rows] == [[[0, 1, 2, 3, 4]], [[5, 6, 7, 8, 9]]]
    assert [each["grouped.weight"] for each in rows] == [[[0, 1, 2]], [[3, 4, 5]]]
    assert second.writers[:2] == ("left", "right")
    assert rows[1]["right.weight"] == [[0, 1, 2, 3]]


def test_flattened_channels_own_all_their_pixels(constructions):
    owned = [
        p.positions.tolist()
        for g in constructions.prunable
        for p in g.slices
        if (p.tensor, p.dim) == ("head.weight", 1)
    ]
    assert owned == [[list(range(3 * 16))], [list(range(3 * 16, 6 * 16))]]


def test_a_layer_used_twice_reads_what_it_makes(constructions):
    group = next(g for g in constructions.groups if "twice" in g.writers)
    assert "twice" in group.readers
    assert ("prelu.weight", 0) in placed(group)


def test_a_layer_never_used_is_in_no_group(constructions):
    assert not any("never_used" in tensor for g in constructions.groups for tensor, _ in placed(g))


def test_macs_of_a_layer_used_twice_count_twice():
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(3, 3, 1, bias=False)

        def forward(self, x):
            return self.conv(self.conv(x))

    assert cost(trace(Twice(), torch.zeros(1, 3, 4, 4))).macs == 2 * 9 * 16


def test_what_mixes_channels_protects_them_and_says_where():
    class Mixing(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.norm, self.head = nn.Conv2d(3, 8, 1), nn.LayerNorm(8), nn.Linear(8, 2)

        def forward(self, x):
            return self.head(self.norm(self.conv(x).mean((2, 3))))

    group = trace(Mixing(), torch.zeros(1, 3, 4, 4))["conv"]
    assert group.protected is not None
    assert "layer_norm" in group.protected
    assert "'norm'" in group.protected
