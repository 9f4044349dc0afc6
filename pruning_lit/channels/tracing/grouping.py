"""Grouping: from identities and ties to the groups of channels that can only leave together."""

from collections import Counter, defaultdict
from collections.abc import Sequence
from itertools import pairwise
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn

from pruning_lit.channels.modules.branch import ResidualBranch, blocks, joined
from pruning_lit.channels.tracing.dataflow import Role
from pruning_lit.channels.tracing.graph import (
    Branch,
    ChannelGraph,
    ChannelGroup,
    ChannelSlice,
    FeatureMap,
    Producer,
    Relabelling,
)
from pruning_lit.channels.tracing.identities import Identities, Slot
from pruning_lit.channels.tracing.tracer import Tracer
from pruning_lit.channels.tracing.transcript import Classes
from pruning_lit.channels.tracing.views import layer_of


class GroupBuilder:
    """Build groups from what a tracer collected.

    Args:
        tracer: after the pass.
        identities: its identities, with what has been added to them since.
    """

    def __init__(self, tracer: Tracer, identities: Identities) -> None:
        self.tracer = tracer
        self.labels, self.reasons = identities.classes()
        self.slots = list(identities.slots)
        self.footprints = Footprints(self.labels, [identities.slots[slot] for slot in self.slots])
        self.sources = {
            name: [int(self.labels[i]) if i >= 0 else None for i in inputs.tolist()]
            for name, inputs in tracer.relabel_inputs.items()
        }
        self.order = {name: position for position, name in reversed(list(enumerate(tracer.order)))}
        self.producers: dict[int, list[int]] = {}
        self.calls = {call.operation: call for call in tracer.calls}
        self.depths = tracer.flow.depths()
        self.first_writers: dict[int, tuple[int, int, str]] = {}
        self.places: dict[tuple[int, int], Tensor | None] = {}  # in the result of an operation, of a run

    def graph(self, model: nn.Module, arguments: tuple[Any, ...]) -> ChannelGraph:
        """The groups and all that surgery and counting need beside them."""
        runs = sorted(self._runs(), key=lambda run: self._first_writer(run[0])[0])
        names = self._names(runs)
        self.producers = self._producing_operations({run[0] for run in runs})
        groups = tuple(self._group(name, run) for name, run in zip(names, runs, strict=True))
        place = {label: (g, c) for g, run in enumerate(runs) for c, label in enumerate(run)} if self.sources else {}
        relabellings = tuple(
            Relabelling(name, tuple(place.get(label) if label is not None else None for label in labels))
            for name, labels in self.sources.items()
        )
        shapes = {name: tuple(parameter.shape) for name, parameter in model.named_parameters()}
        weights = {call.weight for call in self.tracer.calls}
        fixed = {name: tuple(buffer.shape) for name, buffer in model.named_buffers() if name in weights}
        return ChannelGraph(
            groups=groups,
            shapes=shapes | fixed,
            fixed=frozenset(fixed),
            calls=tuple(self.tracer.calls),
            entries=tuple(dict.fromkeys(self.tracer.entries)),
            relabellings=relabellings,
            branches=removable_branches(model, groups),
            example=arguments,
            transcript=self.tracer.transcript,
            classes=Classes(torch.from_numpy(self.labels), tuple(torch.tensor(run) for run in runs)),
        )

    def _runs(self) -> list[list[int]]:
        """Classes that are made by some layer, those with equal footprints together, each run in channel order."""
        writes = np.array([slot in self.tracer.writers for slot in self.slots], dtype=bool)
        through: dict[int, list[tuple[str, int]]] = defaultdict(list)
        for name, labels in self.sources.items():
            for label, count in Counter(label for label in labels if label is not None).items():
                through[label].append((name, count))
        parts = self._parts()
        apart = {*through, *self.reasons, *parts}
        runs: dict[Any, list[int]] = defaultdict(list)
        for alike in self.footprints.with_any(writes):
            shape = self.footprints.shape(alike[0])
            if not apart.intersection(alike):
                runs[shape, ((), ()), None].extend(alike)
                continue
            for label in alike:
                key = tuple(through.get(label, ())), tuple(parts.get(label, ()))
                runs[shape, key, self.reasons.get(label)].append(label)
        return list(runs.values())

    def _parts(self) -> dict[int, list[int]]:
        """The parts of a split that a class is in, where surgery rewrites the lengths: none may be emptied."""
        found: dict[int, list[int]] = defaultdict(list)
        for number, part in enumerate(self.tracer.splits.ruled_parts()):
            for label in dict.fromkeys(self.labels[part.numpy()].tolist()):
                found[label].append(number)
        return found

    def _first_writer(self, label: int) -> tuple[int, int, str]:
        """(execution order, position, layer) of the layer that makes these channels first."""
        if label in self.first_writers:
            return self.first_writers[label]
        there = zip(self.footprints.slots(label).tolist(), self.footprints.positions(label).tolist(), strict=True)
        written = [(self.slots[slot], position) for slot, position in there if self.slots[slot] in self.tracer.writers]
        slot, position = min(written, key=lambda each: self.order[each[0][0]])
        self.first_writers[label] = self.order[slot[0]], position, self.tracer.writers[slot]
        return self.first_writers[label]

    def _names(self, runs: list[list[int]]) -> list[str]:
        layers = [self._first_writer(run[0])[2] for run in runs]
        seen: dict[str, int] = defaultdict(int)
        names = []
        for layer in layers:
            seen[layer] += 1
            names.append(layer if layers.count(layer) == 1 else f"{layer}#{seen[layer]}")
        return names

    def _group(self, name: str, run: list[int]) -> ChannelGroup:
        numbers = self.footprints.slots(run[0])
        positions = self.footprints.all_positions(run)
        slots = [self.slots[number] for number in dict.fromkeys(numbers.tolist())]
        slices = tuple(
            ChannelSlice(slot[0], slot[1], torch.from_numpy(positions[:, numbers == number]), self._role(slot))
            for slot, number in zip(slots, dict.fromkeys(numbers.tolist()), strict=True)
        )
        in_order = sorted(slots, key=lambda slot: self.order.get(slot[0], -1))
        return ChannelGroup(
            name=name,
            size=len(run),
            slices=slices,
            writers=tuple(dict.fromkeys(self.tracer.writers[slot] for slot in in_order if slot in self.tracer.writers)),
            readers=tuple(dict.fromkeys(self.tracer.readers[slot] for slot in in_order if slot in self.tracer.readers)),
            protected=self.reasons.get(run[0]),
            feature_maps=self._feature_maps(run),
            producers=self._producers(run),
        )

    def _role(self, slot: Slot) -> Literal["writes", "reads", "along"]:
        if slot in self.tracer.writers:
            return "writes"
        return "reads" if slot in self.tracer.readers else "along"

    def _producing_operations(self, wanted: set[int]) -> dict[int, list[int]]:
        """The operations that make each of these classes."""
        producers: dict[int, list[int]] = {label: [] for label in wanted}
        for index, node in self.tracer.flow.nodes.items():
            if node.role is Role.PRODUCES and node.channels is not None:
                for label in wanted.intersection(self.labels[node.channels[node.channels >= 0].numpy()].tolist()):
                    producers[label].append(index)
        return producers

    def _feature_maps(self, run: list[int]) -> tuple[FeatureMap, ...]:
        producers = [index for index in self.producers[run[0]] if self._positions(index, run) is not None]
        feature_maps = []
        for operation in sorted({self.tracer.flow.seen_by_consumer(index) for index in producers}):
            channels, positions = self.tracer.flow.nodes[operation].channels, self._positions(operation, run)
            if channels is not None and positions is not None:
                feature_maps.append(FeatureMap(operation, len(channels), positions))
        return tuple(feature_maps)

    def _producers(self, run: list[int]) -> tuple[Producer, ...]:
        """The uses of layers that make these channels."""
        producers = []
        for operation in self.producers[run[0]]:
            channels, positions = self.tracer.flow.nodes[operation].channels, self._positions(operation, run)
            if operation in self.calls and channels is not None and positions is not None:  # a selection has no weight
                call, output = self.calls[operation], FeatureMap(operation, len(channels), positions)
                producers.append(
                    Producer(layer_of(call.weight), call.weight, output, call.positions, self.depths[operation])
                )
        return tuple(producers)

    def _positions(self, operation: int, run: list[int]) -> Tensor | None:
        """Positions of each class of a run in a result, shape ``(len(run), n)``; None if one is missing."""
        if (operation, run[0]) not in self.places:
            channels = self.tracer.flow.nodes[operation].channels
            self.places[operation, run[0]] = None if channels is None else self._among(channels, run)
        return self.places[operation, run[0]]

    def _among(self, channels: Tensor, run: list[int]) -> Tensor | None:
        labels = np.where(channels.numpy() >= 0, self.labels[channels.numpy()], -1)
        wanted = np.zeros(len(self.labels) + 1, bool)  # the last one for none
        wanted[run] = True
        where = np.flatnonzero(wanted[labels])
        order = np.argsort(labels[where], kind="stable")
        times = len(where) // len(run)
        found = labels[where[order]].reshape(len(run), times) if times * len(run) == len(where) else None
        if not times or found is None or bool((found != np.array(run)[:, None]).any()):  # runs ascend
            return None
        return torch.from_numpy(where[order].reshape(len(run), times))


