"""Identities of channels: integers, the ties between them, and the reasons why some may not go."""

from dataclasses import dataclass, field

import numpy as np
import torch
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components
from torch import Tensor

Slot = tuple[str, int]  # a tensor's state-dict name and one of its dimensions


@dataclass
class Identities:
    """Identities of the positions along parameters and buffers, and ties between those that are the same channel."""

    slots: dict[Slot, range] = field(default_factory=dict)
    made: list[range] = field(default_factory=list)
    ties: list[tuple[Tensor, Tensor]] = field(default_factory=list)
    frozen: list[tuple[Tensor, str]] = field(default_factory=list)
    count: int = 0
    along: dict[Slot, Tensor] = field(default_factory=dict)  # the slots, as tensors

    def of(self, name: str, dim: int, length: int) -> Tensor:
        """Identities of the positions along ``dim`` of tensor ``name``, shape ``(length,)``; the same at every call."""
        if (name, dim) not in self.slots:
            self.slots[name, dim] = self._next(length)
        if (name, dim) not in self.along:
            slot = self.slots[name, dim]
            self.along[name, dim] = torch.arange(slot.start, slot.stop)
        return self.along[name, dim]

    def fresh(self, length: int) -> Tensor:
        """New identities that sit in no tensor, shape ``(length,)``."""
        self.made.append(self._next(length))
        return torch.arange(self.made[-1].start, self.made[-1].stop)

    def _next(self, length: int) -> range:
        self.count += length
        return range(self.count - length, self.count)

    def tie(self, one: Tensor, other: Tensor) -> None:
        """Declare two tensors of identities, of the same shape, equal element by element; -1 ties with nothing."""
        if one is not other:
            self.ties.append((one.reshape(-1), other.reshape(-1)))

    def freeze(self, identities: Tensor, reason: str) -> None:
        """Forbid the removal of these identities; the first reason given is the one reported."""
        if identities.numel():
            self.frozen.append((identities.reshape(-1), reason))

    def copy(self) -> "Identities":
        """A copy, to which ties and reasons can be added for a trial."""
        return Identities(self.slots, self.made, list(self.ties), list(self.frozen), self.count, self.along)

    def classes(self) -> tuple[np.ndarray, dict[int, str]]:
        """Solve the ties.

        Returns:
            The class of every identity, shape ``(count,)``, and for each class that is frozen its reason.
        """
        ones = np.concatenate([np.empty(0, np.int64)] + [one.numpy() for one, _ in self.ties])
        others = np.concatenate([np.empty(0, np.int64)] + [other.numpy() for _, other in self.ties])
        both = (ones >= 0) & (others >= 0)
        ones, others = ones[both], others[both]
        graph = coo_matrix((np.ones(len(ones), np.int8), (ones, others)), shape=(self.count, self.count))
        _, labels = connected_components(graph, directed=False)
        reasons: dict[int, str] = {}
        for identities, reason in self.frozen:
            each = identities.numpy()
            for label in np.unique(labels[each[each >= 0]]).tolist():
                reasons.setdefault(label, reason)
        return labels, reasons
