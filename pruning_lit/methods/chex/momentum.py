"""Moments of optimizers that nobody trains: what training by masks would have left of them."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.optim import SGD, Adam, Optimizer

from pruning_lit.channels import Moves


class Memory(NamedTuple):
    """How a moment forgets, and takes in a gradient: ``factor * moment + gain * gradient ** power``.

    Attributes:
        factor: share of the moment that one step leaves.
        gain: of what is new; 0: nothing of it, the moment is a maximum of another one.
        power: of the gradient.
    """

    factor: float
    gain: float
    power: int


class FadingMoments:
    """The moments of optimizers for entries that are not trained: from step to step a constant share of them is left.

    Some entries have a gradient nonetheless, which is told after every step, see ``fold``.

    Attributes:
        moments: by name of a parameter, by key of its state, the whole tensor when the channels fell dormant; of
            parameters that were folded, the present one.
        since: optimizer steps that had been done then.
        folded: names of the parameters whose gradient is told.
    """

    def __init__(self) -> None:
        self.moments: dict[str, dict[str, Tensor]] = {}
        self.since = 0
        self.folded: list[str] = []

    def take(self, optimizers: Iterable[Optimizer], parameters: Mapping[str, nn.Parameter], step: int) -> None:
        """Remember the moments of the whole network, after so many optimizer steps."""
        self.since, self.folded = step, []
        self.moments = {
            name: {key: state[key].clone() for key in memories if isinstance(state.get(key), Tensor)}
            for name, memories, state in _moments(optimizers, parameters)
        }

    def fold(
        self, optimizers: Iterable[Optimizer], parameters: Mapping[str, nn.Parameter], gradients: Mapping[str, Tensor]
    ) -> None:
        """One optimizer step has been done, in which parameters would have had these gradients (whole ones)."""
        for name, memories, _ in _moments(optimizers, parameters):
            if name not in gradients:
                continue
            gradient, known = gradients[name].detach(), self.moments.setdefault(name, {})
            for key, memory in memories.items():
                before = known.get(key, torch.zeros_like(gradient)).to(gradient)
                if memory.gain:
                    known[key] = memory.factor * before + memory.gain * gradient**memory.power
                else:
                    known[key] = before.maximum(known["exp_avg_sq"])
            self.folded = sorted({*self.folded, name})

    def give_back(
        self, optimizers: Iterable[Optimizer], parameters: Mapping[str, nn.Parameter], moves: Moves, step: int
    ) -> None:
        """Write what is left of them, after so many optimizer steps, where the network has grown."""
        for name, memories, state in _moments(optimizers, parameters):
            age = 0 if name in self.folded else step - self.since
            for key, moment in self.moments.get(name, {}).items() if name in moves else ():
                if key in state:
                    faded = moment.to(state[key]) * memories[key].factor ** age
                    state[key].copy_(torch.where(moves[name].mark().to(faded.device), state[key], faded))

    def state_dict(self) -> dict[str, Any]:
        """Plain data and tensors."""
        return {"moments": self.moments, "since": self.since, "folded": self.folded}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue."""
        self.moments, self.since, self.folded = state["moments"], state["since"], state["folded"]


def memories(optimizer: Optimizer, group: Mapping[str, Any]) -> dict[str, Memory]:
    """By key of a state, how that moment forgets; ValueError for optimizers of which nobody knows."""
    if isinstance(optimizer, SGD):
        return {"momentum_buffer": Memory(group["momentum"], 1 - group["dampening"], 1)} if group["momentum"] else {}
    if isinstance(optimizer, Adam):
        first, second = group["betas"]
        maximum = {"max_exp_avg_sq": Memory(1.0, 0.0, 2)} if group["amsgrad"] else {}
        return {"exp_avg": Memory(first, 1 - first, 1), "exp_avg_sq": Memory(second, 1 - second, 2)} | maximum
    name = type(optimizer).__name__
    raise ValueError(f"reentry_momentum=mirror knows how SGD and Adam forget, not {name}; choose reentry_momentum=zero")


def _moments(
    optimizers: Iterable[Optimizer], parameters: Mapping[str, nn.Parameter]
) -> Iterator[tuple[str, dict[str, Memory], dict[str, Any]]]:
    """Name, ``memories`` and state of every parameter that an optimizer has."""
    names = {id(parameter): name for name, parameter in parameters.items()}
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            known = memories(optimizer, group)
            for parameter in group["params"]:
                if id(parameter) in names:
                    yield names[id(parameter)], known, optimizer.state.get(parameter, {})
