"""Removal of scatters: the layers in front get the width of their stream again, with zeros for the removed channels."""

import logging
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.conv import _ConvNd

from pruning_lit.channels.insertion.norm_inputs import own_norms
from pruning_lit.channels.modules.branch import joined
from pruning_lit.channels.modules.relabel import SCATTER
from pruning_lit.channels.surgery.trace import trace
from pruning_lit.channels.surgery.widths import ROWS_PER_GROUP, replace, sync_widths
from pruning_lit.channels.tracing.graph import ChannelGraph, ChannelGroup, ChannelSlice, Relabelling

log = logging.getLogger(__name__)

ABSENT = {"weight": 0.0, "bias": 0.0, "running_mean": 0.0, "running_var": 1.0}  # of a channel that is zeros
Places = dict[tuple[str, int], Tensor]  # tensor and dimension to the position there of each channel a scatter reads


def remove_scatters(model: nn.Module, example_input: Any) -> list[str]:
    """Give the layers in front of scatters the width of their stream, in place, and take the scatters out.

    Every channel sits at its position in the stream then, and all that made it at the same position in its own tensors;
    where the scatter had zeros these have zeros, too (a running variance: 1). Outputs do not change but for rounding.
    The names in the state dict are those of a network that never had scatters, and so are its layers: it costs more
    multiply-accumulates than with scatters. Trained on, its zeros would not stay zero.

    A scatter stays where its channels are not all made by convolutions and batch norms for it alone, one by one, or
    where nothing but the scatter itself could keep absent channels zero; a warning says why. Scatters that are modules
    of the architecture are left alone.

    Args:
        model: any module, as ``insert_scatters`` and cuts have left it.
        example_input: as for ``trace``.

    Returns:
        Names of the modules that have lost their scatter, in the order of the model's modules.

    Raises:
        ValueError: the model does not run on ``example_input``; nothing has been changed then.
    """
    if not (paths := SCATTER.found(model)):
        return []
    graph, filled = trace(model, example_input), []
    for path in paths:
        try:
            replace(model, _wide(model, graph, path))
        except CannotRemove as reason:
            log.warning("%r keeps its scatter: %s", path, reason)
            continue
        sync_widths(model)
        SCATTER.remove(model.get_submodule(path))
        filled.append(path)
    return filled


class CannotRemove(Exception):
    """The reason why a scatter has to stay."""


def _wide(model: nn.Module, graph: ChannelGraph, path: str) -> dict[str, Tensor]:
    """The tensors that make the channels of one scatter, at the width of the stream."""
    item = next((each for each in graph.relabellings if each.tensor == SCATTER.entry(path)), None)
    if item is None:
        raise CannotRemove("the forward pass does not come there")
    source = SCATTER.child(model.get_submodule(path)).source.cpu()
    if torch.equal(source, torch.arange(len(item.inputs))):
        return {}  # nothing has gone
    _require_own_zeros(model, graph, path)
    tensors, wide = model.state_dict(), {}
    for (name, dim), places in _places(model, graph, item).items():
        rows = torch.where(source >= 0, places[source.clamp(min=0)], -1).to(tensors[name].device)
        taken = tensors[name].detach().index_select(dim, rows.clamp(min=0))
        wide[name] = taken.index_fill(dim, (rows < 0).nonzero().flatten(), ABSENT[name.rpartition(".")[2]])
    return wide


def _places(model: nn.Module, graph: ChannelGraph, item: Relabelling) -> Places:
    """Positions of the channels that a scatter reads; ``CannotRemove`` unless they can be moved alone."""
    inputs = [where for where in item.inputs if where is not None]
    if len(inputs) < len(item.inputs):
        raise CannotRemove("no layer makes what it reads")
    groups = {number: graph.groups[number] for number, _ in inputs}
    _require_alone(graph, item, groups)
    for piece in (piece for group in groups.values() for piece in group.slices):
        _require_plain(model, piece)
    tensors, places = model.state_dict(), Places()
    for entry, (number, channel) in enumerate(inputs):
        for piece in groups[number].slices:
            where = places.setdefault((piece.tensor, piece.dim), torch.full((len(inputs),), -1))
            where[entry] = piece.positions[channel, 0]
    for (name, dim), where in places.items():
        if not torch.equal(where.sort().values, torch.arange(tensors[name].shape[dim])):
            raise CannotRemove(f"{name!r} does not make its channels, all of them, one by one")
    return places


def _require_alone(graph: ChannelGraph, item: Relabelling, groups: Mapping[int, ChannelGroup]) -> None:
    """Raise ``CannotRemove`` where another layer relies on the numbering of the groups that a scatter reads."""
    for group in groups.values():
        if group.protected is not None:
            raise CannotRemove(f"its channels cannot be moved: {group.protected}")
    moved = torch.cat([graph.classes.groups[number] for number in groups])
    for number in graph.numbers:
        if bool(torch.isin(graph.classes.labels[number.channels], moved).any()):
            raise CannotRemove(f"{joined(number.module, number.name)!r} counts its channels")
    for other in graph.relabellings:
        if other != item and any(where is not None and where[0] in groups for where in other.inputs):
            raise CannotRemove(f"{other.tensor.rpartition('.')[0]!r} reads its channels, too")


def _require_plain(model: nn.Module, piece: ChannelSlice) -> None:
    """Raise ``CannotRemove`` unless a convolution or batch norm makes the channels of a slice, or passes them."""
    path, _, key = piece.tensor.rpartition(".")
    layer = model.get_submodule(path)
    if piece.role == "reads":
        raise CannotRemove(f"{path!r} reads its channels, too")
    if not isinstance(layer, _ConvNd | _BatchNorm) or key not in ABSENT:
        raise CannotRemove(
            f"{piece.tensor!r} goes with its channels, and is no part of a plain convolution or batch norm"
        )
    if ROWS_PER_GROUP in vars(layer):  # one row that reads one channel might be any convolution, or a depthwise one
        raise CannotRemove(f"{path!r} is a convolution with groups of which one is left")


def _require_own_zeros(model: nn.Module, graph: ChannelGraph, path: str) -> None:
    """Raise ``CannotRemove`` where a channel that is zero in the layers might not be zero behind them.

    What a convolution or an affine batch norm makes of whatever it gets is zero where its own row is. A batch norm
    without scales has to be given zeros. One that has become a part of its convolution does nothing any more.
    """
    layer = model.get_submodule(path)
    if not isinstance(layer, _BatchNorm) or layer.weight is not None:
        return
    if path not in own_norms(model, graph.example).values():
        raise CannotRemove("it is a batch norm without scales, and not that of one convolution alone")
