"""Placement of ResRep's compactors: the layers in front of them, and the groups of channels they can prune or not."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.conv import _ConvNd, _ConvTransposeNd

from pruning_lit.channels import ChannelGraph, ChannelGroup, Placement, Producer
from pruning_lit.channels.insertion.norm_inputs import own_norms
from pruning_lit.channels.tracing.passes import owned
from pruning_lit.channels.tracing.replica import replica
from pruning_lit.channels.tracing.views import layer_of
from pruning_lit.criteria.producers import dense_producers, is_padded
from pruning_lit.methods.resrep.constants import ConstantInput, can_absorb, constant_inputs
from pruning_lit.methods.resrep.kernel_reads import layers_read_elsewhere

Policy = Literal["internal_only", "coupled"]
PADDED = (
    "a shortcut that places channels among zeros writes into them, too; build the network with projections "
    "(arch.shortcut=option_b arch.stem=tied)"
)
Row = tuple[str, int] | None  # the group and channel that an output of a layer belongs to
FEWEST_TRIALS, MOST_TRIALS, ENOUGH = 2, 16, 16  # channels of a group, in all trials together
SEVERAL = "several layers make its channels; criterion.policy=coupled gives them one compactor"


class PlacementPlan:
    """The placements of a network, and the reasons of the groups that get none.

    Args:
        net: the network, without compactors.
        graph: of it.
        policy: ``internal_only``: groups that one convolution makes; ``coupled``: also streams, one compactor for all
            layers that write into one.

    Attributes:
        placements: where compactors go, in the order of the network.
        reasons: by group, why its channels have to stay, in words.

    Source: Ding et al. 2021 (ResRep), whose release has compactors in the places of the first policy.
    """

    def __init__(self, net: nn.Module, graph: ChannelGraph, policy: Policy) -> None:
        self.net, self.graph, self.policy = net, graph, policy
        self.uses = Counter(call.weight for call in graph.calls)
        self.norms = own_norms(net, graph.example)
        self.read_elsewhere = layers_read_elsewhere(net, graph.example)
        self.rows = _rows(graph)
        self.reasons: dict[str, str] = {}
        layers = {group.name: self._layers(group) for group in graph.prunable}
        self._by_company(layers)
        self._by_trial({name: made for name, made in layers.items() if name not in self.reasons})
        self.placements = self._placements({name: made for name, made in layers.items() if name not in self.reasons})

    def _layers(self, group: ChannelGroup) -> tuple[str, ...]:
        """The weights that are to get a compactor for the sake of this group; none, and a reason, where that fails."""
        producers = dense_producers(group)
        if any(producer.places > 1 for producer in producers):
            producers = [
                producer for producer in producers if producer.places > 1
            ]  # one value for all pixels gates what others make
        reason = next((why for producer in producers if (why := self._why_not(producer)) is not None), None)
        if not producers:
            reason = "no convolution makes its channels"
        elif reason is None and self.policy == "internal_only" and len(producers) > 1:
            reason = SEVERAL
        elif reason is None and is_padded(self.graph, group):
            reason = PADDED
        if reason is not None:
            self.reasons[group.name] = reason
        return tuple(dict.fromkeys(producer.weight for producer in producers))

    def _why_not(self, producer: Producer) -> str | None:
        """Why the layer can have no compactor, in words."""
        conv = dict(self.net.named_modules()).get(producer.layer)
        if not isinstance(conv, _ConvNd):
            return f"{producer.layer!r} makes its channels, which is no convolution"
        if isinstance(conv, _ConvTransposeNd):
            return f"{producer.layer!r} makes its channels, a transposed convolution"
        if conv.groups > 1 or producer.output.positions.shape[1] > 1:
            return "its channels leave in bundles, and a compactor has single rows"
        if producer.weight != f"{producer.layer}.weight" or "weight" not in conv._parameters:
            return f"the kernel of {producer.layer!r} is computed, not stored"
        if not self.read_elsewhere.isdisjoint((producer.layer, self._site(producer.weight))):
            return f"the kernel of {producer.layer!r} is read elsewhere, too, and folding its norm changes it"
        return f"{producer.layer!r} is used more than once" if self.uses[producer.weight] > 1 else None

    def _by_company(self, layers: Mapping[str, tuple[str, ...]]) -> None:
        """Layers that share a compactor must make the same channels, each in the same row."""
        for name, weights in layers.items():
            if name in self.reasons:
                continue
            first, *others = (self.rows[weight] for weight in weights)
            partners = {row[0] for row in first if row is not None}
            if any(rows != first for rows in others) or any(layers.get(each, weights) != weights for each in partners):
                self.reasons[name] = "the layers that make its channels make others beside them, each of its own"

    def _by_trial(self, layers: Mapping[str, tuple[str, ...]]) -> None:
        """Let channels of all groups be zero, and see whether their readers can do without them.

        A constant may be zero by chance, behind a ReLU say, so of every group enough channels are tried.
        """
        tried, number = Counter[str](), 0
        while number < FEWEST_TRIALS or any(tried[name] < ENOUGH for name in layers if name not in self.reasons):
            left = {name: weights for name, weights in layers.items() if name not in self.reasons}
            gone = _some_of_each([self.graph[name] for name in left], number)
            if not gone or number == MOST_TRIALS:
                return
            self._try(left, gone, number)
            tried.update({name: len(positions) for name, positions in gone.items()})
            number += 1

    def _try(self, layers: Mapping[str, tuple[str, ...]], gone: Mapping[str, Tensor], seed: int) -> None:
        dead = {(name, channel) for name, positions in gone.items() for channel in positions.tolist()}
        random = torch.Generator().manual_seed(seed)
        images = tuple(_two_of(argument, random) for argument in self.graph.example)
        trial = _disturbed(self.net, images, random)
        for weight in sorted({weight for name in gone for weight in layers[name]}):
            rows = [at for at, row in enumerate(self.rows[weight]) if row in dead]
            trial.get_submodule(self._site(weight)).register_forward_hook(_zeroing(torch.tensor(rows)))
        seen = constant_inputs(trial, self.graph, gone, images)
        for name, positions in gone.items():
            for piece in self.graph[name].slices:
                if piece.role == "reads" and name not in self.reasons:
                    read = seen[piece.tensor].at(piece.positions[positions].flatten())
                    if (why := self._why_left(piece.tensor, read)) is not None:
                        self.reasons[name] = why

    def _why_left(self, weight: str, constant: ConstantInput) -> str | None:
        """Why a reader cannot do without the channels, in words."""
        reader = layer_of(weight)
        if not bool(constant.is_constant.all()):
            return f"zero where they are made, its channels still vary where {reader!r} reads them"
        if not bool(constant.is_zero.all()) and not can_absorb(dict(self.net.named_modules()).get(reader)):
            return (
                f"zero where they are made, its channels are a constant to {reader!r}, which pads its input with zeros"
            )
        return None

    def _site(self, weight: str) -> str:
        """Behind which module the compactor of a layer goes."""
        return self.norms.get(layer_of(weight), layer_of(weight))

    def _placements(self, layers: Mapping[str, tuple[str, ...]]) -> list[Placement]:
        together: dict[tuple[str, ...], list[str]] = {}
        for name, weights in layers.items():
            together.setdefault(weights, []).append(name)
        placements = []
        for weights, names in together.items():
            rows = self.rows[weights[0]]
            at = {row: place for place, row in enumerate(rows) if row is not None}
            placements.append(
                Placement(
                    layers=tuple(layer_of(weight) for weight in weights),
                    behind=tuple(map(self._site, weights)),
                    width=len(rows),
                    rows={name: [at[name, c] for c in range(self.graph[name].size)] for name in names},
                )
            )
        return placements


def _rows(graph: ChannelGraph) -> dict[str, list[Row]]:
    """Channel of each output of a weight, by its name; None for what no group has."""
    rows: dict[str, list[Row]] = {}
    for group in graph.groups:
        for producer in group.producers:
            made = rows.setdefault(producer.weight, [None] * producer.output.channels)
            for channel, places in enumerate(producer.output.positions.tolist()):
                for place in places:
                    made[place] = (group.name, channel)
    return rows


def _disturbed(net: nn.Module, images: tuple[Any, ...], random: torch.Generator) -> nn.Module:
    """A copy in float64 with random scales and biases, so that nothing is zero by chance.

    Its batch norms know these images, so that no activation is so large that gates are shut or open for all.
    """
    trial = replica(net, owned).cpu().double().eval()
    norms = [module for module in trial.modules() if isinstance(module, _BatchNorm)]
    for module in trial.modules():
        if isinstance(bias := getattr(module, "bias", None), Tensor):
            bias.data.copy_(torch.randn(bias.shape, generator=random))
    for norm in norms:
        if norm.affine:
            norm.weight.data.copy_(0.5 + torch.rand(norm.weight.shape, generator=random))
        norm.momentum = 1.0
        norm.train()
    with torch.no_grad():
        trial(*images)
    return trial.eval()


def _some_of_each(groups: Sequence[ChannelGroup], seed: int) -> dict[str, Tensor]:
    """Half of the channels of every group, at random: not the same ones wherever groups are of one size."""
    random = torch.Generator().manual_seed(seed)
    choice = {group.name: torch.randperm(group.size, generator=random)[: group.size // 2] for group in groups}
    return {name: positions.sort().values for name, positions in choice.items() if len(positions)}


def _zeroing(rows: Tensor) -> Any:
    def zero(_module: nn.Module, _args: Any, output: Tensor) -> Tensor:
        return output.index_fill(1, rows, 0.0)

    return zero


def _two_of(argument: Any, random: torch.Generator) -> Any:
    """Two different random images of that shape; of other tensors the first twice; whatever else it is, it stays."""
    if not isinstance(argument, Tensor) or argument.ndim == 0:
        return argument
    if not argument.is_floating_point():
        return argument[:1].repeat_interleave(2, 0)
    return torch.randn((2, *argument.shape[1:]), generator=random, dtype=torch.float64)