class Footprints:
    """Slots of every class of identities, and the positions in them.

    Args:
        labels: class of every identity, shape ``(count,)``.
        slots: the identities along each slot.
    """

    def __init__(self, labels: np.ndarray, slots: list[range]) -> None:
        nothing = [np.empty(0, np.int64)]
        label = np.concatenate([*nothing, *(labels[slot.start : slot.stop] for slot in slots)])
        slot = np.concatenate([*nothing, *(np.full(len(slot), number) for number, slot in enumerate(slots))])
        position = np.concatenate([*nothing, *(np.arange(len(slot)) for slot in slots)])
        order = np.argsort(label, kind="stable")  # slots and positions ascend already
        self._label, self._slot, self._position = label[order], slot[order], position[order]
        self._present, self._starts = np.unique(self._label, return_index=True)
        bounds = pairwise([*self._starts.tolist(), len(order)])
        self._bounds = dict(zip(self._present.tolist(), bounds, strict=True))
        self._bytes, self._size = self._slot.tobytes(), self._slot.itemsize

    def slots(self, label: int) -> np.ndarray:
        """Numbers of the slots, one for each position, ascending."""
        start, stop = self._bounds[label]
        return self._slot[start:stop]

    def shape(self, label: int) -> bytes:
        """Key that two classes share which are in the same slots, as often."""
        start, stop = self._bounds[label]
        return self._bytes[start * self._size : stop * self._size]

    def positions(self, label: int) -> np.ndarray:
        """Positions along these slots."""
        start, stop = self._bounds[label]
        return self._position[start:stop]

    def all_positions(self, run: list[int]) -> np.ndarray:
        """Positions of each class of a run in the slots that all of them are in, shape ``(len(run), n)``."""
        starts = self._starts[np.searchsorted(self._present, run)]
        start, stop = self._bounds[run[0]]
        return self._position[starts[:, None] + np.arange(stop - start)]

    def with_any(self, wanted: np.ndarray) -> list[list[int]]:
        """The classes, ascending, that sit in any of the wanted slots; neighbours in the same slots side by side."""
        if not len(self._present):
            return []
        there = np.logical_or.reduceat(wanted[self._slot], self._starts)
        lengths = np.diff(self._starts, append=len(self._slot))
        behind = np.minimum(np.arange(len(self._slot)) + np.repeat(lengths, lengths), len(self._slot) - 1)
        as_next = np.logical_and.reduceat(self._slot == self._slot[behind], self._starts)
        alike = as_next[:-1] & (lengths[:-1] == lengths[1:])
        parts = np.split(np.arange(len(self._present)), np.flatnonzero(~alike) + 1)
        return [self._present[part].tolist() for part in parts if there[part[0]]]


