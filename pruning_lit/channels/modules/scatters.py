"""A ``ChannelScatter`` as a part of a layer: what the layer makes goes into a stream that stays as wide as it is."""

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.conv import _ConvNd

from pruning_lit.channels.modules.relabel import ChannelScatter

SCATTER = "scatter"  # the child of a batch norm or convolution that holds its scatter
SOURCE = f".{SCATTER}.source"


def scattered(layer: nn.Module, _args: Any, output: Tensor) -> Tensor:
    """Forward hook of a batch norm or convolution: its output, placed by its own scatter."""
    return layer.get_submodule(SCATTER)(output)


def scatter_behind(module: nn.Module, width: int) -> None:
    """Let a batch norm or convolution write through a scatter, for now each of ``width`` channels to its own place.

    The state dict gets ``<module>.scatter.source``; no other name changes.
    """
    device = next((tensor.device for tensor in module.state_dict().values()), None)
    module.add_module(SCATTER, ChannelScatter(range(width)).to(device))
    attach_scatters(module)


def attach_scatters(model: nn.Module) -> None:
    """Apply the scatters of all batch norms and convolutions that have one, where that is not done yet.

    ``nn.SyncBatchNorm.convert_sync_batchnorm``, for one, makes batch norms anew: with the children, without the hooks.
    """
    for module in model.modules():
        if has_scatter(module) and scattered not in module._forward_hooks.values():
            module.register_forward_hook(scattered)


def has_scatter(module: nn.Module) -> bool:
    """Whether this is a batch norm or convolution with a scatter of its own."""
    return _may_have_one(module) and isinstance(module._modules.get(SCATTER), ChannelScatter)


def applies_scatter(module: nn.Module) -> bool:
    """Whether this module, be it a norm folded into its convolution, writes through a scatter that was put behind it.

    An architecture's own module called ``scatter``, which is called by somebody's ``forward``, is none.
    """
    hooked = scattered in module._forward_hooks.values()
    return hooked and isinstance(module._modules.get(SCATTER), ChannelScatter)


def remove_scatter(module: nn.Module) -> None:
    """Take the scatter of a module out again; what it made goes on as it is."""
    del module._modules[SCATTER]
    for number in [number for number, hook in module._forward_hooks.items() if hook is scattered]:
        del module._forward_hooks[number]


def adopt_scatters(model: nn.Module, state: Mapping[str, Tensor], prefix: str = "") -> None:
    """Insert the scatters that ``state`` has, with names that begin with ``prefix``, and ``model`` has not."""
    for name, module in list(model.named_modules()):
        source = state.get(f"{prefix}{name}{SOURCE}")
        if source is None or source.ndim != 1 or not len(source):
            continue
        if _may_have_one(module) and SCATTER not in module._modules:
            scatter_behind(module, len(source))


def _may_have_one(module: nn.Module) -> bool:
    return isinstance(module, _BatchNorm | _ConvNd)
