"""How a cut is carried out: what all ways share, and the usual one, smaller layers at once."""

import copy
from abc import ABC, abstractmethod
from typing import Any

from pytorch_lightning import Trainer
from torch import Tensor, nn

from pruning_lit.callbacks.optimizer_state import migrate_averages, migrate_optimizers
from pruning_lit.channels import ChannelGraph, Kept, Moves, mask, narrow, verify


class Execution(ABC):
    """Carries out cuts of a network in training, one after the other."""

    @abstractmethod
    def judged(self, net: nn.Module, example: Tensor) -> nn.Module:
        """The network with only those channels that are still there, whose cut is decided on."""

    @abstractmethod
    def cut(
        self, trainer: Trainer, net: nn.Module, graph: ChannelGraph, kept: Kept, pictures: Tensor
    ) -> tuple[nn.Module, float]:
        """Cut.

        Args:
            trainer: whose optimizers and averages follow.
            net: the network in training.
            graph: of ``judged(net)``, and in its numbering ``kept``.
            kept: what stays.
            pictures: ``(N, C, H, W)``, on which the cut is verified.

        Returns:
            The narrowed network, which may be ``net`` itself, and how far it is from the masked one, see ``verify``.
        """

    def resume(self, net: nn.Module, example: Tensor) -> None:  # noqa: B027 - as for ``freeze``
        """Called after a checkpoint has been loaded."""

    def freeze(self, net: nn.Module) -> None:  # noqa: B027 - what is not there any more need not be held
        """Remove the gradients of what has been removed; called before every optimizer step."""

    @abstractmethod
    def state_dict(self) -> dict[str, Any]:
        """Plain data to go on with."""

    @abstractmethod
    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue."""


class Narrowing(Execution):
    """Smaller layers at once; optimizers and averages follow."""

    def judged(self, net: nn.Module, example: Tensor) -> nn.Module:
        """``net`` itself."""
        return net

    def cut(
        self, trainer: Trainer, net: nn.Module, graph: ChannelGraph, kept: Kept, pictures: Tensor
    ) -> tuple[nn.Module, float]:
        """See ``Execution``."""
        moves, error = narrow_and_verify(net, graph, kept, pictures)
        migrate_optimizers(trainer.optimizers, moves)
        migrate_averages(trainer.callbacks, moves)  # type: ignore[attr-defined]
        return net, error

    def state_dict(self) -> dict[str, Any]:
        """None: the widths are those of the network."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Nothing to continue."""


def narrow_and_verify(net: nn.Module, graph: ChannelGraph, kept: Kept, pictures: Tensor) -> tuple[Moves, float]:
    """Narrow ``net``, and compare it with what it would be masked, on ``pictures`` of shape ``(N, C, H, W)``."""
    masked = copy.deepcopy(net)
    mask(masked, graph, kept)
    moves = narrow(net, graph, kept)
    return moves, verify(net, masked, pictures)
