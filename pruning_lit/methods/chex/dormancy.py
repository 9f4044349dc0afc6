"""Pruned channels of a network in exploration: the values they had when last used, and the training of all others."""

import copy
from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any

from pytorch_lightning import Trainer
from torch import Tensor, nn

from pruning_lit.callbacks.masking import zero_gradients, zero_optimizer_state
from pruning_lit.callbacks.optimizer_state import migrate
from pruning_lit.channels import ChannelGraph, Kept, Move, Moves, mask, narrow, verify, widen
from pruning_lit.channels.surgery.cut import Cut
from pruning_lit.channels.surgery.widen import is_relabelling
from pruning_lit.tasks.base import Task, View


class PrunedState(ABC):
    """Train the active channels of a network, and keep the values of the pruned ones, which may come back.

    Args:
        net: the whole network, before any channel is pruned.
        graph: of it.

    Attributes:
        most_recent: a whole network with the most recently used values (the paper's MRU), of active channels those of
            the latest stage.
        active: by group, the positions of the channels that are trained; groups that are not named are whole.
        moves: from the whole network to what is active.
        final: whether nothing comes back any more; ``most_recent`` is empty then.
    """

    def __init__(self, net: nn.Module, graph: ChannelGraph) -> None:
        self.most_recent, self.graph = copy.deepcopy(net), graph
        self.active: dict[str, list[int]] = {}
        self.moves: Moves = {}
        self.final = False

    @abstractmethod
    def restore(self, trainer: Trainer, net: nn.Module, values: Mapping[str, Tensor] | None = None) -> nn.Module:
        """Make ``net`` whole again, pruned channels with their most recent values, which are brought up to date.

        Args:
            trainer: whose optimizers and averages follow: what was pruned begins without momentum.
            net: the network in training.
            values: by name, with which pruned channels come back instead of the most recent ones.

        Returns:
            A copy of the whole network with zeros where channels were pruned.
        """

    @abstractmethod
    def prune(self, trainer: Trainer, net: nn.Module, active: Kept) -> None:
        """Prune all channels of the whole network that are not ``active``."""

    def zero_masked_gradients(self, net: nn.Module) -> None:  # noqa: B027 - what is not there has none
        """Zero the gradients of pruned channels; called before every optimizer step."""

    @abstractmethod
    def resume(self, trainer: Trainer, net: nn.Module) -> None:
        """Find out what is pruned, after a checkpoint has been loaded into ``net``, into this and the optimizers."""

    @abstractmethod
    def difference(self, net: nn.Module, images: Tensor, view: View = Task.view) -> float:
        """Compare the views of the narrowed and the masked network right behind a stage, see ``verify``."""

    def finalise(self) -> None:
        """Drop the values of pruned channels: none comes back any more."""
        self.final, self.moves = True, {}
        self.most_recent.to("meta")

    def to(self, like: Tensor) -> None:
        """Move the most recent values to the device and the precision of a tensor."""
        if not self.final:
            self.most_recent.to(like)

    def state_dict(self) -> dict[str, Any]:
        """Plain data and tensors to go on with."""
        values = None
        if not self.final:
            values = {name: tensor.detach().cpu() for name, tensor in self.most_recent.state_dict().items()}
        return {"active": self.active, "store": values}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from ``state_dict``."""
        self.active = state["active"]
        if state["store"] is None:
            self.finalise()
            return
        self.most_recent.to(next(tensor.dtype for tensor in state["store"].values() if tensor.is_floating_point()))
        self.most_recent.load_state_dict(state["store"])


class NarrowState(PrunedState):
    """Layers as small as what is active: pruned channels are not there."""

    def restore(self, trainer: Trainer, net: nn.Module, values: Mapping[str, Tensor] | None = None) -> nn.Module:
        """Widen ``net``, see ``PrunedState``."""
        migrate(trainer, widen(net, self.moves, self.most_recent.state_dict() if values is None else values))
        masked = copy.deepcopy(net)
        mask(masked, self.graph, self.active)
        self.most_recent.load_state_dict(net.state_dict())
        return masked

    def prune(self, trainer: Trainer, net: nn.Module, active: Kept) -> None:
        """Narrow ``net``, see ``PrunedState``."""
        self.active = {name: list(positions) for name, positions in active.items()}
        self.moves = narrow(net, self.graph, self.active, rehearse=False)  # rehearsed when the graph was traced
        migrate(trainer, self.moves)

    def resume(self, trainer: Trainer, net: nn.Module) -> None:
        """Find out which entries of the whole network are in ``net``."""
        if self.active and not self.final:
            self.moves = Cut.of(self.most_recent, self.graph, self.active).between(self.most_recent, net)

    def difference(self, net: nn.Module, images: Tensor, view: View = Task.view) -> float:
        """Compare ``net`` with a masked copy of the whole network."""
        masked = copy.deepcopy(self.most_recent)
        mask(masked, self.graph, self.active)
        return verify(view(net), view(masked), images)


class MaskState(PrunedState):
    """Layers of full size in which pruned channels are zero.

    Attributes:
        masks: by name of a parameter, one boolean per entry: false for those of pruned channels.
    """

    def __init__(self, net: nn.Module, graph: ChannelGraph) -> None:
        super().__init__(net, graph)
        self.masks: dict[str, Tensor] = {}

    def restore(self, trainer: Trainer, net: nn.Module, values: Mapping[str, Tensor] | None = None) -> nn.Module:
        """Write the values of pruned channels, see ``PrunedState``; their optimizer state has been zero throughout."""
        masked, restored = copy.deepcopy(net), copy.deepcopy(net)
        whole = dict(self.most_recent.named_buffers())
        for name, buffer in restored.named_buffers():
            if is_relabelling(restored, name):
                buffer.copy_(whole[name])  # the mask has cut it where channels are pruned
        moves = narrow(restored, self.graph, self.active, rehearse=False)
        widen(restored, moves, self.most_recent.state_dict() if values is None else values)
        net.load_state_dict(restored.state_dict())
        self.most_recent.load_state_dict(restored.state_dict())
        return masked

    def prune(self, trainer: Trainer, net: nn.Module, active: Kept) -> None:
        """Write zeros, see ``PrunedState``."""
        self.active = {name: list(positions) for name, positions in active.items()}
        mask(net, self.graph, self.active)
        self.resume(trainer, net)

    def resume(self, trainer: Trainer, net: nn.Module) -> None:
        """Find out which entries are zero; checkpoints of earlier versions have momentum there."""
        if not self.active:
            return
        if not self.final:
            self.moves = narrow(copy.deepcopy(self.most_recent), self.graph, self.active, rehearse=False)
        stays, parameters = Cut.of(net, self.graph, self.active).stays, dict(net.named_parameters())
        self.masks = {
            name: Move(
                parameters[name], parameters[name], {dim: at.nonzero().flatten() for dim, at in dims.items()}
            ).mark()
            for name, dims in stays.items()
            if name in parameters
        }
        zero_optimizer_state(trainer.optimizers, net, self.masks)

    def zero_masked_gradients(self, net: nn.Module) -> None:
        """Zero the gradients of pruned channels, so that neither step nor momentum moves them."""
        zero_gradients(net, self.masks)

    def difference(self, net: nn.Module, images: Tensor, view: View = Task.view) -> float:
        """Compare ``net`` with a narrowed copy of the whole network."""
        narrowed = copy.deepcopy(self.most_recent)
        narrow(narrowed, self.graph, self.active, rehearse=False)
        return verify(view(narrowed), view(net), images)
