"""Conversion of a network with compactors into an ordinary, narrower one that computes the same."""

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

import torch
from lightning_utilities.core.apply_func import apply_to_collection
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.conv import _ConvNd, _ConvTransposeNd

from pruning_lit.channels.insertion.norm_inputs import own_norms
from pruning_lit.channels.modules.bn_folding import fold, fuse_conv_bn_compactor
from pruning_lit.channels.modules.compactor import Placement, compactor_of, remove_compactors
from pruning_lit.channels.surgery.narrow import narrow
from pruning_lit.channels.surgery.trace import trace
from pruning_lit.channels.tracing.graph import ChannelGraph, ChannelGroup, Kept
from pruning_lit.channels.tracing.views import layer_of
from pruning_lit.methods.resrep.constants import ConstantInput, can_absorb, constant_inputs
from pruning_lit.methods.resrep.kernel_reads import layers_read_elsewhere
from pruning_lit.tasks.base import like

FoldNorms = Literal["compacted", "none", "all"]
FORMER: dict[str, FoldNorms] = {"fold": "compacted", "keep": "none", "fold_all": "all"}  # in checkpoints


def require_fold_norms(fold_norms: str) -> None:
    """ValueError for a word that says nothing about batch norms."""
    if fold_norms not in get_args(FoldNorms):
        raise ValueError(f"fold_norms must be one of {list(get_args(FoldNorms))}, got {fold_norms!r}")


@dataclass(frozen=True)
class Conversion:
    """Fold compactors away: convolution, batch norm and compactor become a single, narrower layer.

    Args:
        placements: where the compactors are.
        kept: the positions that stay, by group of the network without compactors.
        fold_norms: ``compacted``: batch norms in front of compactors become part of their convolutions, which get
            biases. ``none``: they stay, and carry what would be the biases, so that the network has the layers that it
            had. ``all``: also every other one that alone reads a convolution is folded, where
            nothing else reads that layer's weights.

    Raises:
        ValueError: another word for ``fold_norms``.

    Source: Ding et al. 2021 (ResRep), section 3.2.
    """

    placements: Sequence[Placement]
    kept: Kept
    fold_norms: FoldNorms = "compacted"

    def __post_init__(self) -> None:
        require_fold_norms(self.fold_norms)

    def state_dict(self) -> dict[str, Any]:
        """All of it as plain data, for a checkpoint."""
        kept = {name: list(positions) for name, positions in self.kept.items()}
        placements = [placement.state_dict() for placement in self.placements]
        return {"placements": placements, "kept": kept, "fold_norms": self.fold_norms}

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> "Conversion":
        """The conversion back from ``state_dict``."""
        placements = state["placements"] if "placements" in state else state["seats"]  # as checkpoints once called them
        fold_norms = state["fold_norms"] if "fold_norms" in state else FORMER[state["norms"]]
        return cls([Placement.from_state(each) for each in placements], state["kept"], fold_norms)

    def convert(self, net: nn.Module, example: Any) -> Kept:
        """Fold the compactors of ``net`` into its layers, and remove the channels that are not kept, in place.

        Args:
            net: with compactors; what it computes does not change in so far as the rows of channels that are not kept
                are zero.
            example: inputs of a batch of one, as for ``trace``.

        Returns:
            What is kept really: a channel stays, with nothing but zeros, if its reader could not do without it.
        """
        example = like(example, next(net.parameters()))
        arguments = example if isinstance(example, tuple) else (example,)
        matrices = [compactor_of(net, placement).weight.detach() for placement in self.placements]
        gone: dict[str, list[int]] = {}
        remove_compactors(net)
        for placement, matrix in zip(self.placements, matrices, strict=True):
            rows = _removed(placement, self.kept)
            for layer, site in zip(placement.layers, placement.behind, strict=True):
                gone[f"{layer}.weight"] = rows.tolist()
                self._fold(net, layer, site, matrix, rows)
        if self.fold_norms == "all":
            elsewhere = layers_read_elsewhere(net, arguments)
            for layer, site in own_norms(net, example).items():
                if is_foldable(net.get_submodule(layer)) and elsewhere.isdisjoint((layer, site)):
                    self._fold(net, layer, site, None, torch.empty(0, dtype=torch.int64))
        spared = _narrow(net, example, gone)
        return {
            name: _with(spared, placement, name, self.kept) for placement in self.placements for name in placement.rows
        }

    def _fold(self, net: nn.Module, layer: str, site: str, matrix: Tensor | None, rows: Tensor) -> None:
        """Fold one layer; these rows of it become zero."""
        conv, norm = net.get_submodule(layer), None if site == layer else net.get_submodule(site)
        assert isinstance(conv, _ConvNd)
        kernel, bias = (
            each.index_fill(0, rows.to(each.device), 0.0) for each in fuse_conv_bn_compactor(conv, norm, matrix)
        )
        with torch.no_grad():
            conv.weight.copy_(kernel)
            if norm is not None and self.fold_norms == "none":
                _pass_through(norm, bias)
                bias = torch.zeros_like(bias)
            elif conv.bias is None:
                conv.bias = nn.Parameter(conv.weight.new_empty(len(bias)))
            if conv.bias is not None:
                conv.bias.copy_(bias)
        if norm is not None and self.fold_norms != "none":
            fold(net, site)


