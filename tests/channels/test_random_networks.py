"""On networks nobody thought of: narrowed = masked, and counted = real; or refused, never wrong."""

import copy
import os
import random
from collections import Counter
from collections.abc import Callable

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional as F

from pruning_lit.channels import ChannelGroup, cost, mask, narrow, trace, verify
from tests.channels.chance import randomise
from tests.channels.constructions import shuffled


def conv(inputs: int, outputs: int, kernel: int = 3, groups: int = 1) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2, groups=groups)


class Block(nn.Module):
    """One way to go on from ``width`` channels; ``self.width`` afterwards."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.given = self.width = width
        self.norm = nn.BatchNorm2d(width)
        self.build(width)

    def build(self, width: int) -> None:
        self.conv = conv(width, width)


class Plain(Block):
    def forward(self, x: Tensor) -> Tensor:
        return self.norm(self.conv(x)).relu()


class Residual(Block):
    def forward(self, x: Tensor) -> Tensor:
        return (x + self.norm(self.conv(x))).relu()


class Concat(Block):
    def build(self, width: int) -> None:
        self.conv, self.width = conv(width, 3), width + 3

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([self.norm(x), self.conv(x).relu()], 1)


class Depthwise(Block):
    def build(self, width: int) -> None:
        self.conv, self.width = conv(width, 2 * width, groups=width), 2 * width

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(self.norm(x)).relu()


class Squeeze(Block):
    def build(self, width: int) -> None:
        self.gate = conv(width, width, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(x) * self.gate(x.mean((2, 3), keepdim=True)).sigmoid()


class Mirrored(Block):
    def build(self, width: int) -> None:
        self.width = 2 * width

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([self.norm(x), -x], 1).relu()


class Split(Block):
    """One half is convolved."""

    def build(self, width: int) -> None:
        self.conv = conv(width // 2, width // 2) if width % 2 == 0 else None

    def forward(self, x: Tensor) -> Tensor:
        if self.conv is None:
            return self.norm(x)
        one, other = self.norm(x).chunk(2, 1)
        return torch.cat([one, self.conv(other).relu()], 1)


class Grouped(Block):
    def build(self, width: int) -> None:
        self.conv = conv(width, width, groups=2 if width % 2 == 0 else 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(self.norm(x)).relu()


class Shuffle(Block):
    def forward(self, x: Tensor) -> Tensor:
        x = self.norm(self.conv(x))
        return shuffled(x) if self.given % 2 == 0 else x


class Gate(Block):
    def build(self, width: int) -> None:
        self.conv = conv(width, 2 * width)

    def forward(self, x: Tensor) -> Tensor:
        return F.glu(self.conv(self.norm(x)), 1)


class Attention(Block):
    """A map of one channel, and pixels of length one."""

    def build(self, width: int) -> None:
        self.conv = conv(width, 1)

    def forward(self, x: Tensor) -> Tensor:
        return F.normalize(self.norm(x) * self.conv(x).sigmoid(), dim=1)


class Maxout(Block):
    def build(self, width: int) -> None:
        self.conv = conv(width, 2 * width)

    def forward(self, x: Tensor) -> Tensor:
        b, c, h, w = (y := self.conv(x)).shape
        return self.norm(y.view(b, 2, c // 2, h, w).amax(1))


class Literal(Block):
    """The last channel is treated differently, by its number."""

    def forward(self, x: Tensor) -> Tensor:
        x = self.norm(self.conv(x))
        return torch.cat([x[:, : self.given - 1], x[:, self.given - 1 :].tanh()], 1)


class Parts(Block):
    """A list of the module says how many channels are convolved, and how many are not."""

    def build(self, width: int) -> None:
        self.parts = [width // 2, width - width // 2]
        self.conv = conv(width // 2, width // 2)

    def forward(self, x: Tensor) -> Tensor:
        one, other = self.norm(x).split(self.parts, 1)
        return torch.cat([self.conv(one).relu(), other], 1)


class Rest(Block):
    """A number of the module says how many channels are convolved."""

    def build(self, width: int) -> None:
        self.part = max(1, width // 3)
        self.conv = conv(self.part, self.part)

    def forward(self, x: Tensor) -> Tensor:
        x = self.norm(x)
        return torch.cat([self.conv(x[:, : self.part]).relu(), x[:, self.part :]], 1)


class Doubled(Block):
    """Twice as many channels as a number of the module says are convolved."""

    def build(self, width: int) -> None:
        self.part = max(1, width // 4)
        self.conv = conv(min(width, 2 * self.part), min(width, 2 * self.part))

    def forward(self, x: Tensor) -> Tensor:
        x = self.norm(x)
        return torch.cat([self.conv(x[:, : 2 * self.part]).relu(), x[:, 2 * self.part :]], 1)


class Padded(Block):
    def build(self, width: int) -> None:
        self.conv, self.width = conv(width, width + 2), width + 2

    def forward(self, x: Tensor) -> Tensor:
        return (F.pad(self.norm(x), (0, 0, 0, 0, 1, 1)) + self.conv(x)).relu()


BLOCKS: tuple[Callable[[int], Block], ...] = (
    Plain, Residual, Concat, Depthwise, Squeeze, Mirrored, Split, Grouped, Shuffle, Gate, Attention, Maxout, Literal,
    Padded, Parts, Rest, Doubled,
)  # fmt: skip


class LiteralInTraining(Block):
    """The first channel is treated differently, in training only."""

    def forward(self, x: Tensor) -> Tensor:
        x = self.norm(self.conv(x))
        return torch.cat([x[:, :1] * 2, x[:, 1:]], 1) if self.training else x


class BranchInTraining(Block):
    """A part of the sum runs in training only, and is dropped there at random."""

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(x) + self.conv(x) if self.training and bool(torch.rand(()) < 0.8) else self.norm(x)


class StochasticDepth(Block):
    def forward(self, x: Tensor) -> Tensor:
        if self.training and random.random() < 0.3:
            return x
        return x + F.dropout(self.norm(self.conv(x)), 0.2, self.training)


class Anchored(Block):
    """Remembers what it makes for a size of map."""

    anchors: Tensor | None = None

    def forward(self, x: Tensor) -> Tensor:
        if self.anchors is None or self.anchors.shape[-2:] != x.shape[-2:]:
            self.anchors = x.new_ones(1, 1, *x.shape[-2:]) + 1
        return self.norm(self.conv(x)) / self.anchors


class Keeps(Block):
    """Keeps its result, for whomever."""

    def forward(self, x: Tensor) -> Tensor:
        self.map = self.norm(self.conv(x))
        return self.map.relu()


class Unread(Block):
    """Has a layer whose result goes nowhere."""

    def build(self, width: int) -> None:
        self.conv, self.unread = conv(width, width), conv(width, 2)

    def forward(self, x: Tensor) -> Tensor:
        self.unread(x)
        return self.norm(self.conv(x))


class Auxiliary(Block):
    """A head of two classes that a list collects: always run, or in training only."""

    returned: list[Tensor]
    always = True

    def build(self, width: int) -> None:
        self.conv, self.aux = conv(width, width), nn.Sequential(conv(width, 3), nn.ReLU(), conv(3, 2))

    def forward(self, x: Tensor) -> Tensor:
        x = self.norm(self.conv(x))
        if self.always or self.training:
            aux = self.aux(x).mean((2, 3))
            if self.training:
                self.returned.append(aux)
        return x.relu()


class AuxiliaryInTraining(Auxiliary):
    always = False


#: Blocks that do something else in training, remember, or have more results than the next block reads.
OTHER_BLOCKS: tuple[Callable[[int], Block], ...] = (
    LiteralInTraining, BranchInTraining, StochasticDepth, Anchored, Keeps, Unread, Auxiliary, AuxiliaryInTraining,
)  # fmt: skip


class Result:
    """What a network returns, in fields."""

    __slots__ = ("auxiliary", "logits")

    def __init__(self, logits: Tensor, auxiliary: list[Tensor]) -> None:
        self.logits, self.auxiliary = logits, auxiliary


class Random(nn.Module):
    def __init__(self, kinds: list[Callable[[int], Block]], width: int) -> None:
        super().__init__()
        self.stem, blocks = conv(3, width), []
        for kind in kinds:
            blocks.append(kind(width))
            width = blocks[-1].width
        self.blocks, self.head = nn.Sequential(*blocks), nn.Linear(4 * width, 3)

    def forward(self, x: Tensor) -> Tensor | Result:
        auxiliary: list[Tensor] = []
        for block in self.blocks:
            if isinstance(block, Auxiliary):
                block.returned = auxiliary
        logits = self.head(F.adaptive_avg_pool2d(self.blocks(self.stem(x)), 2).flatten(1))
        for block in self.blocks:
            vars(block).pop("returned", None)
        return Result(logits, auxiliary) if self.training else logits


def require_exact(kinds: list[Callable[[int], Block]], width: int, data: st.DataObject) -> tuple[ChannelGroup, ...]:
    torch.manual_seed(0)
    net = randomise(Random(kinds, width)).double()
    images = torch.randn(2, 3, 6, 6, dtype=torch.float64)
    graph = trace(net, images)
    kept = {
        group.name: sorted(data.draw(st.sets(st.integers(0, group.size - 1), min_size=1), label=group.name))
        for group in graph.prunable
    }
    narrowed, masked = copy.deepcopy(net), copy.deepcopy(net)
    narrow(narrowed, graph, kept)
    mask(masked, graph, kept)
    assert verify(narrowed, masked, images) < 1e-10
    assert verify(narrowed, masked, images, training=True) < 1e-10
    assert cost(graph, kept) == cost(trace(narrowed, images))
    assert cost(graph, kept).params == sum(parameter.numel() for parameter in narrowed.parameters())
    assert all(group.protected for group in graph.groups if group not in graph.prunable)
    return graph.groups


networks = given(st.lists(st.sampled_from(BLOCKS), min_size=1, max_size=5), st.integers(2, 6), st.data())
both = st.lists(st.one_of(st.sampled_from(OTHER_BLOCKS), st.sampled_from(BLOCKS)), min_size=2, max_size=4)
quietly = {"deadline": None, "derandomize": True, "suppress_health_check": [HealthCheck.too_slow]}
#: How many networks that no other run has seen are tried as well: `NETWORKS=500 pytest <this file> -k fresh -s`.
FRESH = int(os.environ.get("NETWORKS", "0"))


@settings(max_examples=12, **quietly)
@networks
def test_any_choice_of_channels_is_cut_exactly(kinds, width, data):
    require_exact(kinds, width, data)


@settings(max_examples=8, **quietly)
@given(both, st.integers(2, 5), st.data())
def test_a_network_that_trains_remembers_and_returns_in_its_own_way_is_cut_exactly_in_both_modes(kinds, width, data):
    require_exact(kinds, width, data)


@pytest.mark.slow
@pytest.mark.timeout(1200)
@settings(max_examples=30, **quietly)
@given(st.lists(st.sampled_from(BLOCKS), min_size=2, max_size=8), st.integers(2, 9), st.data())
def test_any_choice_of_channels_is_cut_exactly_also_in_deeper_networks(kinds, width, data):
    require_exact(kinds, width, data)


@pytest.mark.slow
@pytest.mark.timeout(0)
@pytest.mark.skipif(not FRESH, reason="NETWORKS says how many fresh networks are tried")
def test_fresh_networks_are_cut_exactly_in_both_modes():
    counted: Counter[str] = Counter()

    @settings(max_examples=max(1, FRESH), deadline=None, suppress_health_check=[*HealthCheck], database=None)
    @given(st.lists(st.one_of(st.sampled_from(OTHER_BLOCKS), st.sampled_from(BLOCKS)), min_size=2, max_size=7),
           st.integers(2, 9), st.data())  # fmt: skip
    def look(kinds, width, data):
        groups = require_exact(kinds, width, data)
        counted.update({"networks": 1, "groups": len(groups), "prunable": sum(not each.protected for each in groups)})

    look()
    print(dict(counted))
    assert counted["networks"] >= FRESH
    assert counted["prunable"] > 0
