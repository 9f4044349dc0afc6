"""What a layer is that has taken over what its batch norm did."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.conv import _ConvNd

from pruning_lit.channels.modules.scatters import SCATTER, has_scatter, scattered

MARK = "folded"


class Folded(nn.Identity):
    """In the place of a batch norm that has become part of the convolution in front of it.

    It says so by a buffer, ``folded``: the names of a state dict alone would not tell a folded norm from one that is
    missing in a damaged file.
    """

    folded: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer(MARK, torch.ones((), dtype=torch.bool))


def fold_away(model: nn.Module, name: str) -> None:
    """Replace the batch norm called ``name`` by a ``Folded``, in place, wherever the model holds it.

    What the norm's own scatter did goes on.
    """
    norm, folded = model.get_submodule(name), Folded().train(model.training)
    if has_scatter(norm):
        folded.add_module(SCATTER, norm.get_submodule(SCATTER))
        folded.register_forward_hook(scattered)
    for module in list(model.modules()):
        for key, child in module._modules.items():
            if child is norm:
                module._modules[key] = folded


def adopt_folded(model: nn.Module, state: Mapping[str, Tensor], prefix: str = "") -> None:
    """Fold the batch norms away that ``state`` says to be folded, and give layers the biases that they have there.

    Args:
        model: changed in place.
        state: a state dict.
        prefix: with which the names of the model begin in it.
    """
    for name, module in list(model.named_modules()):
        if isinstance(module, _BatchNorm) and f"{prefix}{name}.{MARK}" in state:
            fold_away(model, name)
        elif isinstance(module, _ConvNd | nn.Linear) and module.bias is None:
            bias = state.get(f"{prefix}{name}.bias")
            if bias is not None and bias.ndim == 1:
                module.bias = nn.Parameter(torch.zeros_like(bias, device=module.weight.device))
