"""A ``Compactor`` behind a layer: the square 1x1 convolution whose rows ResRep lets die."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.conv import _ConvNd

from pruning_lit.channels.modules.attached import Attached, register

CONVOLUTIONS = {3: F.conv1d, 4: F.conv2d, 5: F.conv3d}  # by the number of dimensions of what they read


class Compactor(nn.Module):
    """Mix the channels of a map, pixel by pixel, by a square matrix that begins as the identity.

    Row ``j`` of ``weight`` makes channel ``j``: a row of zeros makes a channel of zeros. ``mask`` has 1 for every row
    and 0 for those that are to be forgotten; ``regularised`` has 1 for every row and 0 for those of channels that have
    to stay, and is not saved. Both act on gradients alone and take no part in the forward pass.

    Args:
        width: number of channels.

    Shape: ``(N, width, *)`` to the same, with one to three further dimensions.

    Source: Ding et al. 2021, "ResRep: Lossless CNN Pruning via Decoupling Remembering and Forgetting", section 3.
    """

    mask: Tensor
    regularised: Tensor

    def __init__(self, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.eye(width))
        self.register_buffer("mask", torch.ones(width))
        self.register_buffer("regularised", torch.ones(width), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """Mix the channels of ``x``."""
        return CONVOLUTIONS[x.ndim](x, self.weight.view(*self.weight.shape, *[1] * (x.ndim - 2)))

    def norms(self) -> Tensor:
        """Euclidean lengths of the rows, float64, shape ``(width,)``, on the CPU."""
        return torch.linalg.vector_norm(self.weight.detach().cpu().double(), dim=1)

    def extra_repr(self) -> str:
        """The width, shown by ``print(model)``."""
        return f"width={len(self.mask)}"


COMPACTOR = register(
    Attached(
        name="compactor",
        hosts=(_BatchNorm, _ConvNd),
        in_front=False,
        saved="weight",
        ndim=2,
        build=lambda weight: Compactor(len(weight)).to(weight.dtype),
    ),
    first=True,  # in front of a scatter into a stream
)


@dataclass(frozen=True)
class Placement:
    """Placement of one compactor: the layers that share it, and the channels of its rows.

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
        The compactors, each by the first of the layers that have it.
    """
    there = {}
    for placement in placements:
        hosts = [model.get_submodule(path) for path in placement.behind]
        compactor = COMPACTOR.child(hosts[0])
        if compactor is None:
            compactor = Compactor(placement.width).to(next(model.get_submodule(placement.layers[0]).parameters()))
        compactor.regularised.zero_()
        compactor.regularised[[row for rows in placement.rows.values() for row in rows]] = 1
        for host in hosts:
            COMPACTOR.put(host, compactor)
        there[placement.behind[0]] = compactor
    return there


def compactor_of(model: nn.Module, placement: Placement) -> Compactor:
    """The compactor of a placement."""
    compactor = COMPACTOR.child(model.get_submodule(placement.behind[0]))
    assert isinstance(compactor, Compactor)
    return compactor


def compactors(model: nn.Module) -> dict[str, Compactor]:
    """All compactors, each once, by the first of the layers that have it."""
    found = {path: module for path, module in model.named_modules() if isinstance(module, Compactor)}
    return {path.removesuffix(COMPACTOR.name).rstrip("."): module for path, module in found.items()}


def remove_compactors(model: nn.Module) -> None:
    """Take all compactors out again, in place."""
    for path in COMPACTOR.found(model):
        COMPACTOR.remove(model.get_submodule(path))