def removable_branches(model: nn.Module, groups: Sequence[ChannelGroup]) -> tuple[Branch, ...]:
    """The branches of ``model``, which was traced, whose removal is exactly the zeroing of all their channels."""
    found = (_removable_branch(path, block, groups) for path, block in blocks(model).items())
    return tuple(branch for branch in found if branch is not None)


def _removable_branch(path: str, block: ResidualBranch, groups: Sequence[ChannelGroup]) -> Branch | None:
    last, name = block.get_submodule(block.branch[-1]), joined(path, block.branch[-1])
    tensors = block.branch_state(path)
    inside = [group for group in groups if all(piece.tensor in tensors for piece in group.slices)]
    end = next((group for group in inside if group.readers == (name,) and _feeds(group, name, last)), None)
    if end is None or any(group.protected for group in inside):
        return None
    removed = Counter[tuple[str, int]]()
    for piece in (piece for group in inside for piece in group.slices):
        removed[piece.tensor, piece.dim] += piece.positions.numel()
    for key, tensor in tensors.items():  # a parameter of which something would stay has to do with other layers, too
        if isinstance(tensor, nn.Parameter) and all(removed[key, d] < n for d, n in enumerate(tensor.shape)):
            return None
    return Branch(path, tuple(group.name for group in inside), end.name)


def _feeds(group: ChannelGroup, name: str, layer: nn.Module) -> bool:
    """True where ``layer`` is a convolution that makes nothing but zeros once ``group`` is removed."""
    if not isinstance(layer, nn.Conv1d | nn.Conv2d | nn.Conv3d) or layer.bias is not None:
        return False
    read = [piece for piece in group.slices if piece.tensor == f"{name}.weight" and piece.role == "reads"]
    return any(piece.dim == 1 and piece.positions.numel() == layer.in_channels for piece in read)
