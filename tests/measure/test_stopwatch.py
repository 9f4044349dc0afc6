"""How time is measured, not how much of it: what a pass takes depends on the machine."""

import pytest
import torch
from torch import nn

from pruning_lit.measure import Latency, Stopwatch, Timing, hardware, versions
from pruning_lit.measure.stopwatch import seconds_in_turns

EXAMPLE = torch.zeros(1, 3, 8, 8)


class Watched(nn.Module):
    """Remembers in which order and with which inputs networks were called."""

    calls: list["Watched"]

    def __init__(self):
        super().__init__()
        self.shapes = []

    def forward(self, x):
        Watched.calls.append(self)
        self.shapes.append(tuple(x.shape))
        assert not self.training
        assert torch.is_inference_mode_enabled()
        return x


@pytest.fixture(autouse=True)
def _no_calls():
    Watched.calls = []


def test_a_timing_is_median_and_quartiles_in_milliseconds():
    # by hand: of 1, 2, 3, 4, 10 the middle one is 3, and a quarter lies at or below 2, at or above 4
    assert Timing.of([0.010, 0.001, 0.003, 0.002, 0.004]) == Timing(3.0, 2.0, 4.0)
    assert Timing.of([0.002]) == Timing(2.0, 2.0, 2.0)


def test_speedup_and_throughput_are_those_of_the_medians():
    latency = Latency(8, 3, Timing(6.0, 5.5, 7.0), Timing(4.0, 4.0, 5.0), "one abacus", 1)
    assert latency.speedup == 1.5
    assert latency.throughput(latency.after) == 2000.0  # 8 images in 4 ms


def test_two_networks_are_timed_in_turns_and_each_goes_first_as_often():
    before, after = Watched(), Watched()
    times = seconds_in_turns([before, after], EXAMPLE, repeats=4, warmup=2)
    assert [len(each) for each in times] == [4, 4]
    rounds = [Watched.calls[i : i + 2] for i in range(0, 12, 2)]
    assert all(set(pair) == {before, after} for pair in rounds)
    assert [pair[0] for pair in rounds].count(before) == 3


def test_a_comparison_says_batch_passes_and_machine():
    before, after = Watched(), Watched()
    found = Stopwatch(batch_size=[1, 8], repeats=5, warmup=1).compare(before, after, EXAMPLE)
    assert [(each.batch_size, each.repeats) for each in found] == [(1, 5), (8, 5)]
    assert before.shapes == after.shapes == [(1, 3, 8, 8)] * 6 + [(8, 3, 8, 8)] * 6
    for each in found:
        assert (each.device, each.threads) == (hardware(), torch.get_num_threads())
        for timing in (each.before, each.after):
            assert 0 < timing.lower_ms <= timing.median_ms <= timing.upper_ms


def test_one_batch_size_may_be_given_as_a_number():
    assert [each.batch_size for each in Stopwatch(4, repeats=1).compare(Watched(), Watched(), EXAMPLE)] == [4]


def test_a_network_too_slow_for_all_passes_still_gets_three():
    before, after = Watched(), Watched()
    (found,) = Stopwatch(1, repeats=30, warmup=5, max_seconds=0).compare(before, after, EXAMPLE)
    assert found.repeats == 3
    assert len(before.shapes) == len(after.shapes) == 4  # one of them to warm up


def test_modes_of_every_part_are_restored_even_after_an_error():
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Dropout())
    net.train()[1].eval()  # a frozen normalisation stays frozen
    statistics = net[1].running_mean.clone()
    seconds_in_turns([net], EXAMPLE, repeats=1, warmup=0)
    assert [part.training for part in net] == [True, False, True]
    assert torch.equal(net[1].running_mean, statistics)
    with pytest.raises(RuntimeError):
        seconds_in_turns([net], torch.zeros(1, 5, 8, 8), repeats=1, warmup=0)
    assert [part.training for part in net] == [True, False, True]


def test_a_tuple_is_a_list_of_arguments():
    class Pair(nn.Module):
        def forward(self, images, options):
            return images[0] + options["shift"]

    assert len(seconds_in_turns([Pair()], ([EXAMPLE], {"shift": 1}), repeats=2, warmup=0)[0]) == 2


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"repeats": 0}, "repeats is 0"),
        ({"warmup": -1}, "warmup -1"),
        ({"batch_size": 0}, "batch_size is 0"),
        ({"batch_size": [1, 2.5]}, "batch_size"),
        ({"batch_size": []}, "batch_size"),
        ({"batch_size": "many"}, "batch_size is many"),
    ],
)
def test_impossible_measurements_are_refused(settings, told):
    with pytest.raises(ValueError, match=told):
        Stopwatch(**settings)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_networks_are_measured_on_the_gpu_they_are_on():
    net = nn.Conv2d(3, 8, 3).cuda()
    (found,) = Stopwatch(2, repeats=3).compare(net, net, EXAMPLE)
    assert found.device == torch.cuda.get_device_name()


def test_a_result_says_where_it_comes_from():
    assert "threads" in hardware()
    assert versions()["torch"].startswith(torch.__version__.split("+")[0])
