"""Networks of which a part is dormant: what the channels were when they were last used, and how the rest is trained."""

import copy
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import torch
from pytorch_lightning import Trainer
from torch import Tensor, nn
from torch.optim import SGD, Adam, Optimizer

from pruning_lit.callbacks.carry import carry_averages, carry_optimizers
from pruning_lit.channels import ChannelGraph, Kept, Moves, mask, narrow, verify, widen
from pruning_lit.channels.cut import Cut
from pruning_lit.channels.widen import is_relabelling


class Dormancy(ABC):
    """Trains the active channels of a network, and keeps the values of all others.

    Args:
        net: the whole network, before any channel is dormant.
        graph: of it.
        keep_momentum: what comes back has the momentum it would have in a masked network, where it fades from step to
            step; else none.

    Attributes:
        store: a whole network with the most recently used values, of what is active those of the latest stage.
        active: by group, the positions of the channels that are trained; groups that are not named are whole.
    """

    def __init__(self, net: nn.Module, graph: ChannelGraph, keep_momentum: bool = False) -> None:
        self.store, self.graph, self.keep_momentum = copy.deepcopy(net), graph, keep_momentum
        self.active: dict[str, list[int]] = {}

    @abstractmethod
    def wake(self, trainer: Trainer, net: nn.Module, values: Mapping[str, Tensor] | None = None) -> nn.Module:
        """Make ``net`` whole again, the dormant channels with the values in the store, and the store like it.

        Args:
            trainer: whose optimizers and averages follow: what was dormant begins without momentum.
            net: the network in training.
            values: by name, with which dormant channels come back instead of those in the store.

        Returns:
            A copy of the whole network with zeros where channels were dormant.
        """

    @abstractmethod
    def rest(self, trainer: Trainer, net: nn.Module, active: Kept) -> None:
        """Let all channels of the whole network fall dormant that are not ``active``."""

    def hold(self, net: nn.Module) -> None:  # noqa: B027 - what is not there needs not be held
        """Called after every optimizer step: what is dormant stays so."""

    def resume(self, net: nn.Module) -> None:  # noqa: B027 - as for ``hold``
        """Called when a checkpoint has been loaded into ``net`` and into this."""

    @abstractmethod
    def difference(self, net: nn.Module, pictures: Tensor) -> float:
        """How far the narrowed network is from the masked one right behind a stage, see ``verify``."""

    def to(self, like: Tensor) -> None:
        """Move the store to the device and the precision of a tensor."""
        self.store.to(like)

    def state_dict(self) -> dict[str, Any]:
        """Plain data and tensors to go on with."""
        store = {name: tensor.detach().cpu() for name, tensor in self.store.state_dict().items()}
        return {"active": self.active, "store": store}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue."""
        self.active = state["active"]
        self.store.to(next(tensor.dtype for tensor in state["store"].values() if tensor.is_floating_point()))
        self.store.load_state_dict(state["store"])


class Narrowed(Dormancy):
    """Dormant channels are not there: layers are as small as what is active."""

    def __init__(self, net: nn.Module, graph: ChannelGraph, keep_momentum: bool = False) -> None:
        super().__init__(net, graph, keep_momentum)
        self.moves: Moves = {}
        self.fading = FadingMoments()

    def wake(self, trainer: Trainer, net: nn.Module, values: Mapping[str, Tensor] | None = None) -> nn.Module:
        """See ``Dormancy``."""
        grown = widen(net, self.moves, self.store.state_dict() if values is None else values)
        _follow(trainer, grown)
        if self.keep_momentum:
            parameters = dict(net.named_parameters())
            self.fading.give_back(trainer.optimizers, parameters, self.moves, trainer.global_step)
        masked = copy.deepcopy(net)
        mask(masked, self.graph, self.active)
        self.store.load_state_dict(net.state_dict())
        return masked

    def rest(self, trainer: Trainer, net: nn.Module, active: Kept) -> None:
        """See ``Dormancy``."""
        self.active = {name: list(positions) for name, positions in active.items()}
        if self.keep_momentum:
            self.fading.take(trainer.optimizers, dict(net.named_parameters()), trainer.global_step)
        self.moves = narrow(net, self.graph, self.active, rehearse=False)  # rehearsed when the graph was traced
        _follow(trainer, self.moves)

    def difference(self, net: nn.Module, pictures: Tensor) -> float:
        """See ``Dormancy``."""
        masked = copy.deepcopy(self.store)
        mask(masked, self.graph, self.active)
        return verify(net, masked, pictures)

    def state_dict(self) -> dict[str, Any]:
        """See ``Dormancy``."""
        return super().state_dict() | {"fading": self.fading.state_dict()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """See ``Dormancy``."""
        super().load_state_dict(state)
        self.fading.load_state_dict(state["fading"])

    def resume(self, net: nn.Module) -> None:
        """Find out again which entries of the store are in the network."""
        if self.active:
            self.moves = Cut.of(self.store, self.graph, self.active).between(self.store, net)


class Masked(Dormancy):
    """Dormant channels are zero, in layers of full size."""

    def wake(self, trainer: Trainer, net: nn.Module, values: Mapping[str, Tensor] | None = None) -> nn.Module:
        """See ``Dormancy``."""
        masked, restored = copy.deepcopy(net), copy.deepcopy(net)
        stored = dict(self.store.named_buffers())
        for name, buffer in restored.named_buffers():
            if is_relabelling(restored, name):
                buffer.copy_(stored[name])  # the mask has cut it where channels are dormant
        moves = narrow(restored, self.graph, self.active, rehearse=False)
        widen(restored, moves, self.store.state_dict() if values is None else values)
        net.load_state_dict(restored.state_dict())
        self.store.load_state_dict(restored.state_dict())
        parameters = dict(net.named_parameters())
        for name in () if self.keep_momentum else moves.keys() & parameters.keys():
            stays = moves[name].mark()
            for optimizer in trainer.optimizers:
                for value in optimizer.state.get(parameters[name], {}).values():
                    if isinstance(value, Tensor) and value.shape == stays.shape:
                        value.mul_(stays.to(value))
        return masked

    def rest(self, trainer: Trainer, net: nn.Module, active: Kept) -> None:
        """See ``Dormancy``."""
        self.active = {name: list(positions) for name, positions in active.items()}
        self.hold(net)

    def difference(self, net: nn.Module, pictures: Tensor) -> float:
        """See ``Dormancy``."""
        narrowed = copy.deepcopy(self.store)
        narrow(narrowed, self.graph, self.active, rehearse=False)
        return verify(narrowed, net, pictures)

    def hold(self, net: nn.Module) -> None:
        """See ``Dormancy``."""
        if self.active:
            mask(net, self.graph, self.active)


class FadingMoments:
    """The moments of optimizers for entries that are not trained: from step to step a constant share of them is left.

    Attributes:
        moments: by name of a parameter, by key of its state, the whole tensor when the channels fell dormant.
        since: optimizer steps that had been done then.
    """

    def __init__(self) -> None:
        self.moments: dict[str, dict[str, Tensor]] = {}
        self.since = 0

    def take(self, optimizers: Iterable[Optimizer], parameters: Mapping[str, nn.Parameter], step: int) -> None:
        """Remember the moments of the whole network, after so many optimizer steps."""
        self.since = step
        self.moments = {
            name: {key: state[key].clone() for key in factors if isinstance(state.get(key), Tensor)}
            for name, factors, state in _moments(optimizers, parameters)
        }

    def give_back(
        self, optimizers: Iterable[Optimizer], parameters: Mapping[str, nn.Parameter], moves: Moves, step: int
    ) -> None:
        """Write what is left of them, after so many optimizer steps, where the network has grown."""
        for name, factors, state in _moments(optimizers, parameters):
            for key, moment in self.moments.get(name, {}).items() if name in moves else ():
                faded = moment.to(state[key]) * factors[key] ** (step - self.since)
                state[key].copy_(torch.where(moves[name].mark().to(faded.device), state[key], faded))

    def state_dict(self) -> dict[str, Any]:
        """Plain data and tensors."""
        return {"moments": self.moments, "since": self.since}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue."""
        self.moments, self.since = state["moments"], state["since"]


