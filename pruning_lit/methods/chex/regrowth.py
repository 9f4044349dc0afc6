"""The values with which channels come back."""

from collections.abc import Callable, Mapping
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn

from pruning_lit.criteria.bn_scale import scale_names, scales_of
from pruning_lit.methods.chex.active_averages import ActiveAverages
from pruning_lit.methods.chex.dormancy import Dormancy

RegrowInit = Literal["mru", "zero", "random", "ema"]


class Comeback:
    """What a channel is like that comes back.

    Args:
        init: ``mru``: as it was when it was last used; ``random``: as in a newly built network; ``ema``: the moving
            average of what it was in use; ``zero``: as it was last, but what reads it has zeros for it, so that
            outputs do not change at once. On a shortcut, which nothing reads by weights, its scale and shift are zero.
            (Zeros everywhere would never get a gradient.)
        ema_decay: share of a moving average that one optimizer step leaves, in [0, 1).

    Raises:
        ValueError: a setting is out of its range.
    """

    def __init__(self, init: RegrowInit = "mru", ema_decay: float = 0.999) -> None:
        if init not in get_args(RegrowInit):
            raise ValueError(f"regrow_init must be one of {list(get_args(RegrowInit))}, got {init!r}")
        if isinstance(ema_decay, bool) or not isinstance(ema_decay, int | float) or not 0 <= ema_decay < 1:
            raise ValueError(
                f"ema_decay is the share of an average that a step leaves, from 0 to below 1, got {ema_decay!r}"
            )
        self.init, self.ema_decay = init, float(ema_decay)
        self.averages: ActiveAverages | None = None

    def begin(self, whole: nn.Module) -> None:
        """Called with the whole network, before training."""
        if self.init == "ema":
            self.averages = ActiveAverages(whole, self.ema_decay)

    def update(self, net: nn.Module, dormancy: Dormancy, step: int) -> None:
        """Called after every batch, after so many optimizer steps."""
        if self.averages is not None:
            self.averages.update(net, dormancy.moves, step)

    def values(self, dormancy: Dormancy, fresh: Callable[[nn.Module], dict[str, Tensor]]) -> dict[str, Tensor] | None:
        """Whole tensors by name, for ``Dormancy.wake``; None for those in the store.

        Args:
            dormancy: of the network, before it wakes.
            fresh: tensors of a newly built network like the one it gets.
        """
        if self.init == "random":
            return fresh(dormancy.store)
        if self.init == "zero":
            return without_effect(dormancy)
        return None if self.averages is None else self.averages.values

    def state_dict(self) -> dict[str, Any]:
        """Plain data and tensors."""
        return {} if self.averages is None else {"averages": self.averages.state_dict()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue."""
        if "averages" not in state:
            self.end()
        elif self.averages is not None:
            self.averages.load_state_dict(state["averages"])

    def end(self) -> None:
        """Nothing comes back any more."""
        self.averages = None


def without_effect(dormancy: Dormancy) -> dict[str, Tensor]:
    """The values in the store, with zeros where what is dormant would take part in anything else."""
    values = {name: tensor.clone() for name, tensor in dormancy.store.state_dict().items()}
    norms = scale_names(dormancy.store)
    for group in dormancy.graph.prunable:
        active = dormancy.active.get(group.name)
        if active is None:
            continue
        away = torch.tensor(sorted({*range(group.size)} - {*active}), dtype=torch.long)
        readers = [(piece.tensor, piece.dim, piece.positions) for piece in group.slices if piece.role == "reads"]
        if not readers:
            for scale in scales_of(group, norms):
                shift = f"{scale.parameter.rpartition('.')[0]}.bias"
                readers += [(name, 0, scale.positions) for name in (scale.parameter, shift) if name in values]
        for name, dim, positions in readers:
            values[name].index_fill_(dim, positions[away].flatten().to(values[name].device), 0)
    return values
