"""A cut by zeros, which become smaller layers when the phase is over."""

import copy
from collections.abc import Iterable, Mapping
from typing import Any

import torch
from pytorch_lightning import Trainer
from torch import Tensor, nn
from torch.optim import Optimizer

from pruning_lit.callbacks.execution import Execution
from pruning_lit.channels import ChannelGraph, ChannelRelabel, ChannelSelect, Kept, narrow, trace, verify
from pruning_lit.channels.state import state_tensors
from pruning_lit.channels.surgery.cut import NOT_MASKED
from pruning_lit.channels.surgery.moves import Removal
from pruning_lit.tasks.base import Task, View


class Masking(Execution):
    """Zeros at full width, which stay zero through the training; the result is that of ``Narrowing``.

    Attributes:
        cuts: what stayed in each cut so far, by group, in the numbering of the network as it was narrowed before it.
        sources: the buffers of the relabelling modules before the first cut; zeros are written into them, too.
    """

    def __init__(self) -> None:
        self.cuts: list[dict[str, list[int]]] = []
        self.sources: dict[str, Tensor] = {}
        self.masks: dict[str, Tensor] = {}  # by name of a tensor: 1 where it stays, 0 where it is zero

    def network_to_score(self, net: nn.Module, example: Tensor, view: View = Task.view) -> nn.Module:
        """A narrowed copy of ``net``."""
        copied = copy.deepcopy(net)
        self.remove(view(copied), example)
        return copied

    def remove(self, net: nn.Module, example: Any) -> dict[str, Tensor]:
        """Narrow ``net``, in place, by what is masked in it; returns which entries of which tensors stay."""
        for name, source in _sources(net).items():
            source.copy_(self.sources.get(name, source))
        # of whatever memory format a tensor is, its flags are contiguous, so that they can be numbered
        flags = {name: torch.ones(each.shape).to(each) for name, each in state_tensors(net).items()}
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
        self, trainer: Trainer, net: nn.Module, graph: ChannelGraph, kept: Kept, images: Tensor
    ) -> tuple[nn.Module, float]:
        """Write zeros into ``net``, and into the optimizer state that belongs to them."""
        if not self.cuts:
            self.sources = {name: source.cpu().clone() for name, source in _sources(net).items()}
        self.cuts.append({name: list(positions) for name, positions in kept.items()})
        narrowed = copy.deepcopy(net)
        self.masks = self.remove(narrowed, graph.example)
        self._mask(net, narrowed)
        zero_optimizer_state(trainer.optimizers, net, self.masks)
        return narrowed, verify(narrowed, net, images)

    def _mask(self, net: nn.Module, narrowed: nn.Module) -> None:
        """Write the zeros; of a relabelling the entries to which nothing is handed on any more."""
        self.mask_again(net)
        remaining = _sources(narrowed)
        for name, module in _scatters(net).items():
            flags = self.masks.get(name, torch.ones_like(module.source)).bool()
            handed_on = torch.full_like(module.source, -1)
            handed_on[flags] = torch.where(remaining[name] >= 0, self.sources[name].to(flags.device)[flags], -1)
            module.source.copy_(handed_on)

    def mask_again(self, net: nn.Module) -> None:
        """Write the zeros into weights and statistics."""
        sources = _sources(net)
        for name, tensor in net.state_dict().items():
            if name in self.masks and name not in sources and not name.endswith(NOT_MASKED):
                tensor.mul_(self.masks[name])

    def zero_masked_gradients(self, net: nn.Module) -> None:
        """Zero the gradients of masked channels, so that neither step nor momentum revives them."""
        zero_gradients(net, {name: each for name, each in self.masks.items() if not name.endswith(NOT_MASKED)})

    def resume(self, net: nn.Module, example: Tensor) -> None:
        """Find out again, after loading, what is masked."""
        if self.cuts and not self.masks:
            self.masks = self.remove(copy.deepcopy(net), example)

    def state_dict(self) -> dict[str, Any]:
        """Kept positions of every cut, and the wiring."""
        return {"cuts": self.cuts, "sources": self.sources}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue; the masks follow from it."""
        self.cuts, self.sources = state["cuts"], state["sources"]


def zero_gradients(net: nn.Module, masks: Mapping[str, Tensor]) -> None:
    """Zero the gradients of masked entries.

    Args:
        net: in training.
        masks: by name of a parameter, of its shape, 0 where it is masked and 1 elsewhere.
    """
    for name, parameter in net.named_parameters():
        if name in masks and parameter.grad is not None:
            parameter.grad.mul_(masks[name].to(parameter.grad))


def zero_optimizer_state(optimizers: Iterable[Optimizer], net: nn.Module, masks: Mapping[str, Tensor]) -> None:
    """Zero the optimizer state (momentum, Adam's moments) of masked entries; arguments as for ``zero_gradients``."""
    masked = [(parameter, masks[name]) for name, parameter in net.named_parameters() if name in masks]
    for optimizer in optimizers:
        for parameter, mask in masked:
            for value in optimizer.state.get(parameter, {}).values():
                if isinstance(value, Tensor) and value.shape == parameter.shape:
                    value.mul_(mask.to(value))


def finish_execution(net: nn.Module, state: dict[str, Any], example: Tensor) -> None:
    """Remove, in place, what an execution with this state has only masked."""
    if state:
        masking = Masking()
        masking.load_state_dict(state)
        masking.remove(net, example)


def _sources(net: nn.Module) -> dict[str, Tensor]:
    return {name: module.source for name, module in _relabellings(net).items()}


def _scatters(net: nn.Module) -> dict[str, ChannelRelabel]:
    """Scatters, which provide zeros; a selection goes on taking what its reader ignores."""
    return {name: module for name, module in _relabellings(net).items() if not isinstance(module, ChannelSelect)}


def _relabellings(net: nn.Module) -> dict[str, ChannelRelabel]:
    return {
        f"{path}.source" if path else "source": module
        for path, module in net.named_modules()
        if isinstance(module, ChannelRelabel)
    }
