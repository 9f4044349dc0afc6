"""Residual branches that can be taken out whole, once nothing but zeros would come out of them."""

from collections.abc import Container, Iterable
from typing import ClassVar

import torch
from torch import Tensor, nn

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
        """True while the branch is there."""
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
        return {joined(path, name): tensor for name, tensor in own if name.partition(".")[0] in self.branch}


def drop_branches(model: nn.Module, paths: Iterable[str]) -> None:
    """Take out, in place, the branches of the blocks at these paths."""
    found = [model.get_submodule(path) for path in paths]  # all of them first: one may be in the branch of another
    for block in found:
        assert isinstance(block, ResidualBranch)
        block.drop_branch()


def marked(model: nn.Module, state: Container[str], prefix: str = "") -> list[str]:
    """Paths of the blocks of ``model`` whose branch is there, but gone in a state dict with this prefix."""
    return [path for path in blocks(model) if prefix + joined(path, MARK) in state]


def blocks(model: nn.Module) -> dict[str, ResidualBranch]:
    """The blocks of ``model`` that still have their branch, by path."""
    return {path: m for path, m in model.named_modules() if isinstance(m, ResidualBranch) and m.has_branch}


def joined(path: str, name: str) -> str:
    """State-dict name of something in the module at ``path``; the model itself has none."""
    return f"{path}.{name}" if path else name
