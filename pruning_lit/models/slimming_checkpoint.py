"""Weights as Network Slimming's authors released them: other names, and batch norms left whole by their selections."""

import copy
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from pruning_lit.channels import ChannelSelect, adopt
from pruning_lit.models.vgg import VGG

INDEXES = "select.indexes"  # which channels a selection behind a batch norm lets through: 0 or 1 for each
STATISTICS = ("weight", "bias", "running_mean", "running_var")
LOGITS = ("classifier.bias", "fc.bias")


def is_released_form(weights: Mapping[str, Tensor], model: nn.Module) -> bool:
    """True if the weights have names of the release that are not the network's own."""
    if isinstance(model, VGG):
        return any(key.startswith("feature.") for key in weights)
    return any(key.endswith(INDEXES) for key in weights.keys() - model.state_dict().keys())


def translated(weights: Mapping[str, Tensor], model: nn.Module) -> dict[str, Tensor]:
    """Give weights of the release, pruned or not, the names and the layout of our networks.

    ``feature.<n>`` becomes the n-th layer of ``features``. A selection moves in front of its batch norm: the 0/1
    vector ``indexes`` becomes the positions in ``source``, and the batch norm keeps its numbers for these alone, which
    computes the same. What belongs to no layer of the network is left as it is.

    Args:
        weights: the state dict of the file.
        model: the network to be filled, with the numbers of layers that the file has.

    Returns:
        The state dict that the network would have.

    Raises:
        ValueError: a layer has no channels, a selection is missing, or it does not fit its batch norm.

    Source: Liu et al. 2017, "Learning Efficient Convolutional Networks through Network Slimming", section 4.4, and
    the file layout of the authors' PyTorch release.
    """
    if emptied := [key for key, tensor in weights.items() if tensor.numel() == 0]:
        raise ValueError(f"{emptied[0]!r} has no channels left: the layer was emptied when it was pruned")
    if isinstance(model, VGG):
        return _renamed(weights, [name for name, _ in model.features.named_children()])
    result = dict(weights)
    for name, module in model.named_modules():
        parent = name.removesuffix("select")
        norm = f"{parent}bn1" if parent else "bn"
        if isinstance(module, ChannelSelect) and f"{norm}.weight" in weights:
            result |= _in_front(norm, f"{parent}{INDEXES}", f"{name}.source", result)
    return result


def adopt_widths(model: nn.Module, weights: dict[str, Tensor]) -> None:
    """Make the network, in place, as narrow as the translated weights are; the number of classes stays."""
    adopt(model, {key: tensor for key, tensor in weights.items() if key not in LOGITS})


def clash_of_widths(model: nn.Module) -> str | None:
    """Sentence on a layer whose width in an adopted network does not fit the layers around it; None where all fit."""
    outline = copy.deepcopy(model).to("meta").eval()
    reached = [""]
    for name, module in outline.named_modules():
        module.register_forward_pre_hook(lambda _module, _inputs, name=name: reached.append(name))
    try:
        outline(torch.zeros(1, 3, 32, 32, device="meta"))
    except RuntimeError:
        return f"{reached[-1]} does not have the width in the file that the layers in front of it or beside it have"
    return None


def _renamed(weights: Mapping[str, Tensor], layers: list[str]) -> dict[str, Tensor]:
    result = {}
    for key, tensor in weights.items():
        part, *rest = key.split(".")
        if part == "feature" and rest[0].isdecimal() and int(rest[0]) < len(layers):
            key = ".".join(["features", layers[int(rest[0])], *rest[1:]])
        result[key] = tensor
    return result


def _in_front(norm: str, indexes: str, source: str, weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """The tensors of a selection and of the batch norm behind it; takes the 0/1 vector out of ``weights``."""
    if indexes not in weights:
        raise ValueError(f"{indexes!r} is missing, though there are other selections")
    taken = weights.pop(indexes)
    for key in STATISTICS:
        if (full := weights.get(f"{norm}.{key}")) is not None and full.shape != taken.shape:
            raise ValueError(
                f"{indexes!r} chooses among {len(taken)} channels, but '{norm}.{key}' is {tuple(full.shape)}"
            )
    stays = taken.nonzero().flatten()
    return {source: stays} | {
        f"{norm}.{key}": weights[f"{norm}.{key}"][stays] for key in STATISTICS if f"{norm}.{key}" in weights
    }
