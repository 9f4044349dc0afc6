"""A ``Compactor`` behind a layer: the square 1x1 convolution whose rows ResRep lets die."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

COMPACTOR = "compactor"  # the child of a batch norm or convolution that holds its compactor
WEIGHT = f".{COMPACTOR}.weight"
CONVOLUTIONS = {3: F.conv1d, 4: F.conv2d, 5: F.conv3d}  # by the number of dimensions of what they read


class Compactor(nn.Module):
    """Mixes the channels of a map, pixel by pixel, by a square matrix that begins as the identity.

    Row ``j`` of ``weight`` makes channel ``j``: a row of zeros makes a channel of zeros. ``mask`` has 1 for every row
    and 0 for those that are to be forgotten; ``pulled`` has 1 for every row and 0 for those of channels that have to
    stay, and is not saved. Both act on gradients alone and take no part in the forward pass.

    Args:
        width: number of channels.

    Shape: ``(N, width, *)`` to the same, with one to three further dimensions.

    Source: Ding et al. 2021, "ResRep: Lossless CNN Pruning via Decoupling Remembering and Forgetting", section 3.
    """

    mask: Tensor
    pulled: Tensor

    def __init__(self, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.eye(width))
        self.register_buffer("mask", torch.ones(width))
        self.register_buffer("pulled", torch.ones(width), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """Mix the channels of ``x``."""
        return CONVOLUTIONS[x.ndim](x, self.weight.view(*self.weight.shape, *[1] * (x.ndim - 2)))

    def norms(self) -> Tensor:
        """Euclidean lengths of the rows, float64, shape ``(width,)``, on the CPU."""
        return torch.linalg.vector_norm(self.weight.detach().cpu().double(), dim=1)

    def extra_repr(self) -> str:
        """The width, shown by ``print(model)``."""
        return f"width={len(self.mask)}"


@dataclass(frozen=True)
class Placement:
    """Where one compactor goes.

    Attributes:
        layers: the convolutions whose channels it mixes; several that write into one stream share it.
        behind: for each of them the module behind which it is applied: the batch norm that alone reads the convolution,
            or the convolution itself.
        width: number of rows.
        rows: by group of channels, the row of each of its channels; rows of channels that have to stay are in none.
    """

    layers: Sequence[str]
    behind: Sequence[str]
    width: int
    rows: Mapping[str, Sequence[int]]

    def state_dict(self) -> dict[str, Any]:
        """The placement as plain data, for a checkpoint."""
        rows = {name: list(each) for name, each in self.rows.items()}
        return {"layers": list(self.layers), "behind": list(self.behind), "width": self.width, "rows": rows}

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> "Placement":
        """The placement that ``state_dict`` described."""
        behind = state["behind"] if "behind" in state else state["sites"]  # as checkpoints once called it
        return cls(state["layers"], behind, state["width"], state["rows"])


def insert_compactors(model: nn.Module, placements: Iterable[Placement]) -> dict[str, Compactor]:
    """Put compactors into ``model``, in place; what it computes does not change, nor do the names in its state dict.

    To these are added ``<layer>.compactor.weight`` and ``<layer>.compactor.mask``. A placement that has its compactor
    already keeps it.

    Returns:
        The compactors, each by the first of its sites.
    """
    there = {}
    for placement in placements:
        sites = [model.get_submodule(site) for site in placement.behind]
        if has_compactor(sites[0]):
            compactor = compactor_of(model, placement)
        else:
            compactor = Compactor(placement.width).to(next(model.get_submodule(placement.layers[0]).parameters()))
        compactor.pulled.zero_()
        compactor.pulled[[row for rows in placement.rows.values() for row in rows]] = 1
        for site in sites:
            _seat(site, compactor)
        there[placement.behind[0]] = compactor
    return there


def _seat(site: nn.Module, compactor: Compactor) -> None:
    site.add_module(COMPACTOR, compactor)
    attach_compactors(site)


def compacted(site: nn.Module, _args: Any, output: Tensor) -> Tensor:
    """Forward hook of a batch norm or convolution: its output, through its own compactor."""
    return site.get_submodule(COMPACTOR)(output)


def attach_compactors(model: nn.Module) -> None:
    """Apply the compactors of all modules that have one, where that is not done yet.

    ``nn.SyncBatchNorm.convert_sync_batchnorm``, for one, makes batch norms anew: with the children, without the hooks.
    """
    for module in model.modules():
        if has_compactor(module) and compacted not in module._forward_hooks.values():
            module.register_forward_hook(compacted, prepend=True)  # in front of a scatter into a stream


def has_compactor(module: nn.Module) -> bool:
    """Whether this is a layer with a compactor of its own."""
    return isinstance(module._modules.get(COMPACTOR), Compactor)


def compactor_of(model: nn.Module, placement: Placement) -> Compactor:
    """The compactor of a placement."""
    compactor = model.get_submodule(placement.behind[0])._modules[COMPACTOR]
    assert isinstance(compactor, Compactor)
    return compactor


def compactors(model: nn.Module) -> dict[str, Compactor]:
    """All compactors, each once, by the first of its sites."""
    found = {path: module for path, module in model.named_modules() if isinstance(module, Compactor)}
    return {path.removesuffix(COMPACTOR).rstrip("."): module for path, module in found.items()}


def remove_compactors(model: nn.Module) -> None:
    """Take all compactors out again, in place."""
    for module in list(model.modules()):
        if has_compactor(module):
            del module._modules[COMPACTOR]
            for number in [number for number, hook in module._forward_hooks.items() if hook is compacted]:
                del module._forward_hooks[number]


def adopt_compactors(model: nn.Module, state: Mapping[str, Tensor], prefix: str = "") -> None:
    """Insert the compactors that ``state`` has, with names that begin with ``prefix``, and ``model`` has not.

    Those of a stream get their common values, but are not one any more: enough to convert, not to train them.
    """
    for name, module in list(model.named_modules()):
        weight = state.get(f"{prefix}{name}{WEIGHT}")
        if weight is None or weight.ndim != 2 or COMPACTOR in module._modules:
            continue
        _seat(module, Compactor(len(weight)).to(next(model.parameters()).device, weight.dtype))
