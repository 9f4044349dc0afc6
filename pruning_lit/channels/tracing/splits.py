"""Splits: runs of channels that a model takes apart, and the ties by which it still does so in the right places.

``x.chunk(2, 1)`` of sixteen channels says nothing about whether a half or eight channels are meant. It is taken for a
half first: then as many channels must leave from either part, and the i-th of one leaves with the i-th of the other. If
the rehearsal shows that the number stands in the code, the channels that it counts are frozen; if it is a number of the
module, which surgery can rewrite, each part has a width of its own.
"""

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from itertools import pairwise

import torch
from torch import Tensor

from pruning_lit.channels.tracing.identities import Identities


@dataclass
class Split(ABC):
    """A run of channels, shape ``(length,)``, that is taken apart; ``place`` says by what and where, for people."""

    identities: Tensor
    place: str
    assumption: int = 0
    ruled: bool = False  # whether its sizes are numbers of a module, which surgery rewrites

    @property
    @abstractmethod
    def num_assumptions(self) -> int:
        """Number of assumptions to be tried; the last one freezes everything, which is always right."""

    @abstractmethod
    def apply(self, identities: Identities) -> None:
        """Tie and freeze what follows from the present assumption."""

    @property
    def may_be_otherwise(self) -> bool:
        """True where there is another assumption left."""
        return self.ruled or self.assumption < self.num_assumptions - 1

    def next_assumption(self) -> bool:
        """Go on to the next assumption; False where there is none left."""
        if self.assumption == self.num_assumptions - 1:
            return False
        self.assumption += 1
        return True

    def _freeze(self, identities: Identities, which: Tensor) -> None:
        identities.freeze(which, f"the model takes it apart at a fixed channel number ({self.place})")


@dataclass
class Chunk(Split):
    """Consecutive parts, cut at the positions ``at``: in proportion, or else at these very numbers."""

    at: set[int] = field(default_factory=set)

    @property
    def num_assumptions(self) -> int:
        """Three: in proportion; fixed up to the last cut; fixed altogether."""
        return 3

    def parts(self) -> list[Tensor]:
        """The parts in order."""
        edges = [0, *sorted(self.at), len(self.identities)]
        return [self.identities[start:stop] for start, stop in pairwise(edges)]

    @property
    def measure(self) -> int:
        """The largest common measure of the lengths of the parts."""
        return math.gcd(*(len(part) for part in self.parts()))

    def apply(self, identities: Identities) -> None:
        """Tie channels of all parts in proportion, or freeze the parts that are cut off, or all."""
        if not self.at or self.ruled:
            return
        parts, unit = self.parts(), self.measure
        if self.assumption == 0 and unit > 1:
            _tie_rows(identities, torch.cat([part.view(unit, -1) for part in parts], 1))
        elif self.assumption < 2:
            self._freeze(identities, torch.cat(parts[:-1]))
        else:
            self._freeze(identities, self.identities)


@dataclass
class Reshape(Split):
    """A run seen as a grid of ``shape``: one of its sides is computed from the width, the others are fixed."""

    shape: tuple[int, ...] = ()
    free: tuple[int, ...] = ()  # sides that may be the computed one, the likeliest first

    @property
    def num_assumptions(self) -> int:
        """One for each side that may be the computed one, and one for all of them fixed."""
        return len(self.free) + 1

    def apply(self, identities: Identities) -> None:
        """Tie the fixed sides of the grid to each other, or freeze everything."""
        if self.assumption == len(self.free):
            self._freeze(identities, self.identities)
            return
        side = self.free[self.assumption]
        grid = self.identities.view(self.shape).movedim(side, 0)
        _tie_rows(identities, grid.reshape(self.shape[side], -1))


def likely_sides(shape: tuple[int, ...]) -> tuple[int, ...]:
    """The sides of a grid in the order in which they are taken for the computed one: the longest first, at most two."""
    long = [side for side, length in enumerate(shape) if length > 1]
    return tuple(sorted(long, key=lambda side: (-shape[side], -side))[:2])


def _tie_rows(identities: Identities, rows: Tensor) -> None:
    first = rows[:, :1].expand_as(rows[:, 1:])
    identities.tie(first, rows[:, 1:])


class Splits:
    """All splits of a model, one for each run of channels and kind of taking it apart."""

    def __init__(self) -> None:
        self.found: dict[bytes | tuple[bytes, tuple[int, ...]], Split] = {}

    def chunk(self, run: Tensor, at: set[int], place: str) -> Split:
        """The split of a run into parts at these positions; one run that is taken apart several times has one split."""
        split = self.found.setdefault(run.numpy().tobytes(), Chunk(run.clone(), place))
        assert isinstance(split, Chunk)
        split.at |= {position for position in at if 0 < position < len(run)}
        return split

    def reshape(self, run: Tensor, shape: tuple[int, ...], place: str) -> Split:
        """The split of a run by a view of it as a grid."""
        key = run.numpy().tobytes(), shape
        return self.found.setdefault(key, Reshape(run.clone(), place, shape=shape, free=likely_sides(shape)))

    def ruled_parts(self) -> list[Tensor]:
        """The parts, shape ``(length,)`` each, whose lengths are numbers of a module, which surgery rewrites."""
        chunks = [split for split in self.found.values() if isinstance(split, Chunk) and split.ruled]
        return [part for split in chunks for part in split.parts()]

    def apply(self, identities: Identities) -> None:
        """Tie and freeze what follows from the present assumptions."""
        for split in self.found.values():
            split.apply(identities)
