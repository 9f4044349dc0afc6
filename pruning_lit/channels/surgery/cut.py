"""A cut: a choice of channels, in terms of the tensors of a model."""

import functools
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from pruning_lit.channels.modules.branch import ResidualBranch, drop_branches
from pruning_lit.channels.modules.relabel import ChannelRelabel
from pruning_lit.channels.surgery.moves import Move, Moves, Removal, take
from pruning_lit.channels.surgery.numbers import Rewriting, numbers_after, rewrite
from pruning_lit.channels.surgery.widths import replace, sync_widths
from pruning_lit.channels.tracing.graph import ChannelGraph, Kept, Relabelling
from pruning_lit.channels.tracing.views import NOT_MASKED


@dataclass(frozen=True)
class Cut:
    """The changes of a model's tensors that leave the channels ``kept``; the choice is checked once, here.

    Attributes:
        kept: one boolean per channel of each group that was named.
        stays: for every tensor that loses something, by dimension: one boolean per position.
        numbers: widths that modules keep as numbers, as they are to be, see ``numbers_after``.
        narrowed, masked: new contents of the relabellings, where channels are removed and where they become zero.
        branches: paths of the blocks whose residual branch is taken out.
    """

    kept: dict[str, Tensor]
    stays: dict[str, dict[int, Tensor]]
    narrowed: dict[str, Tensor]
    masked: dict[str, Tensor]
    branches: tuple[str, ...]
    numbers: dict[str, Tensor]

    @classmethod
    def of(cls, model: nn.Module, graph: ChannelGraph, kept: Kept) -> "Cut":
        """The cut that leaves ``kept``; ValueError where that does not fit the graph."""
        masks = graph.keep_mask(kept)
        graph.require_traced(model)
        stays = _flags(model, graph, masks)
        narrowed, masked = {}, {}
        for item in graph.relabellings:
            module = model.get_submodule(item.tensor.rpartition(".")[0])
            assert isinstance(module, ChannelRelabel)
            outputs_stay = stays.get(item.tensor, {}).get(0, torch.ones(len(module.source), dtype=torch.bool))
            flags = _inputs_stay(graph, item, masks), outputs_stay
            narrowed[item.tensor], masked[item.tensor] = module.narrowed(*flags), module.masked(*flags)
        numbers = numbers_after(model, graph, graph.removed(masks)) if graph.numbers else {}
        return cls(masks, stays, narrowed, masked, tuple(branch.path for branch in graph.emptied(masks)), numbers)

    @functools.cached_property
    def index(self) -> dict[str, dict[int, Tensor]]:
        """The positions that stay, as ``stays``."""
        return {
            name: {dim: flags.nonzero().flatten() for dim, flags in dims.items()} for name, dims in self.stays.items()
        }

    def narrow(self, model: nn.Module) -> Moves:
        """Take the branches out and make the other tensors smaller, in place."""
        removals = self.drop(model)
        tensors = model.state_dict(keep_vars=True)
        index = {name: dims for name, dims in self.index.items() if name not in removals}
        values = {name: take(tensors[name].detach(), dims) for name, dims in index.items()}
        left = {name: source for name, source in self.narrowed.items() if name not in removals}
        values |= {name: source.to(tensors[name].device) for name, source in left.items()}
        new = replace(model, values, tensors)
        moves = {name: Move(tensors[name], new[name], index.get(name, {})) for name in values}
        sync_widths(model)
        return moves | removals | rewrite(model, self.numbers)

    def between(self, wide: nn.Module, narrow: nn.Module) -> Moves:
        """The moves that ``narrow`` returned, for two networks between which this cut lies; neither is changed."""
        before, after = wide.state_dict(keep_vars=True), narrow.state_dict(keep_vars=True)
        names = self.stays | self.narrowed
        moves = {name: Move(before[name], after[name], self.index.get(name, {})) for name in names}
        return moves | {name: Rewriting.between(wide, name, values) for name, values in self.numbers.items()}

    def drop(self, model: nn.Module) -> Moves:
        """Take the branches out, in place, and leave all else as it is."""
        removals: Moves = {}
        for path in self.branches:
            block = model.get_submodule(path)
            assert isinstance(block, ResidualBranch)
            removals |= {name: Removal.of(tensor, path) for name, tensor in block.branch_state(path).items()}
        drop_branches(model, self.branches)
        return removals

    def mask(self, model: nn.Module) -> None:
        """Write zeros, in place."""
        tensors = model.state_dict()
        overlapping = [name for name in self.stays if any(s == 0 and n > 1 for s, n in _layout(tensors[name]))]
        if overlapping:  # one element stands for several, of which some stay
            replace(model, {name: tensors[name].contiguous() for name in overlapping})
            tensors = model.state_dict()
        for name, dims in self.stays.items():
            if name.endswith(NOT_MASKED) or name in self.masked:
                continue
            for dim, flags in dims.items():
                tensors[name].index_fill_(dim, (~flags).nonzero().flatten().to(tensors[name].device), 0)
        for name, source in self.masked.items():
            tensors[name].copy_(source)


def _layout(tensor: Tensor) -> list[tuple[int, int]]:
    """Stride and length of every dimension."""
    return list(zip(tensor.stride(), tensor.shape, strict=True))


def _flags(model: nn.Module, graph: ChannelGraph, masks: dict[str, Tensor]) -> dict[str, dict[int, Tensor]]:
    """Booleans, true for positions that stay, by dimension of every tensor that loses some."""
    tensors = model.state_dict(keep_vars=True).items()
    shapes = {name: tensor.shape for name, tensor in tensors if isinstance(tensor, Tensor)}  # there may be extra state
    flags: dict[str, dict[int, np.ndarray]] = {}
    for group in graph.groups:
        if group.name not in masks or bool(masks[group.name].all()):
            continue
        gone = (~masks[group.name]).numpy()
        for piece in group.slices:
            dims = flags.setdefault(piece.tensor, {})
            if piece.dim not in dims:
                dims[piece.dim] = np.ones(shapes[piece.tensor][piece.dim], bool)
            dims[piece.dim][piece.positions.numpy()[gone]] = False
    return {name: {dim: torch.from_numpy(stays) for dim, stays in dims.items()} for name, dims in flags.items()}


def _inputs_stay(graph: ChannelGraph, item: Relabelling, masks: dict[str, Tensor]) -> Tensor:
    flags = []
    for where in item.inputs:
        name = graph.groups[where[0]].name if where is not None else None
        flags.append(name is None or name not in masks or bool(masks[name][where[1]]))  # type: ignore[index]
    return torch.tensor(flags)
