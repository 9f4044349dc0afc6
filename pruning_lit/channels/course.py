"""The course of a forward pass: what it did to channels, step by step, so that a second pass can be held against it."""

from dataclasses import dataclass

import torch
from torch import Tensor

from pruning_lit.channels.identity import Slot
from pruning_lit.channels.partings import Parting
from pruning_lit.channels.shadow import Outline


@dataclass(frozen=True)
class Step:
    """One operation on tensors with channels in them.

    Attributes:
        operation: its name.
        module: path of the module in which it happened.
        numbers: all numbers among its arguments that are no widths, and what else a rule has noted.
        shadows: of the tensors that went in and came out.
        results: outlines of the results, None for one without channels.
        decisions: the answers that its rule got when it asked whether a shadow varies along a dimension. With one
            channel left they would be different.
        parting: the run of channels that it takes apart.
    """

    operation: str
    module: str
    numbers: tuple[object, ...]
    shadows: tuple[Tensor, ...]
    results: tuple[Outline | None, ...]
    decisions: tuple[bool, ...]
    parting: Parting | None

    @property
    def place(self) -> str:
        """For people."""
        return f"{self.operation} in {self.module!r}" if self.module else self.operation

    def identities(self) -> Tensor:
        """All that go in or come out, each once."""
        there = torch.cat(
            [torch.empty(0, dtype=torch.int64), *(shadow.reshape(-1) for shadow in self.shadows)]
        ).unique()
        return there[there >= 0]


@dataclass
class Course:
    """A pass as a whole.

    Attributes:
        steps: in order.
        slots, made: where identities sit, and those that sit nowhere, as they were given out.
        on_meta: whether the model runs without data; assumed until it has failed to.
    """

    steps: list[Step]
    slots: dict[Slot, range]
    made: list[range]
    on_meta: bool = True


@dataclass(frozen=True)
class Classes:
    """Which identities are the same channel.

    Attributes:
        labels: class of every identity, shape ``(count,)``.
        groups: for each group of the graph the classes of its channels, shape ``(size,)``.
    """

    labels: Tensor
    groups: tuple[Tensor, ...]

    def removed(self, stays: dict[int, Tensor]) -> Tensor:
        """Whether each identity is removed, shape ``(count + 1,)``; the last entry, for -1, is False.

        Args:
            stays: by the number of a group, one boolean per channel.
        """
        gone = torch.zeros(int(self.labels.max()) + 1 if len(self.labels) else 1, dtype=torch.bool)
        for number, flags in stays.items():
            gone[self.groups[number][~flags]] = True
        return torch.cat([gone[self.labels.long()], torch.zeros(1, dtype=torch.bool)])
