"""A narrowed network goes on as the masked one would have, step by step: everything has followed the cut.

The masked network has full width; the channels to be removed are zero from the start, and stay so, because nothing
reaches them and nothing leaves them.
"""

import copy
from collections.abc import Callable, Iterable
from functools import partial

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim import SGD, Adagrad, Adam, AdamW, NAdam, Optimizer, RMSprop, lr_scheduler
from torch.optim.swa_utils import AveragedModel, get_ema_avg_fn, get_ema_multi_avg_fn

from pruning_lit.channels import ChannelGraph, Moves, carry_average, mask, migrate_optimizers, narrow, trace, widen
from pruning_lit.models import cifar_resnet

Make = Callable[[Iterable], Optimizer]

EXAMPLE = torch.zeros(1, 3, 8, 8, dtype=torch.float64)
OPTIMIZERS: dict[str, Make] = {
    "SGD": partial(SGD, lr=0.05, weight_decay=0.01),
    "SGD, momentum": partial(SGD, lr=0.02, momentum=0.9, weight_decay=0.01),
    "SGD, dampened": partial(SGD, lr=0.02, momentum=0.9, dampening=0.5, weight_decay=0.01),
    "SGD, Nesterov": partial(SGD, lr=0.02, momentum=0.9, nesterov=True, weight_decay=0.01),
    "Adam": partial(Adam, lr=0.01, weight_decay=0.01),
    "Adam, amsgrad": partial(Adam, lr=0.01, amsgrad=True),
    "Adam, one by one": partial(Adam, lr=0.01, foreach=False),
    "AdamW": partial(AdamW, lr=0.01, weight_decay=0.1),
    "AdamW, amsgrad": partial(AdamW, lr=0.01, amsgrad=True),
    "AdamW, fused": partial(AdamW, lr=0.01, fused=True),
    "NAdam": partial(NAdam, lr=0.01),
    "RMSprop": partial(RMSprop, lr=0.01),
    "RMSprop, centered, momentum": partial(RMSprop, lr=0.005, momentum=0.9, centered=True),
    "Adagrad": partial(Adagrad, lr=0.02, initial_accumulator_value=0.1),
}
every_optimizer = pytest.mark.parametrize("make", OPTIMIZERS.values(), ids=OPTIMIZERS.keys())


def chosen(graph: ChannelGraph) -> dict[str, list[int]]:
    """Five channels in eight of every group, streams included."""
    return {group.name: [c for c in range(group.size) if c % 8 in (0, 2, 3, 5, 7)] for group in graph.prunable}


class Pair:
    """A masked network and its optimizer, and after ``cut`` the narrowed one beside it."""

    def __init__(self, make: Make, groups: Callable[[nn.Module], Iterable] = nn.Module.parameters) -> None:
        torch.manual_seed(0)
        self.masked = cifar_resnet(8).double()
        self.graph = trace(self.masked, EXAMPLE)
        self.kept = chosen(self.graph)
        mask(self.masked, self.graph, self.kept)
        self.make, self.groups = make, groups
        self.masked_optimizer = make(groups(self.masked))
        self.moves: Moves = {}

    def cut(self) -> None:
        """Narrow a copy, with an optimizer of the same memory."""
        self.net = copy.deepcopy(self.masked)
        self.optimizer = self.make(self.groups(self.net))
        self.optimizer.load_state_dict(copy.deepcopy(self.masked_optimizer.state_dict()))
        self.moves = narrow(self.net, self.graph, self.kept)
        migrate_optimizers([self.optimizer], self.moves)

    def gathered(self, tensors: Iterable[tuple[str, Tensor]]) -> dict[str, Tensor]:
        return {name: self.moves[name].gather(t.detach()) if name in self.moves else t.detach() for name, t in tensors}

    def assert_alike(self) -> None:
        expected = self.gathered(self.masked.state_dict().items())
        for name, tensor in self.net.state_dict().items():
            if not name.endswith("source"):
                torch.testing.assert_close(tensor, expected[name], rtol=1e-8, atol=1e-10, msg=lambda m, n=name: n + m)

    def assert_removed_channels_zero(self) -> None:
        """Otherwise the masked network is no yardstick."""
        for name, parameter in self.masked.named_parameters():
            if name in self.moves:
                index = self.moves[name].index
                inside = torch.zeros_like(parameter, dtype=torch.bool)
                places = [index.get(dim, torch.arange(size)) for dim, size in enumerate(parameter.shape)]
                inside[torch.meshgrid(*places, indexing="ij")] = True
                assert parameter[~inside].count_nonzero() == 0


def step(net: nn.Module, optimizer: Optimizer, number: int) -> None:
    random = torch.Generator().manual_seed(number)
    images = torch.randn(6, 3, 8, 8, generator=random, dtype=torch.float64)
    target = torch.randint(0, 10, (6,), generator=random)
    optimizer.zero_grad()
    F.cross_entropy(net.train()(images), target).backward()
    optimizer.step()


