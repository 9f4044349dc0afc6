"""Networks of which a part is dormant: what the channels were when they were last used, and how the rest is trained."""

import copy
from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any

from pytorch_lightning import Trainer
from torch import Tensor, nn

from pruning_lit.callbacks.optimizer_state import migrate_averages, migrate_optimizers
from pruning_lit.channels import ChannelGraph, Kept, Moves, mask, narrow, verify, widen
from pruning_lit.channels.modules.scatters import SOURCE, has_scatter
from pruning_lit.channels.surgery.cut import Cut
from pruning_lit.channels.surgery.widen import is_relabelling
from pruning_lit.methods.chex.momentum import FadingMoments
from pruning_lit.methods.chex.shift_gradients import ShiftGradients


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
        moves: from the store to what is active.
        settled: whether nothing comes back any more; the store is empty then.
    """

    def __init__(self, net: nn.Module, graph: ChannelGraph, keep_momentum: bool = False) -> None:
        self.store, self.graph, self.keep_momentum = copy.deepcopy(net), graph, keep_momentum
        self.active: dict[str, list[int]] = {}
        self.moves: Moves = {}
        self.settled = False

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

    @abstractmethod
    def hold(self, trainer: Trainer, net: nn.Module) -> None:
        """Called after every batch: what is dormant stays so."""

    @abstractmethod
    def resume(self, net: nn.Module) -> None:
        """Called when a checkpoint has been loaded into ``net`` and into this."""

    @abstractmethod
    def difference(self, net: nn.Module, pictures: Tensor) -> float:
        """How far the narrowed network is from the masked one right behind a stage, see ``verify``."""

    def settle(self) -> None:
        """What is active stays so for good: drop all that was kept for the rest."""
        self.settled, self.moves = True, {}
        self.store.to("meta")

    def to(self, like: Tensor) -> None:
        """Move the store to the device and the precision of a tensor."""
        if not self.settled:
            self.store.to(like)

    def state_dict(self) -> dict[str, Any]:
        """Plain data and tensors to go on with."""
        if self.settled:
            return {"active": self.active, "store": None}
        store = {name: tensor.detach().cpu() for name, tensor in self.store.state_dict().items()}
        return {"active": self.active, "store": store}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue."""
        self.active = state["active"]
        if state["store"] is None:
            self.settle()
            return
        self.store.to(next(tensor.dtype for tensor in state["store"].values() if tensor.is_floating_point()))
        self.store.load_state_dict(state["store"])


class Narrowed(Dormancy):
    """Dormant channels are not there: layers are as small as what is active."""

    def __init__(self, net: nn.Module, graph: ChannelGraph, keep_momentum: bool = False) -> None:
        super().__init__(net, graph, keep_momentum)
        self.fading, self.shifts = FadingMoments(), ShiftGradients()
        self.steps = 0  # of the optimizer, up to which moments have faded

    def wake(self, trainer: Trainer, net: nn.Module, values: Mapping[str, Tensor] | None = None) -> nn.Module:
        """See ``Dormancy``."""
        self.shifts.detach()
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
            self.steps = trainer.global_step
        self.moves = narrow(net, self.graph, self.active, rehearse=False)  # rehearsed when the graph was traced
        _follow(trainer, self.moves)
        if self.keep_momentum:
            self.shifts.attach(net, self.moves)

    def hold(self, trainer: Trainer, net: nn.Module) -> None:
        """What is dormant is not there; but the momentum of some of it would move."""
        if self.keep_momentum and not self.settled and trainer.global_step > self.steps:
            self.fading.fold(trainer.optimizers, dict(net.named_parameters()), self.shifts.take())
            self.steps = trainer.global_step

    def settle(self) -> None:
        """See ``Dormancy``."""
        super().settle()
        self.shifts.detach()
        self.fading = FadingMoments()

    def difference(self, net: nn.Module, pictures: Tensor) -> float:
        """See ``Dormancy``."""
        masked = copy.deepcopy(self.store)
        mask(masked, self.graph, self.active)
        return verify(net, masked, pictures)

    def state_dict(self) -> dict[str, Any]:
        """See ``Dormancy``."""
        return super().state_dict() | {"fading": self.fading.state_dict(), "steps": self.steps}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """See ``Dormancy``."""
        super().load_state_dict(state)
        self.fading.load_state_dict(state["fading"])
        self.steps = state["steps"]

    def resume(self, net: nn.Module) -> None:
        """Find out again which entries of the store are in the network."""
        if self.active and not self.settled:
            self.moves = Cut.of(self.store, self.graph, self.active).between(self.store, net)
            if self.keep_momentum:
                self.shifts.attach(net, self.moves)


class Masked(Dormancy):
    """Dormant channels are zero, in layers of full size."""

    def __init__(self, net: nn.Module, graph: ChannelGraph, keep_momentum: bool = False) -> None:
        super().__init__(net, graph, keep_momentum)
        self.wiring: dict[str, Tensor] = {}

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
        self.resume(net)
        self.hold(trainer, net)

    def resume(self, net: nn.Module) -> None:
        """Find out which entries of the store are active."""
        if self.active and not self.settled:
            self.moves = narrow(copy.deepcopy(self.store), self.graph, self.active, rehearse=False)
            self.wiring = self._open_wiring()

    def _open_wiring(self) -> dict[str, Tensor]:
        """The wiring of the scatters that adds dormant channels' zeros to active ones of the stream, by name."""
        whole, wiring = self.store.state_dict(), {}
        stays = Cut.of(self.store, self.graph, self.active).stays
        for name in (f"{path}{SOURCE}" for path, module in self.store.named_modules() if has_scatter(module)):
            source = whole[name]
            stream = stays.get(name, {}).get(0)
            wiring[name] = source.clone() if stream is None else source.where(stream.to(source.device), -1)
        return wiring

    def difference(self, net: nn.Module, pictures: Tensor) -> float:
        """See ``Dormancy``."""
        narrowed = copy.deepcopy(self.store)
        narrow(narrowed, self.graph, self.active, rehearse=False)
        return verify(narrowed, net, pictures)

    def hold(self, trainer: Trainer, net: nn.Module) -> None:
        """See ``Dormancy``."""
        if not self.active:
            return
        mask(net, self.graph, self.active)
        if (
            self.keep_momentum and not self.settled
        ):  # scatters add the zeros that are there, so that shifts have their gradient
            tensors = net.state_dict()
            for name, source in self.wiring.items():
                tensors[name].copy_(source)


def _follow(trainer: Trainer, moves: Moves) -> None:
    migrate_optimizers(trainer.optimizers, moves)
    migrate_averages(trainer.callbacks, moves)  # type: ignore[attr-defined]
