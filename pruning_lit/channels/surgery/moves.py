"""Moves: tensors before and after surgery, so that optimizer states and averages can follow."""

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Move:
    """A tensor before and after surgery.

    Attributes:
        old, new: before and after; for parameters the objects themselves, as an optimizer knows them.
        index: dimension to the positions of ``old`` that are in ``new``, shape ``(kept,)``.
    """

    old: Tensor
    new: Tensor
    index: dict[int, Tensor]

    def gather(self, companion: Tensor) -> Tensor:
        """Take from a tensor of the shape of ``old`` (a momentum, an average) what belongs to ``new``."""
        return take(companion, self.index)

    def mark(self) -> Tensor:
        """One boolean per entry of ``old``, true where it is in ``new``."""
        inside = torch.ones((), dtype=torch.bool)
        for dim, length in enumerate(self.old.shape):
            flags = torch.ones(length, dtype=torch.bool)
            if dim in self.index:
                flags = torch.isin(torch.arange(length), self.index[dim].cpu())
            inside = inside.unsqueeze(-1) & flags
        return inside


@dataclass(frozen=True)
class Removal(Move):
    """A tensor that is removed with its residual branch.

    Attributes:
        old: before.
        new: an empty tensor, which is in no network.
        index: empty.
        block: path of the block that has lost its branch.
    """

    block: str

    @classmethod
    def of(cls, old: Tensor, block: str) -> "Removal":
        """The removal of ``old``."""
        return cls(old, old.detach().new_empty(0), {}, block)

    def gather(self, companion: Tensor) -> Tensor:
        """An empty tensor: nothing of it stays."""
        return companion.new_empty(0)


Moves = dict[str, Move]  # by state-dict name


def take(tensor: Tensor, index: dict[int, Tensor]) -> Tensor:
    """The positions of a tensor that are given by dimension."""
    if tensor.is_meta:  # only the lengths can be taken
        left = [len(index[dim]) if dim in index else n for dim, n in enumerate(tensor.shape)]
        return torch.empty(left, dtype=tensor.dtype, device=tensor.device)
    for dim, positions in index.items():
        tensor = tensor.index_select(dim, positions.to(tensor.device))
    return tensor
