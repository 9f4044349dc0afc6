"""A ``ChannelSelect`` as a part of a batch norm: it takes from the norm's input what the norm is going to read."""

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from pruning_lit.channels.modules.relabel import ChannelSelect

SELECT = "select"  # the child of a batch norm that holds its selection
SOURCE = f".{SELECT}.source"


def selected(norm: nn.Module, args: tuple[Any, ...]) -> tuple[Any, ...]:
    """Forward pre-hook of a batch norm: the arguments, with its own selection of the input's channels."""
    return (norm.get_submodule(SELECT)(args[0]), *args[1:])


def select_in_front(norm: _BatchNorm, width: int) -> None:
    """Let a batch norm read its input through a selection, for now of the first ``width`` channels.

    The state dict gets ``<norm>.select.source``; no other name changes.
    """
    device = next((tensor.device for tensor in norm.state_dict().values()), None)
    norm.add_module(SELECT, ChannelSelect(width).to(device))
    attach_selections(norm)


def attach_selections(model: nn.Module) -> None:
    """Apply the selections of all batch norms that have one, where that is not done yet.

    ``nn.SyncBatchNorm.convert_sync_batchnorm``, for one, makes batch norms anew: with the children, without the hooks.
    """
    for module in model.modules():
        if has_selection(module) and selected not in module._forward_pre_hooks.values():
            module.register_forward_pre_hook(selected)


def has_selection(module: nn.Module) -> bool:
    """Whether this is a batch norm with a selection of its own."""
    return isinstance(module, _BatchNorm) and isinstance(module._modules.get(SELECT), ChannelSelect)


def adopt_selections(model: nn.Module, state: Mapping[str, Tensor], prefix: str = "") -> None:
    """Insert the selections that ``state`` has, with names that begin with ``prefix``, and ``model`` has not."""
    for name, module in list(model.named_modules()):
        source = state.get(f"{prefix}{name}{SOURCE}")
        if source is None or source.ndim != 1 or not len(source):
            continue
        if isinstance(module, _BatchNorm) and SELECT not in module._modules:
            select_in_front(module, len(source))
