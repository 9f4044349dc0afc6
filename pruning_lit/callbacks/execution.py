"""Execution of a cut, by smaller layers at once or by zeros: the setting, the interface, and the smaller layers."""

import copy
from abc import ABC, abstractmethod
from typing import Any, TypeVar

from pytorch_lightning import Trainer
from torch import Tensor, nn

from pruning_lit.callbacks.optimizer_state import migrate
from pruning_lit.channels import ChannelGraph, Kept, Moves, mask, narrow, verify
from pruning_lit.tasks.base import Task, View

Kind = TypeVar("Kind")


def by_execution(execution: str, *, narrow: Kind, mask: Kind) -> Kind:
    """Choose by the setting ``execution``; ValueError for another word than ``narrow`` and ``mask``."""
    kinds = {"narrow": narrow, "mask": mask}
    if execution not in kinds:
        raise ValueError(f"execution must be one of {list(kinds)}, got {execution!r}")
    return kinds[execution]


class Execution(ABC):
    """Carry out cuts of a network in training, one after the other."""

    @abstractmethod
    def network_to_score(self, net: nn.Module, example: Tensor, view: View = Task.view) -> nn.Module:
        """The network with only those channels that are still there, to score and to decide by.

        Args:
            net: the network.
            example: inputs of its view.
            view: the part of a network that cuts are of.
        """

    @abstractmethod
    def cut(
        self, trainer: Trainer, net: nn.Module, graph: ChannelGraph, kept: Kept, images: Tensor
    ) -> tuple[nn.Module, float]:
        """Cut.

        Args:
            trainer: whose optimizers and averages follow.
            net: the network in training.
            graph: of ``network_to_score(net)``, and in its numbering ``kept``.
            kept: what stays.
            images: ``(N, C, H, W)``, on which the cut is verified.

        Returns:
            The narrowed network, which may be ``net`` itself, and how far it is from the masked one, see ``verify``.
        """

    def resume(self, net: nn.Module, example: Tensor) -> None:  # noqa: B027 - widths tell what is narrow
        """Find out what has been removed, after a checkpoint has been loaded."""

    def mask_again(self, net: nn.Module) -> None:  # noqa: B027 - likewise
        """Make removed channels zero again, after all weights were renewed."""

    def zero_masked_gradients(self, net: nn.Module) -> None:  # noqa: B027 - what is not there has none
        """Zero the gradients of removed channels; called before every optimizer step."""

    @abstractmethod
    def state_dict(self) -> dict[str, Any]:
        """Plain data to go on with."""

    @abstractmethod
    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from ``state_dict``."""


class Narrowing(Execution):
    """Smaller layers at once; optimizers and averages follow."""

    def network_to_score(self, net: nn.Module, example: Tensor, view: View = Task.view) -> nn.Module:
        """``net`` itself."""
        return net

    def cut(
        self, trainer: Trainer, net: nn.Module, graph: ChannelGraph, kept: Kept, images: Tensor
    ) -> tuple[nn.Module, float]:
        """Narrow ``net``; optimizers and averages follow."""
        moves, error = narrow_and_verify(net, graph, kept, images)
        migrate(trainer, moves)
        return net, error

    def state_dict(self) -> dict[str, Any]:
        """Empty: the widths are those of the network."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from an empty state."""


def narrow_and_verify(net: nn.Module, graph: ChannelGraph, kept: Kept, images: Tensor) -> tuple[Moves, float]:
    """Narrow ``net``, and compare it with what it would be masked, on ``images`` of shape ``(N, C, H, W)``."""
    masked = copy.deepcopy(net)
    mask(masked, graph, kept)
    moves = narrow(net, graph, kept)
    return moves, verify(net, masked, images)
