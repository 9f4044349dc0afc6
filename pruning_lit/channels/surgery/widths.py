"""Widths of a model: other shapes for its tensors, and the numbers in its modules that say the same."""

from collections.abc import Mapping
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase
from torch.nn.modules.conv import _ConvNd, _ConvTransposeNd

from pruning_lit.channels.modules.attached import KINDS
from pruning_lit.channels.modules.bn_folding import adopt_folded
from pruning_lit.channels.modules.branch import drop_branches, marked
from pruning_lit.channels.surgery.numbers import adopt_numbers

ROWS_PER_GROUP = "rows_per_group"  # what a grouped convolution remembers while only one of its groups is left


def replace(
    model: nn.Module, values: Mapping[str, Tensor], tensors: Mapping[str, Tensor] | None = None
) -> dict[str, Tensor]:
    """Put ``values`` in the place of parameters and buffers, by state-dict name, everywhere they are used.

    Args:
        model: the model.
        values: what is to be there.
        tensors: the state dict, with parameters as they are, where it is at hand.

    Returns:
        The new tensors by name; in the place of parameters they are parameters.
    """
    tensors = model.state_dict(keep_vars=True) if tensors is None else tensors
    if unknown := values.keys() - tensors.keys():
        raise ValueError(f"the model has no tensors called {sorted(unknown)}")
    new, instead = {}, {}
    for name, value in values.items():
        old = tensors[name]
        new[name] = nn.Parameter(value, requires_grad=old.requires_grad) if isinstance(old, nn.Parameter) else value
        instead[id(old)] = new[name]
    for module in model.modules():
        for held in (module._parameters, module._buffers):
            for key, tensor in held.items():
                if id(tensor) in instead:
                    held[key] = instead[id(tensor)]  # type: ignore[assignment]
    return new


def sync_widths(model: nn.Module) -> None:
    """Set ``in_channels``, ``num_features`` and their like to what the shapes of the tensors say."""
    for module in model.modules():
        if isinstance(module, _ConvNd):
            _sync_convolution(module)
        elif isinstance(module, nn.Linear):
            module.out_features, module.in_features = module.weight.shape
        elif isinstance(module, _NormBase):
            vector = module.weight if module.weight is not None else module.running_mean
            module.num_features = len(vector) if vector is not None else module.num_features
        elif isinstance(module, nn.GroupNorm) and module.weight is not None:
            per_group = module.num_channels // module.num_groups
            module.num_channels = len(module.weight)
            module.num_groups = module.num_channels // per_group
        elif isinstance(module, nn.RNNBase):
            module.input_size = cast(Tensor, module.weight_ih_l0).shape[1]
            module._flat_weights = [getattr(module, name) for name in module._flat_weights_names]


def _sync_convolution(module: _ConvNd) -> None:
    weight = module._parameters.get("weight_v")  # of a weight-normalised layer, whose ``weight`` is a former result
    first, second = (module.weight if weight is None else weight).shape[:2]
    if (rows := _rows_per_group(module)) is not None:
        module.groups = max(1, first // rows)
        if module.groups == 1:  # an ordinary convolution, to look at; but should the others come back …
            vars(module)[ROWS_PER_GROUP] = rows
        else:
            vars(module).pop(ROWS_PER_GROUP, None)
    if isinstance(module, _ConvTransposeNd):
        module.in_channels, module.out_channels = first, second * module.groups
    else:
        module.out_channels, module.in_channels = first, second * module.groups


def _rows_per_group(module: _ConvNd) -> int | None:
    """Rows of the weight in one of its convolution groups, which go and come as a whole; None for an ordinary one."""
    if module.groups > 1:
        return (module.in_channels if isinstance(module, _ConvTransposeNd) else module.out_channels) // module.groups
    return vars(module).get(ROWS_PER_GROUP)


def adopt(model: nn.Module, state: dict[str, Tensor], prefix: str = "") -> None:
    """Give every tensor of ``model`` its shape in ``state``, so that ``load_state_dict`` accepts a narrowed network.

    Only widths are adopted, and residual branches taken out that the state says to be gone: a tensor whose number of
    dimensions or kernel size differs is left for ``load_state_dict`` to refuse. Layers get the attached children that
    they have in ``state`` (selections, scatters, compactors, whatever is registered), and batch norms are folded that
    are folded there.
    """
    drop_branches(model, marked(model, state, prefix))
    for kind in KINDS:
        kind.adopt(model, state, prefix)
    adopt_folded(model, state, prefix)
    adopt_numbers(model, state, prefix)
    narrower = {}
    for name, tensor in model.state_dict(keep_vars=True).items():
        given = state.get(prefix + name)
        if not isinstance(given, Tensor) or not isinstance(tensor, Tensor):  # extra state
            continue
        if given.shape == tensor.shape or given.ndim != tensor.ndim:
            continue
        if given.shape[2:] != tensor.shape[2:] and not _may_be_width(given.shape, tensor.shape):
            continue
        if any(new > old for new, old in zip(given.shape, tensor.shape, strict=True)):
            continue
        narrower[name] = torch.zeros(given.shape, dtype=tensor.dtype, device=tensor.device)
    replace(model, narrower)
    sync_widths(model)


def _may_be_width(given: torch.Size, own: torch.Size) -> bool:
    """True where behind two dimensions the last alone differs, and the first has length 1: no kernel, and no map."""
    return given[2:-1] == own[2:-1] and given[0] == own[0] == 1


def adopt_on_load(model: nn.Module) -> None:
    """Let ``model.load_state_dict`` take narrowed weights, also where ``model`` is part of a larger module.

    Copies of ``model`` (an average of its weights, say) take them as well.
    """

    def before_loading(module: nn.Module, state: dict[str, Tensor], prefix: str, *_rest: object) -> None:
        adopt(module, state, prefix)  # not ``model``: a copy has this hook too, and its own tensors

    model.register_load_state_dict_pre_hook(before_loading)
