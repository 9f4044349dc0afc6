"""From identities and ties to the groups of channels that can only leave together."""

from collections import defaultdict
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn

from pruning_lit.channels.course import Classes
from pruning_lit.channels.flow import Role
from pruning_lit.channels.graph import ChannelGraph, ChannelGroup, ChannelSlice, Relabelling, Tap
from pruning_lit.channels.identity import Identities, Slot
from pruning_lit.channels.tracer import Tracer


class Assembly:
    """Turns what a tracer collected into groups.

    Args:
        tracer: after the pass.
        identities: its identities, with what has been added to them since.
    """

    def __init__(self, tracer: Tracer, identities: Identities) -> None:
        self.tracer = tracer
        self.labels, self.reasons = identities.classes()
        self.footprints: dict[int, dict[Slot, list[int]]] = defaultdict(dict)
        for slot, there in identities.slots.items():
            for position, label in enumerate(self.labels[there.start : there.stop].tolist()):
                self.footprints[label].setdefault(slot, []).append(position)
        self.sources = {name: self._classes(inputs) for name, inputs in tracer.relabel_inputs.items()}
        self.order = {name: position for position, name in reversed(list(enumerate(tracer.order)))}

    def _classes(self, identities: Tensor) -> list[int | None]:
        return [int(self.labels[i]) if i >= 0 else None for i in identities.tolist()]

    def graph(self, model: nn.Module, arguments: tuple[Any, ...]) -> ChannelGraph:
        """The groups and all that surgery and counting need beside them."""
        runs = sorted(self._runs(), key=lambda run: self._first_writer(run[0])[0])
        names = self._names(runs)
        groups = tuple(self._group(name, run) for name, run in zip(names, runs, strict=True))
        place = {label: (g, c) for g, run in enumerate(runs) for c, label in enumerate(run)}
        relabellings = tuple(
            Relabelling(name, tuple(place.get(label) if label is not None else None for label in labels))
            for name, labels in self.sources.items()
        )
        return ChannelGraph(
            groups=groups,
            shapes={name: tuple(parameter.shape) for name, parameter in model.named_parameters()},
            calls=tuple(self.tracer.calls),
            entries=tuple(dict.fromkeys(self.tracer.entries)),
            relabellings=relabellings,
            example=arguments,
            course=self.tracer.course,
            classes=Classes(torch.from_numpy(self.labels), tuple(torch.tensor(run) for run in runs)),
        )

    def _runs(self) -> list[list[int]]:
        """Classes that are made by some layer, those with equal footprints together, each run in channel order."""
        runs: dict[Any, list[int]] = defaultdict(list)
        for label in sorted(self.footprints):
            footprint = self.footprints[label]
            if any(slot in self.tracer.writers for slot in footprint):
                shape = tuple((slot, len(positions)) for slot, positions in footprint.items())
                through = tuple((name, labels.count(label)) for name, labels in self.sources.items() if label in labels)
                runs[shape, through, self.reasons.get(label)].append(label)
        return list(runs.values())

    def _first_writer(self, label: int) -> tuple[int, int, str]:
        """(execution order, position, layer) of the layer that makes these channels first."""
        written = [slot for slot in self.footprints[label] if slot in self.tracer.writers]
        slot = min(written, key=lambda slot: self.order[slot[0]])
        return self.order[slot[0]], self.footprints[label][slot][0], self.tracer.writers[slot]

    def _names(self, runs: list[list[int]]) -> list[str]:
        layers = [self._first_writer(run[0])[2] for run in runs]
        seen: dict[str, int] = defaultdict(int)
        names = []
        for layer in layers:
            seen[layer] += 1
            names.append(layer if layers.count(layer) == 1 else f"{layer}#{seen[layer]}")
        return names

    def _group(self, name: str, run: list[int]) -> ChannelGroup:
        slots = self.footprints[run[0]]
        slices = tuple(
            ChannelSlice(
                slot[0], slot[1], torch.tensor([self.footprints[label][slot] for label in run]), self._role(slot)
            )
            for slot in slots
        )
        in_order = sorted(slots, key=lambda slot: self.order.get(slot[0], -1))
        return ChannelGroup(
            name=name,
            size=len(run),
            slices=slices,
            writers=tuple(dict.fromkeys(self.tracer.writers[slot] for slot in in_order if slot in self.tracer.writers)),
            readers=tuple(dict.fromkeys(self.tracer.readers[slot] for slot in in_order if slot in self.tracer.readers)),
            protected=self.reasons.get(run[0]),
            taps=self._taps(run),
        )

    def _role(self, slot: Slot) -> Literal["writes", "reads", "along"]:
        if slot in self.tracer.writers:
            return "writes"
        return "reads" if slot in self.tracer.readers else "along"

    def _taps(self, run: list[int]) -> tuple[Tap, ...]:
        nodes = self.tracer.flow.nodes
        makers = [
            index
            for index, node in nodes.items()
            if node.role is Role.MAKES and node.channels is not None and self._positions(node.channels, run) is not None
        ]
        taps = []
        for operation in sorted({self.tracer.flow.seen_by_consumer(index) for index in makers}):
            channels = nodes[operation].channels
            positions = self._positions(channels, run) if channels is not None else None
            if channels is not None and positions is not None:
                taps.append(Tap(operation, len(channels), positions))
        return tuple(taps)

    def _positions(self, channels: Tensor, run: list[int]) -> Tensor | None:
        """Where each class of ``run`` sits among these channels, shape ``(len(run), n)``; None if it is not there."""
        labels = np.where(channels.numpy() >= 0, self.labels[channels.numpy()], -1)
        if not np.isin(labels, run).any():  # the common case, in large networks by far
            return None
        found = [np.flatnonzero(labels == label) for label in run]
        counts = {len(positions) for positions in found}
        if len(counts) != 1:
            return None
        return torch.from_numpy(np.stack(found))
