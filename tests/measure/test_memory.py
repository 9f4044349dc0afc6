"""Memory of a forward pass, as counted on a CPU."""

import pytest
import torch
from torch import nn

from pruning_lit.measure.memory import peak_memory

FLOAT = 4  # bytes


def test_peak_is_weights_images_and_what_lives_beside_them():
    net = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 2, 1), nn.Flatten())
    weights = 8 * 3 * 9 + 8 + 2 * 8 + 2
    for size in (1, 5):
        maps = 2 * 8 * 6 * 6  # what the ReLU reads and what it gives; the images are still the caller's
        assert peak_memory(net, torch.zeros(size, 3, 6, 6)) == FLOAT * (weights + size * (3 * 6 * 6 + maps))


def test_views_and_results_in_place_take_no_room():
    class Net(nn.Module):
        def __init__(self, in_place: bool) -> None:
            super().__init__()
            self.linear, self.in_place = nn.Linear(4, 4), in_place

        def forward(self, x):
            x = self.linear(x)
            return (x.relu_() if self.in_place else x.relu()).view(-1, 2)[:, :1]

    x = torch.zeros(10, 4)
    once = FLOAT * (4 * 4 + 4 + 40 + 40)
    assert peak_memory(Net(in_place=True), x) == once
    assert peak_memory(Net(in_place=False), x) == once + FLOAT * 40


def test_what_is_held_for_later_counts():
    class Shortcut(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.scale = nn.Parameter(torch.ones(1))

        def forward(self, x):
            held = x * self.scale
            return held + (held * 2).exp()

    # held, twice held and its exponential; then held, the exponential and the sum
    assert peak_memory(Shortcut(), torch.zeros(100)) == FLOAT * (1 + 100 + 3 * 100)


def test_measuring_changes_nothing():
    net = nn.Sequential(nn.BatchNorm2d(3), nn.Dropout(0.5)).train()
    before = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    assert peak_memory(net, torch.rand(2, 3, 4, 4)) == peak_memory(net, torch.rand(2, 3, 4, 4))
    assert net.training
    assert net[0].training
    assert all(torch.equal(before[name], tensor) for name, tensor in net.state_dict().items())


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_gpu_counts_at_least_weights_and_images():
    net = nn.Conv2d(3, 64, 3).cuda()
    assert peak_memory(net, torch.zeros(8, 3, 64, 64)) >= FLOAT * (64 * 3 * 9 + 64 + 8 * 64 * 62 * 62)
