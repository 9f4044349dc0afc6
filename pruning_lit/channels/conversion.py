"""How a network with compactors becomes an ordinary, narrower one that computes the same."""

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.conv import _ConvNd

from pruning_lit.channels.compactor import Seat, compactors, remove_compactors
from pruning_lit.channels.folded import fold_away
from pruning_lit.channels.graph import ChannelGraph, Kept
from pruning_lit.channels.merging import folded
from pruning_lit.channels.remnants import Remnant, remnants
from pruning_lit.channels.sites import own_norms
from pruning_lit.channels.stored import layer_of
from pruning_lit.channels.surgery import narrow
from pruning_lit.channels.trace import trace

Norms = Literal["fold", "keep", "fold_all"]


def require_norms(norms: str) -> None:
    """ValueError for a word that says nothing about norms."""
    if norms not in get_args(Norms):
        raise ValueError(f"norms must be one of {list(get_args(Norms))}, got {norms!r}")


@dataclass(frozen=True)
class Conversion:
    """How a network with compactors becomes an ordinary one: convolution, norm and compactor a single, narrower layer.

    Args:
        seats: where the compactors are.
        kept: the positions that stay, by group of the network without compactors.
        norms: what becomes of the batch norms in front of compactors. ``fold``: part of their convolutions, which get
            biases. ``keep``: they stay, and carry what would be the biases, so that the network has the layers that it
            had. ``fold_all``: as ``fold``, and so does every other one that alone reads a convolution.

    Raises:
        ValueError: another word for ``norms``.

    Source: Ding et al. 2021 (ResRep), section 3.2.
    """

    seats: Sequence[Seat]
    kept: Kept
    norms: Norms = "fold"

    def __post_init__(self) -> None:
        require_norms(self.norms)

    def state_dict(self) -> dict[str, Any]:
        """All of it as plain data, for a checkpoint."""
        kept = {name: list(positions) for name, positions in self.kept.items()}
        return {"seats": [seat.state_dict() for seat in self.seats], "kept": kept, "norms": self.norms}

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> "Conversion":
        """The conversion back from ``state_dict``."""
        return cls([Seat(**seat) for seat in state["seats"]], state["kept"], state["norms"])

    def convert(self, net: nn.Module, example: Tensor) -> None:
        """Fold the compactors of ``net`` into its layers, and remove the channels that are not kept, in place.

        Args:
            net: with compactors; what it computes does not change in so far as the rows of channels that are not kept
                are zero.
            example: a picture, ``(1, C, H, W)``.

        Raises:
            ValueError: a channel cannot be removed, because something of it is left where it is read; ``net`` is
                half converted then.
        """
        there = compactors(net)
        matrices = {seat.sites[0]: there[seat.sites[0]].weight.detach() for seat in self.seats}
        gone: dict[str, list[int]] = {}
        remove_compactors(net)
        for seat in self.seats:
            rows = _removed(seat, self.kept)
            for layer, site in zip(seat.layers, seat.sites, strict=True):
                gone[f"{layer}.weight"] = rows.tolist()
                self._fold(net, layer, site, matrices[seat.sites[0]], rows)
        if self.norms == "fold_all":
            for layer, site in own_norms(net, example).items():
                if isinstance(net.get_submodule(layer), _ConvNd):
                    self._fold(net, layer, site, None, torch.empty(0, dtype=torch.int64))
        _narrow(net, example, gone)

    def _fold(self, net: nn.Module, layer: str, site: str, matrix: Tensor | None, rows: Tensor) -> None:
        """Fold one layer; these rows of it become zero."""
        conv, norm = net.get_submodule(layer), None if site == layer else net.get_submodule(site)
        assert isinstance(conv, _ConvNd)
        kernel, bias = (each.index_fill(0, rows.to(each.device), 0.0) for each in folded(conv, norm, matrix))
        with torch.no_grad():
            conv.weight.copy_(kernel)
            if norm is not None and self.norms == "keep":
                _pass_through(norm, bias)
                bias = torch.zeros_like(bias)
            elif conv.bias is None:
                conv.bias = nn.Parameter(conv.weight.new_empty(len(bias)))
            if conv.bias is not None:
                conv.bias.copy_(bias)
        if norm is not None and self.norms != "keep":
            fold_away(net, site)


def _removed(seat: Seat, kept: Kept) -> Tensor:
    """The rows of a seat that go, ascending."""
    gone = torch.zeros(seat.width, dtype=torch.bool)
    for name, rows in seat.rows.items():
        stays = torch.zeros(len(rows), dtype=torch.bool)
        stays[list(kept.get(name, range(len(rows))))] = True
        gone[torch.tensor(rows)[~stays]] = True
    return gone.nonzero().flatten()


def _pass_through(norm: nn.Module, bias: Tensor) -> None:
    """Let a batch norm add these numbers in eval mode and do nothing else; in training it normalises as before."""
    assert isinstance(norm, _BatchNorm)
    assert norm.running_mean is not None
    assert norm.running_var is not None
    norm.running_mean.zero_()
    norm.running_var.fill_(1 - norm.eps)
    if norm.affine:
        norm.weight.fill_(1.0)
        norm.bias.copy_(bias)
    else:
        norm.running_mean.copy_(-bias)


def _narrow(net: nn.Module, example: Tensor, gone: Mapping[str, list[int]]) -> None:
    """Remove channels that are zero where they are made; biases of their readers take the place of what is left."""
    weights = next(net.parameters())
    example = example.to(weights)
    graph = trace(net, example)
    wide = copy.deepcopy(net).double()
    pictures = torch.cat([example, example.flip(-1), torch.zeros_like(example)]).double()
    taken_up = [_take_up(net, *each) for each in remnants(wide, graph, _lost(graph, gone), pictures).items()]
    if any(taken_up):  # there are new biases
        graph = trace(net, example)
    lost = _lost(graph, gone)
    narrow(net, graph, {name: sorted({*range(graph[name].size)} - {*lost[name].tolist()}) for name in lost})


def _lost(graph: ChannelGraph, gone: Mapping[str, list[int]]) -> dict[str, Tensor]:
    """By group the positions of the channels of which a weight makes one in these rows."""
    lost = {}
    for group in graph.groups:
        flags = torch.zeros(group.size, dtype=torch.bool)
        for piece in group.slices:
            if piece.role == "writes" and piece.tensor in gone:
                flags |= torch.isin(piece.positions, torch.tensor(gone[piece.tensor])).any(1)
        if bool(flags.any()):
            lost[group.name] = flags.nonzero().flatten()
    return lost


def _take_up(net: nn.Module, weight: str, remnant: Remnant) -> bool:
    """Add to the bias of a reader what constants in the place of removed channels gave it; whether there was none."""
    layer = layer_of(weight)
    if not bool(remnant.is_constant.all()):
        raise ValueError(f"channels that are zero where they are made still vary where {layer!r} reads them")
    if bool(remnant.is_zero.all()):
        return False
    reader = net.get_submodule(layer)
    assert isinstance(reader, _ConvNd | nn.Linear)
    kernel = reader.weight.detach().double()
    columns = kernel.flatten(2).sum(2) if kernel.ndim > 2 else kernel
    added = columns[:, remnant.positions.to(columns.device)] @ remnant.high.to(columns.device)
    lacked = reader.bias is None
    if reader.bias is None:
        reader.bias = nn.Parameter(torch.zeros_like(added, dtype=reader.weight.dtype))
    reader.bias.data.add_(added.to(reader.bias))
    return lacked
