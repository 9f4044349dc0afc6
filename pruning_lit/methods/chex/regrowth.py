"""Regrow init: values with which pruned channels come back, their latest ones (MRU), averages, zeros or new ones."""

from collections.abc import Callable, Mapping
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn

from pruning_lit.channels import Move, Moves, Regrowth
from pruning_lit.channels.surgery.widen import is_relabelling
from pruning_lit.criteria.bn_scale import scale_names, scales_of
from pruning_lit.methods.chex.dormancy import PrunedState

Init = Literal["mru", "zero", "random", "ema"]


class RegrowInit:
    """Values of a channel that comes back.

    Args:
        init: ``mru``: as it was when it was last used; ``random``: as in a newly built network; ``ema``: the moving
            average of what it was in use; ``zero``: as it was last, but what reads it has zeros for it, so that
            outputs do not change at once. On a shortcut, which nothing reads by weights, its scale and bias are zero.
            (Zeros everywhere would never get a gradient.)
        ema_decay: share of a moving average that one optimizer step leaves, in [0, 1).

    Raises:
        ValueError: a setting is out of its range.
    """

    def __init__(self, init: Init = "mru", ema_decay: float = 0.999) -> None:
        if init not in get_args(Init):
            raise ValueError(f"regrow_init must be one of {list(get_args(Init))}, got {init!r}")
        if isinstance(ema_decay, bool) or not isinstance(ema_decay, int | float) or not 0 <= ema_decay < 1:
            raise ValueError(
                f"ema_decay is the share of an average that a step leaves, from 0 to below 1, got {ema_decay!r}"
            )
        self.init, self.ema_decay = init, float(ema_decay)
        self.averages: ActiveEMA | None = None

    def begin(self, whole: nn.Module) -> None:
        """Begin averages, where they are asked for, with the whole network, before training."""
        if self.init == "ema":
            self.averages = ActiveEMA(whole, self.ema_decay)

    def update(self, net: nn.Module, pruned: PrunedState, step: int) -> None:
        """Update the averages; called after every batch, after so many optimizer steps."""
        if self.averages is not None:
            self.averages.update(net, pruned.moves, step)

    def values(self, pruned: PrunedState, fresh: Callable[[nn.Module], dict[str, Tensor]]) -> dict[str, Tensor] | None:
        """Whole tensors by name, for ``PrunedState.restore``; None for the most recent ones.

        Args:
            pruned: the channels, before they are restored.
            fresh: tensors of a newly built network like the one it gets.
        """
        if self.init == "random":
            return fresh(pruned.most_recent)
        if self.init == "zero":
            return zero_effect(pruned)
        return None if self.averages is None else self.averages.values

    def end(self) -> None:
        """Drop the averages: nothing comes back any more."""
        self.averages = None

    def state_dict(self) -> dict[str, Any]:
        """Plain data and tensors."""
        return {} if self.averages is None else {"averages": self.averages.state_dict()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from ``state_dict``."""
        if "averages" not in state:
            self.end()
        elif self.averages is not None:
            self.averages.load_state_dict(state["averages"])


class ActiveEMA:
    """Exponential moving averages of all entries of a network; those of pruned channels stand still.

    Args:
        whole: the network as it begins; its values are the first averages.
        decay: share of the average that one optimizer step leaves, in [0, 1).

    Attributes:
        values: by name, whole tensors of floating point.
        steps: of the optimizer, that they have taken in.
    """

    def __init__(self, whole: nn.Module, decay: float) -> None:
        self.decay, self.steps = decay, 0
        self.values = {
            name: tensor.detach().clone()
            for name, tensor in whole.state_dict().items()
            if tensor.is_floating_point() and not is_relabelling(whole, name)
        }

    @torch.no_grad()
    def update(self, net: nn.Module, moves: Moves, step: int) -> None:
        """Take in the values after so many optimizer steps; nothing new where there was none since the last time.

        Args:
            net: the network in training, narrowed by ``moves`` or masked at full width.
            moves: from the whole network to what is active.
            step: of the optimizer.
        """
        if step <= self.steps:
            return
        self.steps = step
        for name, tensor in net.state_dict().items():
            if name in self.values:
                self.values[name] = self._blended(self.values[name].to(tensor.device), tensor, moves.get(name))

    def _blended(self, average: Tensor, tensor: Tensor, move: Move | None) -> Tensor:
        if move is None:
            return average.lerp(tensor.to(average), 1 - self.decay)
        active = tensor if tensor.shape == move.new.shape else move.gather(tensor)
        blended = move.gather(average).lerp(active.to(average), 1 - self.decay)
        return Regrowth(move.new, move.old, move.index).scatter(blended, average)

    def state_dict(self) -> dict[str, Any]:
        """Plain data and tensors."""
        return {"values": {name: value.cpu() for name, value in self.values.items()}, "steps": self.steps}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from ``state_dict``."""
        self.values, self.steps = dict(state["values"]), state["steps"]


def zero_effect(pruned: PrunedState) -> dict[str, Tensor]:
    """The most recent values, with zeros where pruned channels would take part in anything else."""
    values = {name: tensor.clone() for name, tensor in pruned.most_recent.state_dict().items()}
    norms = scale_names(pruned.most_recent)
    for group in pruned.graph.prunable:
        active = pruned.active.get(group.name)
        if active is None:
            continue
        away = torch.tensor(sorted({*range(group.size)} - {*active}), dtype=torch.long)
        readers = [(piece.tensor, piece.dim, piece.positions) for piece in group.slices if piece.role == "reads"]
        if not readers:
            for scale in scales_of(group, norms):
                bias = f"{scale.parameter.rpartition('.')[0]}.bias"
                readers += [(name, 0, scale.positions) for name in (scale.parameter, bias) if name in values]
        for name, dim, positions in readers:
            values[name].index_fill_(dim, positions[away].flatten().to(values[name].device), 0)
    return values