@pytest.mark.at_once(3)
@every_optimizer
def test_the_narrowed_network_goes_on_as_the_masked_one(make):
    pair = Pair(make)
    for number in range(3):
        step(pair.masked, pair.masked_optimizer, number)
    pair.cut()
    pair.assert_removed_channels_zero()
    for number in range(3, 6):
        step(pair.masked, pair.masked_optimizer, number)
        step(pair.net, pair.optimizer, number)
        pair.assert_alike()
    assert len(pair.moves) > 20  # that much was narrowed


def by_kind(net: nn.Module) -> list[dict]:
    """Groups with settings of their own, the last of them of a part of the network."""
    linear = list(net.linear.parameters())
    rest = [parameter for name, parameter in net.named_parameters() if not name.startswith("linear")]
    return [
        {"params": [p for p in rest if p.ndim > 1], "weight_decay": 0.1},
        {"params": [p for p in rest if p.ndim == 1], "lr": 0.005, "momentum": 0.5},
        {"params": linear, "lr": 0.05, "nesterov": True},
    ]


SCHEDULES: dict[str, Callable] = {
    "cosine": lambda optimizer: lr_scheduler.CosineAnnealingLR(optimizer, 6),
    "one cycle": lambda optimizer: lr_scheduler.OneCycleLR(optimizer, [0.02, 0.01, 0.05], total_steps=8),
    "warm-up": lambda optimizer: lr_scheduler.SequentialLR(
        optimizer,
        [lr_scheduler.LinearLR(optimizer, 0.1, total_iters=4), lr_scheduler.ExponentialLR(optimizer, 0.5)],
        [4],
    ),
}


@pytest.mark.parametrize("schedule", SCHEDULES.values(), ids=SCHEDULES.keys())
def test_parameter_groups_and_a_schedule_attached_before_the_cut_go_on(schedule):
    pair = Pair(partial(SGD, lr=0.02, momentum=0.9), by_kind)
    scheduler = schedule(pair.masked_optimizer)
    for number in range(3):
        step(pair.masked, pair.masked_optimizer, number)
        scheduler.step()
    uncut = copy.deepcopy((pair.masked, pair.masked_optimizer, scheduler))  # one deep copy: they belong together
    pair.net, pair.optimizer = pair.masked, pair.masked_optimizer
    pair.moves = narrow(pair.net, pair.graph, pair.kept)
    migrate_optimizers([pair.optimizer], pair.moves)
    pair.masked, pair.masked_optimizer, uncut_scheduler = uncut
    for number in range(3, 6):
        rates = [
            [(group["lr"], group["momentum"], group["weight_decay"], group["nesterov"]) for group in one.param_groups]
            for one in (pair.masked_optimizer, pair.optimizer)
        ]
        assert rates[0] == rates[1]
        step(pair.masked, pair.masked_optimizer, number)
        step(pair.net, pair.optimizer, number)
        uncut_scheduler.step()
        scheduler.step()
        pair.assert_alike()


AVERAGES: dict[str, dict] = {
    "exponential": {"avg_fn": get_ema_avg_fn(0.5)},
    "exponential, many at once": {"multi_avg_fn": get_ema_multi_avg_fn(0.5)},
    "equal weights": {},
    "exponential, buffers too": {"multi_avg_fn": get_ema_multi_avg_fn(0.5), "use_buffers": True},
}


@pytest.mark.at_once(2)
@pytest.mark.parametrize("options", AVERAGES.values(), ids=AVERAGES.keys())
def test_averages_go_on(options):
    pair = Pair(partial(SGD, lr=0.02, momentum=0.9))
    masked_average = AveragedModel(pair.masked, **options)
    for number in range(3):
        step(pair.masked, pair.masked_optimizer, number)
        masked_average.update_parameters(pair.masked)
    pair.cut()
    average = copy.deepcopy(masked_average)
    carry_average(average.module, pair.moves)
    assert repr(average.module) == repr(pair.net)
    for number in range(3, 6):
        for net, optimizer, averaged in (
            (pair.masked, pair.masked_optimizer, masked_average),
            (pair.net, pair.optimizer, average),
        ):
            step(net, optimizer, number)
            averaged.update_parameters(net)
    images = torch.randn(2, 3, 8, 8, dtype=torch.float64)
    torch.testing.assert_close(average.eval()(images), masked_average.eval()(images), rtol=1e-8, atol=1e-10)
    expected = pair.gathered(masked_average.module.state_dict().items())
    for name, tensor in average.module.state_dict().items():
        if not name.endswith("source"):
            torch.testing.assert_close(tensor, expected[name], rtol=1e-8, atol=1e-10)


def test_frozen_parameters_stay_frozen():
    pair = Pair(partial(SGD, lr=0.02, momentum=0.9))
    for parameter in pair.masked.layer1.parameters():
        parameter.requires_grad_(False)
    step(pair.masked, pair.masked_optimizer, 0)
    pair.cut()
    assert {name for name, p in pair.net.named_parameters() if not p.requires_grad} == {
        f"layer1.{name}" for name, _ in pair.net.layer1.named_parameters()
    }
    step(pair.masked, pair.masked_optimizer, 1)
    step(pair.net, pair.optimizer, 1)
    pair.assert_alike()


