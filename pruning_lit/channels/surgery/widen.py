"""The inverse of ``narrow``: layers get their former widths back."""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from pruning_lit.channels.modules.relabel import ChannelRelabel
from pruning_lit.channels.surgery.moves import Move, Moves, Removal
from pruning_lit.channels.surgery.numbers import undo
from pruning_lit.channels.surgery.widths import replace, sync_widths


@dataclass(frozen=True)
class Regrowth(Move):
    """A tensor before and after it got positions back.

    Attributes:
        old, new: before and after, as in every move.
        index: dimension to the positions of ``new`` that were in ``old``, shape ``(kept,)``.
    """

    def gather(self, companion: Tensor) -> Tensor:
        """Bring a tensor of the shape of ``old`` (a momentum, say) to that of ``new``, with zeros where it grew."""
        return self.scatter(companion, companion.new_zeros(self.new.shape))

    def scatter(self, companion: Tensor, into: Tensor) -> Tensor:
        """A copy of ``into``, of the shape of ``new``, with ``companion``, of the shape of ``old``, in its place."""
        return _put(into, self.index, companion)


def widen(model: nn.Module, moves: Moves, values: Mapping[str, Tensor] | None = None) -> Moves:
    """Undo, in place, one ``narrow``: what it removed comes back, what it kept stays as it is now.

    Several cuts are undone one by one, the last one first. To bring back only some channels, widen, trace and narrow.

    Args:
        model: the model, as wide as the cut left it; it may have been trained since.
        moves: what ``narrow`` returned.
        values: tensors of the shapes before the cut, by state-dict name, from which the removed positions are taken
            (zeros, or values stored elsewhere). Names that are missing here are taken from before the cut.
            Relabellings are always as they were before the cut.

    Returns:
        What moved, so that optimizer states and averages can follow: they are zero where channels came back.

    Raises:
        ValueError: the model has other shapes than the cut left, or ``values`` others than before it, or the cut took a
            residual branch out; the model is untouched then.

    Source: Hou et al. 2022, "CHEX: CHannel EXploration for CNN Model Compression", where regrown channels have the
    values they last had.
    """
    values = values or {}
    _require_fit(model, moves, values)
    rewritten = undo(model, moves)
    moves = {name: move for name, move in moves.items() if name not in rewritten}
    tensors = model.state_dict(keep_vars=True)
    wide = {}
    for name, move in moves.items():
        present = tensors[name]
        if is_relabelling(model, name):  # numbers of channels, all of them other ones at other widths
            wide[name] = move.old.to(present.device, copy=True)
        else:
            wide[name] = _put(values.get(name, move.old).detach().to(present), move.index, present.detach())
    new = replace(model, wide)
    sync_widths(model)
    return rewritten | {name: Regrowth(tensors[name], new[name], move.index) for name, move in moves.items()}


def _put(base: Tensor, index: dict[int, Tensor], part: Tensor) -> Tensor:
    """A copy of ``base`` with ``part`` at the crossings of the positions; dimensions not named are whole."""
    last = max(index, default=-1)
    where = [
        index.get(dim, torch.arange(base.shape[dim])).to(base.device).reshape(-1, *[1] * (last - dim))
        for dim in range(last + 1)
    ]
    result = base.clone()
    result[tuple(where)] = part
    return result


def is_relabelling(model: nn.Module, name: str) -> bool:
    """True where the tensor of that state-dict name is the wiring of a ``ChannelRelabel``."""
    return isinstance(model.get_submodule(name.rpartition(".")[0]), ChannelRelabel)


def _require_fit(model: nn.Module, moves: Moves, values: Mapping[str, Tensor]) -> None:
    tensors = model.state_dict()
    for name, move in moves.items():
        if isinstance(move, Removal):
            raise ValueError(
                f"{name!r} has gone with its residual branch, which cannot be brought back; "
                "undo such a cut by going on with a copy from before it"
            )
        if name not in tensors:
            raise ValueError(f"the model has no tensor called {name!r}; widen the model that was narrowed")
        if tensors[name].shape != move.new.shape:
            raise ValueError(
                f"{name!r} is {tuple(tensors[name].shape)}, but the cut to be undone left {tuple(move.new.shape)}; "
                "undo the last cut first"
            )
        if name in values and values[name].shape != move.old.shape:
            raise ValueError(
                f"the values given for {name!r} have the shape {tuple(values[name].shape)}, "
                f"but it was {tuple(move.old.shape)} before the cut"
            )
