"""Moving averages of what is active: the values with which channels can come back, in place of the last ones."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from pruning_lit.channels import Move, Moves, Regrowth
from pruning_lit.channels.surgery.widen import is_relabelling


class ActiveAverages:
    """Exponential moving averages of all entries of a network; those that are dormant keep the average they had.

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
        """Continue."""
        self.values, self.steps = dict(state["values"]), state["steps"]