def test_channels_last_networks_go_on_in_channels_last():
    pair = Pair(partial(SGD, lr=0.02, momentum=0.9))
    pair.masked.to(memory_format=torch.channels_last)
    step(pair.masked, pair.masked_optimizer, 0)
    pair.cut()
    pair.net.to(memory_format=torch.channels_last)  # what phases do after a cut
    for number in (1, 2):
        step(pair.masked, pair.masked_optimizer, number)
        step(pair.net, pair.optimizer, number)
        pair.assert_alike()
    for parameter in pair.net.parameters():
        momentum = pair.optimizer.state[parameter]["momentum_buffer"]
        assert momentum.stride() == parameter.stride()


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_precisions_of_parameters_buffers_and_state_stay(dtype):
    net = cifar_resnet(8).to(dtype)
    optimizer = Adam(net.parameters(), lr=0.01)
    for parameter in net.parameters():
        parameter.grad = torch.ones_like(parameter)
    optimizer.step()
    graph = trace(net, EXAMPLE.to(dtype))
    migrate_optimizers([optimizer], narrow(net, graph, chosen(graph)))
    state = [*net.state_dict().items(), *((key, v) for s in optimizer.state.values() for key, v in s.items())]
    for name, tensor in state:
        if tensor.ndim > 0 and not name.endswith("source"):
            assert tensor.dtype == dtype, name


@pytest.mark.at_once(1)
@every_optimizer
def test_several_cuts_leave_the_memory_of_one(make):
    """Down to the kept of the kept, in two steps or in one: the same weights, buffers and states, bit for bit."""
    once = Pair(make)
    step(once.masked, once.masked_optimizer, 0)
    twice = copy.deepcopy(once)
    first = {name: [c for c in range(twice.graph[name].size) if c % 8 != 1] for name in once.kept}
    twice.kept = first
    once.cut()
    twice.cut()
    then = {name: [first[name].index(c) for c in kept] for name, kept in once.kept.items()}
    migrate_optimizers([twice.optimizer], narrow(twice.net, trace(twice.net, EXAMPLE), then))
    for name, tensor in once.net.state_dict().items():
        assert torch.equal(twice.net.state_dict()[name], tensor), name
    mine, theirs = (pair.optimizer.state_dict()["state"] for pair in (once, twice))
    torch.testing.assert_close(theirs, mine, rtol=0, atol=0)


def test_momentum_of_channels_that_come_back_is_zero_and_of_the_others_as_it_was():
    pair = Pair(partial(SGD, lr=0.02, momentum=0.9))
    step(pair.masked, pair.masked_optimizer, 0)
    pair.cut()
    step(pair.net, pair.optimizer, 1)
    before = {name: pair.optimizer.state[p]["momentum_buffer"].clone() for name, p in pair.net.named_parameters()}
    migrate_optimizers([pair.optimizer], widen(pair.net, pair.moves))
    for name, parameter in pair.net.named_parameters():
        momentum = pair.optimizer.state[parameter]["momentum_buffer"]
        assert momentum.shape == parameter.shape
        assert torch.equal(pair.gathered([(name, momentum)])[name], before[name])
        assert momentum.count_nonzero() == before[name].count_nonzero()
    step(pair.net, pair.optimizer, 2)  # and it trains on at full width


def test_averages_of_channels_that_come_back_begin_with_the_values_they_came_back_with():
    pair = Pair(partial(SGD, lr=0.02))
    average = AveragedModel(pair.masked)
    pair.cut()
    carry_average(average.module, pair.moves)
    step(pair.net, pair.optimizer, 0)
    values = {name: torch.full_like(move.old, 3.0) for name, move in pair.moves.items()}
    before = {name: tensor.clone() for name, tensor in average.module.state_dict().items()}
    grown = widen(pair.net, pair.moves, values)
    carry_average(average.module, grown)
    for name, tensor in average.module.state_dict().items():
        if name.endswith("source"):
            assert torch.equal(tensor, pair.net.get_buffer(name))
        elif name in grown:
            assert torch.equal(pair.gathered([(name, tensor)])[name], before[name])
            assert (tensor == 3).sum() == tensor.numel() - before[name].numel()


def test_a_memory_that_is_not_shaped_like_its_parameter_is_refused():
    net = cifar_resnet(8)
    optimizer = torch.optim.Adafactor(net.parameters())
    for parameter in net.parameters():
        parameter.grad = torch.ones_like(parameter)
    optimizer.step()
    graph = trace(net, EXAMPLE.float())
    with pytest.raises(ValueError, match=r"of Adafactor has the shape .* choose an optimizer such as SGD or AdamW"):
        migrate_optimizers([optimizer], narrow(net, graph, chosen(graph)))
