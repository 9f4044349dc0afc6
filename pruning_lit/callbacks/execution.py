"""How a cut is carried out: by smaller layers at once, or by zeros until the phase is over."""

import copy
from abc import ABC, abstractmethod
from typing import Any

import torch
from pytorch_lightning import Trainer
from torch import Tensor, nn

from pruning_lit.callbacks.carry import carry_averages, carry_optimizers
from pruning_lit.channels import (
    ChannelGraph,
    ChannelRelabel,
    ChannelSelect,
    Kept,
    Moves,
    mask,
    narrow,
    trace,
    verify,
)
from pruning_lit.channels.cut import NOT_MASKED, Removal


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
        cuts: what stayed in each cut so far, by group, in the numbering of the network as it was narrowed before it.
        sources: the buffers of the relabelling modules before the first cut; zeros are written into them, too.
    """

    def __init__(self) -> None:
        self.cuts: list[dict[str, list[int]]] = []
        self.sources: dict[str, Tensor] = {}
        self.flags: dict[str, Tensor] = {}  # by name of a tensor: 1 where it stays, 0 where it is zero

    def judged(self, net: nn.Module, example: Tensor) -> nn.Module:
        """A narrowed copy of ``net``."""
        copied = copy.deepcopy(net)
        self.remove(copied, example)
        return copied

    def remove(self, net: nn.Module, example: Tensor) -> dict[str, Tensor]:
        """Narrow ``net``, in place, by what is masked in it; returns which entries of which tensors stay."""
        for name, source in _sources(net).items():
            source.copy_(self.sources.get(name, source))
        flags = {name: torch.ones_like(tensor) for name, tensor in net.state_dict().items()}
        left = {name: torch.arange(tensor.numel()).view(tensor.shape) for name, tensor in flags.items()}
        for kept in self.cuts:
            for name, move in narrow(net, trace(net, example), kept).items():
                left[name] = left[name].flatten()[:0] if isinstance(move, Removal) else move.gather(left[name])
        for name, entries in left.items():
            if entries.numel() < flags[name].numel():
                flags[name].zero_().view(-1)[entries.flatten().to(flags[name].device)] = 1
            else:
                del flags[name]
        return flags

    def cut(
        self, trainer: Trainer, net: nn.Module, graph: ChannelGraph, kept: Kept, pictures: Tensor
    ) -> tuple[nn.Module, float]:
        """See ``Execution``."""
        if not self.cuts:
            self.sources = {name: source.cpu().clone() for name, source in _sources(net).items()}
        self.cuts.append({name: list(positions) for name, positions in kept.items()})
        narrowed = copy.deepcopy(net)
        self.flags = self.remove(narrowed, pictures[:1])
        self._mask(net, narrowed)
        parameters = dict(net.named_parameters())
        for optimizer in trainer.optimizers:
            for name in self.flags.keys() & parameters.keys():
                for value in optimizer.state.get(parameters[name], {}).values():
                    if isinstance(value, Tensor) and value.shape == parameters[name].shape:
                        value.mul_(self.flags[name])
        return narrowed, verify(narrowed, net, pictures)

    def _mask(self, net: nn.Module, narrowed: nn.Module) -> None:
        """Write the zeros; of a relabelling the entries to which nothing is handed on any more."""
        sources, remaining = _sources(net), _sources(narrowed)
        for name, tensor in net.state_dict().items():
            if name not in self.flags or name.endswith(NOT_MASKED):
                continue
            if name not in sources:
                tensor.mul_(self.flags[name])
        for name, module in _scatters(net).items():
            flags = self.flags.get(name, torch.ones_like(module.source)).bool()
            handed_on = torch.full_like(module.source, -1)
            handed_on[flags] = torch.where(remaining[name] >= 0, self.sources[name].to(flags.device)[flags], -1)
            module.source.copy_(handed_on)

    def freeze(self, net: nn.Module) -> None:
        """Zero the gradients of all that is masked, so that neither step nor momentum revives it."""
        for name, parameter in net.named_parameters():
            if name in self.flags and parameter.grad is not None and not name.endswith(NOT_MASKED):
                parameter.grad.mul_(self.flags[name])

    def resume(self, net: nn.Module, example: Tensor) -> None:
        """Find out again, after loading, what is masked."""
        if self.cuts and not self.flags:
            self.flags = self.remove(copy.deepcopy(net), example)

    def state_dict(self) -> dict[str, Any]:
        """What stays, and the wiring."""
        return {"cuts": self.cuts, "sources": self.sources}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue; the masks follow from it."""
        self.cuts, self.sources = state["cuts"], state["sources"]


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
    return {name: module.source for name, module in _relabellings(net).items()}


def _scatters(net: nn.Module) -> dict[str, ChannelRelabel]:
    """Those that provide zeros; a selection goes on taking what its reader ignores."""
    return {name: module for name, module in _relabellings(net).items() if not isinstance(module, ChannelSelect)}


def _relabellings(net: nn.Module) -> dict[str, ChannelRelabel]:
    return {
        f"{path}.source" if path else "source": module
        for path, module in net.named_modules()
        if isinstance(module, ChannelRelabel)
    }