def fading_factors(optimizer: Optimizer, group: Mapping[str, Any]) -> dict[str, float]:
    """By key of a state, the share of a moment that a step without gradient leaves; ValueError where nobody knows."""
    if isinstance(optimizer, SGD):
        return {"momentum_buffer": group["momentum"]}
    if isinstance(optimizer, Adam):
        return {"exp_avg": group["betas"][0], "exp_avg_sq": group["betas"][1], "max_exp_avg_sq": 1.0}
    name = type(optimizer).__name__
    raise ValueError(f"reentry_momentum=mirror knows how SGD and Adam forget, not {name}; choose reentry_momentum=zero")


def _moments(
    optimizers: Iterable[Optimizer], parameters: Mapping[str, nn.Parameter]
) -> Iterator[tuple[str, dict[str, float], dict[str, Any]]]:
    """Name, ``fading_factors`` and state of every parameter that an optimizer has."""
    names = {id(parameter): name for name, parameter in parameters.items()}
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            factors = fading_factors(optimizer, group)
            for parameter in group["params"]:
                if id(parameter) in names:
                    yield names[id(parameter)], factors, optimizer.state.get(parameter, {})


def _follow(trainer: Trainer, moves: Moves) -> None:
    carry_optimizers(trainer.optimizers, moves)
    carry_averages(trainer.callbacks, moves)  # type: ignore[attr-defined]
