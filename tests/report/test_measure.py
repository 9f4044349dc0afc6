import time

import pytest
import torch
from torch import nn

from pruning_lit.report import compare_latency, compare_throughput, hardware, latency_ms, throughput, versions

EXAMPLE = torch.zeros(1, 3, 8, 8)


class Sleep(nn.Module):
    """Takes the given seconds; remembers who was called."""

    calls: list["Sleep"]

    def __init__(self, seconds):
        super().__init__()
        self.seconds, self.shapes = seconds, []

    def forward(self, x):
        Sleep.calls.append(self)
        self.shapes.append(tuple(x.shape))
        assert not self.training
        assert not torch.is_grad_enabled()
        time.sleep(self.seconds)
        return x


@pytest.fixture(autouse=True)
def _no_calls():
    Sleep.calls = []


def test_latency_is_the_wall_time_of_a_pass_in_milliseconds():
    assert 5 <= latency_ms(Sleep(0.005), EXAMPLE, repeats=5, warmup=1) < 50


def test_warmup_passes_are_not_timed():
    net = Sleep(0.05)
    net.register_forward_hook(lambda module, *_: setattr(module, "seconds", 0.0))
    assert latency_ms(net, EXAMPLE, repeats=3, warmup=1) < 25


def test_two_networks_are_timed_in_turns_and_each_goes_first_as_often():
    before, after = Sleep(0.004), Sleep(0.0)
    slow, fast = compare_latency(before, after, EXAMPLE, repeats=4, warmup=2)
    assert slow > fast > 0
    rounds = [Sleep.calls[i : i + 2] for i in range(0, 12, 2)]
    assert all(set(pair) == {before, after} for pair in rounds)
    assert [pair[0] for pair in rounds].count(before) == 3


def test_throughput_counts_the_pictures_of_a_batch():
    net = Sleep(0.01)
    assert 8 / 0.05 < throughput(net, EXAMPLE, batch_size=8, repeats=3, warmup=0) <= 8 / 0.01
    assert set(net.shapes) == {(8, 3, 8, 8)}
    slow, fast = compare_throughput(Sleep(0.01), Sleep(0.0), EXAMPLE, batch_size=2, repeats=3)
    assert 0 < slow < fast


def test_modes_of_every_part_are_restored_even_after_an_error():
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Dropout())
    net.train()[1].eval()  # a frozen normalisation stays frozen
    statistics = net[1].running_mean.clone()
    latency_ms(net, EXAMPLE, repeats=1)
    assert [part.training for part in net] == [True, False, True]
    assert torch.equal(net[1].running_mean, statistics)
    with pytest.raises(RuntimeError):
        latency_ms(net, torch.zeros(1, 5, 8, 8))
    assert [part.training for part in net] == [True, False, True]


def test_a_tuple_is_a_list_of_arguments():
    class Pair(nn.Module):
        def forward(self, pictures, options):
            return pictures[0] + options["shift"]

    assert latency_ms(Pair(), ([EXAMPLE], {"shift": 1}), repeats=1) > 0


def test_impossible_measurements_are_refused():
    with pytest.raises(ValueError, match="repeats=0"):
        latency_ms(nn.Identity(), EXAMPLE, repeats=0)
    with pytest.raises(ValueError, match="batch_size=0"):
        throughput(nn.Identity(), EXAMPLE, batch_size=0)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_passes_on_a_gpu_are_waited_for():
    net = nn.Sequential(*[nn.Conv2d(64, 64, 3, padding=1) for _ in range(20)]).cuda()
    small, large = torch.zeros(1, 64, 8, 8), torch.zeros(32, 64, 128, 128)
    assert latency_ms(net, large) > 2 * latency_ms(net, small)


def test_a_result_says_where_it_comes_from():
    assert "threads" in hardware()
    assert versions()["torch"].startswith(torch.__version__.split("+")[0])
