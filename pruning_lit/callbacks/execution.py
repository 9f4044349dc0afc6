"""How a cut is carried out: by smaller layers at once, or by zeros until the phase is over."""

import copy
from abc import ABC, abstractmethod
from typing import Any

import torch
from pytorch_lightning import Trainer
from torch import Tensor, nn

from pruning_lit.callbacks.carry import carry_averages, carry_optimizers
from pruning_lit.channels import ChannelGraph, ChannelRelabel, Kept, Moves, mask, narrow, trace, verify
from pruning_lit.channels.cut import NOT_MASKED, Cut


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
        carry_optimizers(trainer.optimizers, moves)
        carry_averages(trainer.callbacks, moves)  # type: ignore[attr-defined]
        return net, error

    def state_dict(self) -> dict[str, Any]:
        """None: the widths are those of the network."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Nothing to continue."""


class Masking(Execution):
    """Zeros at full width, which stay zero through the training; the result is that of ``Narrowing``.

    Attributes:
        alive: what has stayed so far, in the numbering of the network as wide as it is.
        sources: the buffers of its relabelling modules before the first cut; zeros are written into them, too.
    """

    def __init__(self) -> None:
        self.alive: dict[str, list[int]] = {}
        self.sources: dict[str, Tensor] = {}
        self.flags: dict[str, Tensor] = {}  # by name of a parameter: 1 where it stays, 0 where it is zero

    def judged(self, net: nn.Module, example: Tensor) -> nn.Module:
        """A narrowed copy of ``net``."""
        copied = copy.deepcopy(net)
        self.remove(copied, example)
        return copied

    def remove(self, net: nn.Module, example: Tensor) -> None:
        """Narrow ``net``, in place, by what is masked in it."""
        self._rewire(net)
        if self.alive:
            narrow(net, trace(net, example), self.alive)

    def cut(
        self, trainer: Trainer, net: nn.Module, graph: ChannelGraph, kept: Kept, pictures: Tensor
    ) -> tuple[nn.Module, float]:
        """See ``Execution``."""
        example = pictures[:1]
        if not self.sources:
            self.sources = {name: source.cpu().clone() for name, source in _sources(net).items()}
        before = trace(self._whole(net), example)
        present = {group.name: list(range(group.size)) for group in before.groups} | self.alive
        self.alive |= {name: [present[name][position] for position in positions] for name, positions in kept.items()}
        mask(net, before, self.alive)
        self._find_flags(net, example)
        parameters = dict(net.named_parameters())
        for optimizer in trainer.optimizers:
            for name, flags in self.flags.items():
                for value in optimizer.state.get(parameters[name], {}).values():
                    if isinstance(value, Tensor) and value.shape == flags.shape:
                        value.mul_(flags)
        narrowed = self.judged(net, example)
        return narrowed, verify(narrowed, net, pictures)

    def freeze(self, net: nn.Module) -> None:
        """Zero the gradients of all that is masked, so that neither step nor momentum revives it."""
        parameters = dict(net.named_parameters())
        for name, flags in self.flags.items():
            gradient = parameters[name].grad
            if gradient is not None:
                gradient.mul_(flags)

    def resume(self, net: nn.Module, example: Tensor) -> None:
        """Find out again, after loading, what is masked."""
        if self.alive and not self.flags:
            self._find_flags(net, example)

    def _find_flags(self, net: nn.Module, example: Tensor) -> None:
        whole = self._whole(net)
        stays = Cut.of(whole, trace(whole, example), self.alive).stays
        parameters = dict(net.named_parameters())
        self.flags = {
            name: _entries(parameters[name], dims)
            for name, dims in stays.items()
            if name in parameters and not name.endswith(NOT_MASKED)
        }

    def _whole(self, net: nn.Module) -> nn.Module:
        """A copy that is wired as before the first cut."""
        copied = copy.deepcopy(net)
        self._rewire(copied)
        return copied

    def _rewire(self, net: nn.Module) -> None:
        for name, source in _sources(net).items():
            source.copy_(self.sources.get(name, source))

    def state_dict(self) -> dict[str, Any]:
        """What stays, and the wiring."""
        return {"alive": self.alive, "sources": self.sources}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue; the masks follow from it."""
        self.alive, self.sources = state["alive"], state["sources"]


def execution(name: str) -> Execution:
    """``narrow`` or ``mask``; ValueError for anything else."""
    kinds: dict[str, type[Execution]] = {"narrow": Narrowing, "mask": Masking}
    if name not in kinds:
        raise ValueError(f"execution must be 'narrow' or 'mask', got {name!r}")
    return kinds[name]()


def finish_execution(net: nn.Module, state: dict[str, Any], example: Tensor) -> None:
    """Remove, in place, what an execution with this state has only masked."""
    if state:
        masking = Masking()
        masking.load_state_dict(state)
        masking.remove(net, example)


def narrow_and_verify(net: nn.Module, graph: ChannelGraph, kept: Kept, pictures: Tensor) -> tuple[Moves, float]:
    """Narrow ``net``, and compare it with what it would be masked, on ``pictures`` of shape ``(N, C, H, W)``."""
    masked = copy.deepcopy(net)
    mask(masked, graph, kept)
    moves = narrow(net, graph, kept)
    return moves, verify(net, masked, pictures)


def _sources(net: nn.Module) -> dict[str, Tensor]:
    return {
        f"{path}.source" if path else "source": module.source
        for path, module in net.named_modules()
        if isinstance(module, ChannelRelabel)
    }


def _entries(parameter: Tensor, dims: dict[int, Tensor]) -> Tensor:
    """1 where an entry stays along all dimensions, of the shape of the parameter."""
    flags = torch.ones_like(parameter)
    for dim, stays in dims.items():
        flags.index_fill_(dim, (~stays).nonzero().flatten().to(parameter.device), 0)
    return flags
