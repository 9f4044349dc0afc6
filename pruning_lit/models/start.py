"""Start weights: those of the CIFAR networks, and fresh ones for a network that has been narrowed."""

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from pruning_lit.channels import ChannelRelabel
from pruning_lit.channels.modules.branch import MARK
from pruning_lit.channels.state import state_tensors


def kaiming_convolutions(model: nn.Module) -> None:
    """Draw the kernels of all convolutions anew, in place, so that gradients keep their size through ReLU layers.

    Normal with variance 2 / (kernel area * output channels); biases start at zero. Other layers keep torch's own start.

    Args:
        model: the network, on the device and in the precision it has.

    Source: He et al. 2015, "Delving Deep into Rectifiers", equation 14.
    """
    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
            if module.bias is not None:
                nn.init.zeros_(module.bias)


def batch_norm_scales(model: nn.Module, scale: float) -> None:
    """Let the scales of all batch norms start at one value, in place.

    Args:
        model: the network.
        scale: the value; Network Slimming starts at 0.5, so that scales can leave for 0 without a long way, and so does
            CHEX.

    Raises:
        ValueError: the value is not above 0; from 0 on a network hardly learns.

    Source: Liu et al. 2017, "Learning Efficient Convolutional Networks through Network Slimming", section 4.3; Hou et
    al. 2022, "CHEX: CHannel EXploration for CNN Model Compression", as released.
    """
    if not scale > 0:
        raise ValueError(f"norm_scale must be above 0, where batch norms let something through, got {scale}")
    for module in model.modules():
        if isinstance(module, _BatchNorm) and module.affine:
            nn.init.constant_(module.weight, scale)


def start_afresh(model: nn.Module, fresh: nn.Module) -> None:
    """Forget, in place, all that the network has learned; its widths, selections and removed branches stay.

    A network as wide as ``fresh`` gets its weights. A narrower one with a method ``initialise`` starts as it would,
    had it been built this narrow: every layer by its own default, then that method. Any other one gets the leading
    slice of each of ``fresh``'s tensors: as good as a start of its own, since the entries were drawn independently, but
    with the spread that belongs to the full width. A bias that only the network has, into which a norm was folded,
    begins with 0.

    Args:
        model: the network, narrowed or not; its tensors keep their device and precision.
        fresh: a newly built network of the same architecture, at full width.

    Raises:
        ValueError: ``fresh`` lacks a tensor of the network, or has a smaller one; the network is untouched then.

    Source: Liu et al. 2019, "Rethinking the Value of Network Pruning", which trains pruned structures from scratch.
    """
    initialise = getattr(model, "initialise", None)
    if callable(initialise) and _shapes(model) != _shapes(fresh):
        for module in model.modules():
            if callable(reset := getattr(module, "reset_parameters", None)):
                reset()
        initialise()
    else:
        _take_leading_slices(model, fresh)


def _shapes(model: nn.Module) -> dict[str, torch.Size]:
    return {name: parameter.shape for name, parameter in model.named_parameters()}


def _take_leading_slices(model: nn.Module, fresh: nn.Module) -> None:
    structure = {f"{name}.source" for name, module in model.named_modules() if isinstance(module, ChannelRelabel)}
    structure |= {name for name in model.state_dict() if name.rpartition(".")[2] == MARK}
    mine = {name: tensor for name, tensor in state_tensors(model).items() if name not in structure}
    start = fresh.state_dict()
    folded = [tensor for name, tensor in mine.items() if name.endswith("bias") and name not in start]  # of norms
    mine = {name: tensor for name, tensor in mine.items() if name in start or not name.endswith("bias")}
    for name, tensor in mine.items():
        if name not in start:
            raise ValueError(f"the fresh network has no tensor called {name!r}; build it as this one was built")
        there = start[name].shape
        if tensor.ndim != len(there) or any(own > full for own, full in zip(tensor.shape, there, strict=True)):
            raise ValueError(
                f"{name!r} is {tuple(there)} in the fresh network, from which {tuple(tensor.shape)} cannot be cut; "
                "build it at full width"
            )
    with torch.no_grad():
        for tensor in folded:
            tensor.zero_()
        for name, tensor in mine.items():
            tensor.copy_(start[name][tuple(slice(length) for length in tensor.shape)])
