"""The transcript of a forward pass: what it did to channels, step by step, for a second pass to be held against it."""

from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from pruning_lit.channels.tracing.identities import Slot
from pruning_lit.channels.tracing.modes import PassMode
from pruning_lit.channels.tracing.provenance import Provenance
from pruning_lit.channels.tracing.shadow import Outline
from pruning_lit.channels.tracing.splits import Split


@dataclass(frozen=True)
class Decision:
    """An operation that has as many results as values say, or takes a number out of a tensor.

    Attributes:
        operation: its name.
        ways: of the tensors that were looked at, see ``Provenance``.
        shapes: theirs.
        answer: the result; of elements that a mask picks, the list of masks and positions.
    """

    operation: str
    ways: tuple[int | None, ...]
    shapes: tuple[tuple[int, ...], ...]
    answer: Any


@dataclass(frozen=True)
class OpRecord:
    """One operation on tensors with channels in them.

    Attributes:
        operation: its name.
        module: path of the module in which it happened.
        numbers: all numbers among its arguments that are no widths, and what else a rule has noted.
        provenances: of the tensors that went in.
        given: outlines of the activations that went in.
        results: outlines of the results, None for one without channels.
        decisions: the answers that its rule got when it asked whether a shadow varies along a dimension. With one
            channel left they would be different.
        split: of the run of channels that it takes apart.
        stored: state-dict names of the tensors that went in, None for those that have none.
        sizes: numbers among its arguments that may be widths, see ``sizes_of``.
    """

    operation: str
    module: str
    numbers: tuple[object, ...]
    provenances: tuple[Provenance, ...]
    given: tuple[Outline, ...]
    results: tuple[Outline | None, ...]
    decisions: tuple[bool, ...]
    split: Split | None
    stored: tuple[str | None, ...]
    sizes: tuple[int, ...] = ()

    @property
    def place(self) -> str:
        """The operation and its module, for people."""
        return f"{self.operation} in {self.module!r}" if self.module else self.operation

    def identities(self) -> tuple[Tensor, Tensor]:
        """The identities that go in and those that come out, each once."""
        return _distinct(self.given), _distinct(self.results)


def _distinct(outlines: tuple[Outline | None, ...]) -> Tensor:
    each = (outline.identities.reshape(-1) for outline in outlines if outline is not None)
    there = torch.cat([torch.empty(0, dtype=torch.int64), *each]).unique()
    return there[there >= 0]


@dataclass
class Transcript:
    """A forward pass as a whole.

    Attributes:
        steps: in order.
        slots, made: where identities sit, and those that sit nowhere, as they were given out.
        own: parameters and buffers with a single long dimension, and which it is.
        outputs: what the outputs of the model come from, see ``Provenance``.
        on_meta: whether the model runs without data; assumed until it has failed to.
        mode: of the modules in the pass.
        arguments: those of the model.
        depends_on_mode: whether the model may do something else in training.
        failure: where the pass has ended with an error, in training, its words.
        decisions: what values have decided, in order.
    """

    steps: list[OpRecord]
    slots: dict[Slot, range]
    made: list[range]
    own: dict[str, int]
    outputs: list[Provenance]
    on_meta: bool = True
    mode: PassMode = field(default_factory=PassMode)
    arguments: tuple[Any, ...] = ()
    depends_on_mode: bool = False
    failure: str | None = None
    decisions: list[Decision] = field(default_factory=list)

    def none_removed(self) -> Tensor:
        """False for every identity, and for none, shape ``(count + 1,)``; see ``ChannelGraph.removed``."""
        stops = [run.stop for run in (*self.slots.values(), *self.made)]
        return torch.zeros(1 + max(stops, default=0), dtype=torch.bool)


@dataclass(frozen=True)
class Classes:
    """Classes of identities: those that are the same channel.

    Attributes:
        labels: class of every identity, shape ``(count,)``.
        groups: for each group of the graph the classes of its channels, shape ``(size,)``.
    """

    labels: Tensor
    groups: tuple[Tensor, ...]

    def removed(self, stays: dict[int, Tensor]) -> Tensor:
        """One boolean per identity, true where it is removed, shape ``(count + 1,)``; the last entry, for -1, is False.

        Args:
            stays: by the number of a group, one boolean per channel.
        """
        removed = torch.zeros(int(self.labels.max()) + 1 if len(self.labels) else 1, dtype=torch.bool)
        for number, flags in stays.items():
            removed[self.groups[number][~flags]] = True
        return torch.cat([removed[self.labels.long()], torch.zeros(1, dtype=torch.bool)])
