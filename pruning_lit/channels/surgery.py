"""Remove channels: ``narrow`` makes layers smaller, ``mask`` writes zeros instead."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from pruning_lit.channels.graph import ChannelGraph, Kept, Relabelling
from pruning_lit.channels.rehearsal import Departed
from pruning_lit.channels.rehearsal import rehearse as rehearse_cut
from pruning_lit.channels.relabel import ChannelRelabel
from pruning_lit.channels.widths import replace, sync_widths

NOT_MASKED = ("running_mean", "running_var", "weight_v", "original1")  # statistics; directions, which have no zero


@dataclass(frozen=True)
class Move:
    """What became of one tensor.

    Attributes:
        old, new: before and after; for parameters the objects themselves, as an optimizer knows them.
        index: dimension to the positions of ``old`` that are in ``new``, shape ``(kept,)``.
    """

    old: Tensor
    new: Tensor
    index: dict[int, Tensor]

    def gather(self, companion: Tensor) -> Tensor:
        """Take from a tensor of the shape of ``old`` (a momentum, an average) what belongs to ``new``."""
        return _take(companion, self.index)


Moves = dict[str, Move]  # by state-dict name


@dataclass(frozen=True)
class Cut:
    """What is to be done to the tensors of a model.

    Attributes:
        stays: for every tensor that loses something, by dimension: one boolean per position.
        sources: new contents of the relabellings.
    """

    stays: dict[str, dict[int, Tensor]]
    sources: dict[str, Tensor]

    @classmethod
    def of(cls, model: nn.Module, graph: ChannelGraph, kept: Kept) -> "Cut":
        """What ``narrow`` does; ValueError where ``kept`` does not fit the graph."""
        masks = graph.keep_mask(kept)
        stays = _flags(model, graph, masks)
        sources = {
            item.tensor: _relabel(model, item).narrowed(
                _inputs_stay(graph, item, masks), _outputs_stay(model, item, stays)
            )
            for item in graph.relabellings
        }
        return cls(stays, sources)

    def carry_out(self, model: nn.Module) -> Moves:
        """Make the tensors smaller, in place."""
        tensors = model.state_dict(keep_vars=True)
        moves = {}
        for name, dims in self.stays.items():
            index = {dim: flags.nonzero().flatten() for dim, flags in dims.items()}
            old = tensors[name]
            moves[name] = Move(old, replace(model, name, _take(old.detach(), index)), index)
        for name, source in self.sources.items():
            old, index = tensors[name], moves[name].index if name in moves else {}
            moves[name] = Move(old, replace(model, name, source.to(old.device)), index)
        sync_widths(model)
        return moves


def narrow(model: nn.Module, graph: ChannelGraph, kept: Kept, *, rehearse: bool = True) -> Moves:
    """Remove, in place, all channels that are not kept; layers get smaller, with new parameters.

    Args:
        model: the model that was traced.
        graph: its trace, with the present widths.
        kept: the positions that stay, by group; groups that are not named stay whole.
        rehearse: narrow a copy first, run it, and refuse if it does not do what the original did, with the removed
            channels deleted.

    Returns:
        What moved, so that optimizer states and averages can follow.

    Raises:
        ValueError: ``kept`` does not fit the graph, or the rehearsal fails; the model is untouched then.
    """
    cut = Cut.of(model, graph, kept)
    if rehearse and cut.stays:
        try:
            rehearse_cut(cut.carry_out, model, graph, graph.removed(kept))
        except Departed as departed:
            raise ValueError(_refusal(departed, graph, kept)) from departed
    return cut.carry_out(model)


def _refusal(departed: Departed, graph: ChannelGraph, kept: Kept) -> str:
    step = graph.course.steps[min(departed.step, len(graph.course.steps) - 1)]
    removed = graph.removed(kept)
    concerned = next((ids for ids in step.identities() if bool(removed[ids].any())), torch.empty(0, dtype=torch.int64))
    labels = set(graph.classes.labels[concerned].tolist())
    groups = [
        group.name
        for group, classes in zip(graph.groups, graph.classes.groups, strict=True)
        if len(kept.get(group.name, range(group.size))) < group.size and labels & set(classes.tolist())
    ]
    return f"{departed.reason} ({step.place}); nothing was cut, concerned are the groups {groups or sorted(kept)}"


def mask(model: nn.Module, graph: ChannelGraph, kept: Kept) -> None:
    """Zero, in place, all that ``narrow`` would remove; shapes stay.

    Weights that make a removed channel, weights that read it, its biases and its normalisation scales become zero, so
    that it is invisible to all its readers. Batch-norm statistics are left alone, and of a weight-normalised kernel the
    lengths become zero, not the directions.

    Raises:
        ValueError: ``kept`` does not fit the graph; the model is untouched then.
    """
    masks = graph.keep_mask(kept)
    stays = _flags(model, graph, masks)
    sources = {
        item.tensor: _relabel(model, item).masked(_inputs_stay(graph, item, masks), _outputs_stay(model, item, stays))
        for item in graph.relabellings
    }
    tensors = model.state_dict()
    for name, dims in stays.items():
        if name.endswith(NOT_MASKED) or name in sources:
            continue
        for dim, flags in dims.items():
            tensors[name].index_fill_(dim, (~flags).nonzero().flatten().to(tensors[name].device), 0)
    for name, source in sources.items():
        tensors[name].copy_(source)


def _take(tensor: Tensor, index: dict[int, Tensor]) -> Tensor:
    for dim, positions in index.items():
        tensor = tensor.index_select(dim, positions.to(tensor.device))
    return tensor


def _flags(model: nn.Module, graph: ChannelGraph, masks: dict[str, Tensor]) -> dict[str, dict[int, Tensor]]:
    """For every tensor that loses something, by dimension: one boolean per position, whether it stays."""
    shapes = {name: tensor.shape for name, tensor in model.state_dict().items()}
    flags: dict[str, dict[int, Tensor]] = {}
    for group in graph.groups:
        if group.name not in masks or bool(masks[group.name].all()):
            continue
        for piece in group.slices:
            dims = flags.setdefault(piece.tensor, {})
            dims.setdefault(piece.dim, torch.ones(shapes[piece.tensor][piece.dim], dtype=torch.bool))
            dims[piece.dim][piece.positions[~masks[group.name]].reshape(-1)] = False
    return flags


def _relabel(model: nn.Module, item: Relabelling) -> ChannelRelabel:
    module = model.get_submodule(item.tensor.rpartition(".")[0])
    assert isinstance(module, ChannelRelabel)
    return module


def _inputs_stay(graph: ChannelGraph, item: Relabelling, masks: dict[str, Tensor]) -> Tensor:
    flags = []
    for where in item.inputs:
        name = graph.groups[where[0]].name if where is not None else None
        flags.append(name is None or name not in masks or bool(masks[name][where[1]]))  # type: ignore[index]
    return torch.tensor(flags)


def _outputs_stay(model: nn.Module, item: Relabelling, stays: dict[str, dict[int, Tensor]]) -> Tensor:
    width = len(_relabel(model, item).source)
    return stays.get(item.tensor, {}).get(0, torch.ones(width, dtype=torch.bool))
