"""Residual branches that can be taken out whole, once nothing but zeros would come out of them."""

from collections import Counter
from collections.abc import Container, Iterable, Sequence
from typing import ClassVar

import torch
from torch import Tensor, nn

from pruning_lit.channels.tracing.graph import Branch, ChannelGroup

MARK = "branch_removed"


class ResidualBranch(nn.Module):
    """Base class of a residual block that can do without its branch, and is its shortcut alone then.

    A subclass names the children that form the branch. Its ``forward`` has to give, where ``has_branch`` is false, what
    it gave when the branch added nothing but zeros.

    A block whose branch is gone says so by a buffer, ``branch_removed``: the names of a state dict alone would not tell
    a removed branch from a missing one (a deeper network than the one that was saved, a damaged file).

    Attributes:
        branch: the children in the order of their use; the last one is the convolution, without bias, whose output is
            added to the shortcut.
    """

    branch: ClassVar[tuple[str, ...]]

    @property
    def has_branch(self) -> bool:
        """Whether the branch is still there."""
        return self.branch[-1] in self._modules

    def drop_branch(self) -> None:
        """Take the branch out, in place."""
        device = next(self.get_submodule(self.branch[-1]).parameters()).device
        for child in self.branch:
            delattr(self, child)
        self.register_buffer(MARK, torch.ones((), dtype=torch.int64, device=device))

    def branch_state(self, path: str) -> dict[str, Tensor]:
        """The tensors of the branch, by their state-dict names in a network that has the block at ``path``."""
        own = self.state_dict(keep_vars=True).items()
        return {_join(path, name): tensor for name, tensor in own if name.partition(".")[0] in self.branch}


def drop_branches(model: nn.Module, paths: Iterable[str]) -> None:
    """Take out, in place, the branches of the blocks at these paths."""
    blocks = [model.get_submodule(path) for path in paths]  # all of them first: one may be in the branch of another
    for block in blocks:
        assert isinstance(block, ResidualBranch)
        block.drop_branch()


def marked(model: nn.Module, state: Container[str], prefix: str = "") -> list[str]:
    """Paths of the blocks of ``model`` whose branch is there, but gone in a state dict with this prefix."""
    return [path for path in _blocks(model) if prefix + _join(path, MARK) in state]


def removable(model: nn.Module, groups: Sequence[ChannelGroup]) -> tuple[Branch, ...]:
    """The branches of ``model``, which was traced, whose removal is exactly the zeroing of all their channels."""
    found = (_removable(path, block, groups) for path, block in _blocks(model).items())
    return tuple(branch for branch in found if branch is not None)


def _removable(path: str, block: ResidualBranch, groups: Sequence[ChannelGroup]) -> Branch | None:
    last, name = block.get_submodule(block.branch[-1]), _join(path, block.branch[-1])
    tensors = block.branch_state(path)
    inside = [group for group in groups if all(piece.tensor in tensors for piece in group.slices)]
    end = next((group for group in inside if group.readers == (name,) and _feeds(group, name, last)), None)
    if end is None or any(group.protected for group in inside):
        return None
    gone = Counter[tuple[str, int]]()
    for piece in (piece for group in inside for piece in group.slices):
        gone[piece.tensor, piece.dim] += piece.positions.numel()
    for key, tensor in tensors.items():  # a parameter of which something would stay has to do with other layers, too
        if isinstance(tensor, nn.Parameter) and all(gone[key, d] < n for d, n in enumerate(tensor.shape)):
            return None
    return Branch(path, tuple(group.name for group in inside), end.name)


def _feeds(group: ChannelGroup, name: str, layer: nn.Module) -> bool:
    """Whether ``layer`` is a convolution that makes nothing but zeros once ``group`` is gone."""
    if not isinstance(layer, nn.Conv1d | nn.Conv2d | nn.Conv3d) or layer.bias is not None:
        return False
    read = [piece for piece in group.slices if piece.tensor == f"{name}.weight" and piece.role == "reads"]
    return any(piece.dim == 1 and piece.positions.numel() == layer.in_channels for piece in read)


def _blocks(model: nn.Module) -> dict[str, ResidualBranch]:
    return {path: m for path, m in model.named_modules() if isinstance(m, ResidualBranch) and m.has_branch}


def _join(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name