def _removed(placement: Placement, kept: Kept) -> Tensor:
    """The rows of a placement that go, ascending."""
    gone = torch.zeros(placement.width, dtype=torch.bool)
    for name, rows in placement.rows.items():
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


def is_foldable(layer: nn.Module) -> bool:
    """True for a layer that a batch norm can become part of: a convolution with a stored, not computed kernel."""
    dense = isinstance(layer, _ConvNd) and not isinstance(layer, _ConvTransposeNd)
    return dense and isinstance(layer._parameters.get("weight"), nn.Parameter)


def _with(spared: Mapping[str, list[int]], placement: Placement, name: str, kept: Kept) -> list[int]:
    """Kept positions of the group of that name, together with the spared ones."""
    rows = placement.rows[name]
    more = {at for at, row in enumerate(rows) if row in spared.get(f"{placement.layers[0]}.weight", ())}
    return sorted({*kept.get(name, range(len(rows)))} | more)


def _several(argument: Tensor) -> Tensor:
    """Three different inputs in float64: as it is, mirrored, and zeros; of other numbers the same three times."""
    if not argument.is_floating_point():
        return argument.repeat_interleave(3, 0)
    return torch.cat([argument, argument.flip(-1), torch.zeros_like(argument)]).double()


def _narrow(net: nn.Module, example: Any, gone: Mapping[str, list[int]]) -> dict[str, list[int]]:
    """Remove channels that are zero where they are made; biases of their readers take the place of what is left.

    Returns:
        By the name of a weight, the rows that stay because a reader cannot do without them.
    """
    graph = trace(net, example)
    lost = _lost(graph, gone)
    wide = copy.deepcopy(net).double()
    seen = constant_inputs(wide, graph, lost, apply_to_collection(example, Tensor, _several))
    stuck = {name: _stuck(net, graph[name], positions, seen) for name, positions in lost.items()}
    spared = _made_by(graph, {name: lost[name][flags] for name, flags in stuck.items()})
    left = {weight: sorted({*rows} - {*spared.get(weight, ())}) for weight, rows in gone.items()}
    lost = {name: positions[~stuck[name]] for name, positions in lost.items() if not bool(stuck[name].all())}
    read = [piece for name, positions in lost.items() for piece in _read(graph[name], positions)]
    biases_added = [absorb_into_bias(net, weight, seen[weight].at(positions)) for weight, positions in read]
    if any(biases_added):
        graph = trace(net, example)
    lost = _lost(graph, left)
    narrow(net, graph, {name: sorted({*range(graph[name].size)} - {*lost[name].tolist()}) for name in lost})
    return spared


def _stuck(net: nn.Module, group: ChannelGroup, positions: Tensor, seen: Mapping[str, ConstantInput]) -> Tensor:
    """True for each of these channels that a reader cannot do without."""
    stuck = torch.zeros(len(positions), dtype=torch.bool)
    for piece in group.slices:
        if piece.role == "reads":
            constant = seen[piece.tensor].at(piece.positions[positions].flatten())
            able = constant.is_constant & can_absorb(dict(net.named_modules()).get(layer_of(piece.tensor)))
            stuck |= ~(able | constant.is_zero).view(len(positions), -1).all(1)
    return stuck


def _read(group: ChannelGroup, positions: Tensor) -> list[tuple[str, Tensor]]:
    """Weights that read these channels, and where."""
    return [(piece.tensor, piece.positions[positions].flatten()) for piece in group.slices if piece.role == "reads"]


def _made_by(graph: ChannelGraph, channels: Mapping[str, Tensor]) -> dict[str, list[int]]:
    """Rows that make these channels, by the name of the weight."""
    rows: dict[str, list[int]] = {}
    for name, positions in channels.items():
        for piece in graph[name].slices:
            if piece.role == "writes" and len(positions):
                rows.setdefault(piece.tensor, []).extend(piece.positions[positions].flatten().tolist())
    return rows


def _lost(graph: ChannelGraph, gone: Mapping[str, list[int]]) -> dict[str, Tensor]:
    """Positions of the channels of which a weight makes one in these rows, by group."""
    lost = {}
    for group in graph.groups:
        flags = torch.zeros(group.size, dtype=torch.bool)
        for piece in group.slices:
            if piece.role == "writes" and piece.tensor in gone:
                flags |= torch.isin(piece.positions, torch.tensor(gone[piece.tensor])).any(1)
        if bool(flags.any()):
            lost[group.name] = flags.nonzero().flatten()
    return lost


def absorb_into_bias(net: nn.Module, weight: str, constant: ConstantInput) -> bool:
    """Add to the bias of a reader what constants in the place of removed channels gave it; whether there was none."""
    if bool(constant.is_zero.all()):
        return False
    reader = net.get_submodule(layer_of(weight))
    assert isinstance(reader, _ConvNd | nn.Linear)
    kernel = reader.weight.detach().double()
    columns = kernel.flatten(2).sum(2) if kernel.ndim > 2 else kernel
    added = columns[:, constant.positions.to(columns.device)] @ constant.high.to(columns.device)
    lacked = reader.bias is None
    if reader.bias is None:
        reader.bias = nn.Parameter(torch.zeros_like(added, dtype=reader.weight.dtype))
    reader.bias.data.add_(added.to(reader.bias))
    return lacked
