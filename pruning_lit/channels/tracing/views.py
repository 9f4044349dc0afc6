"""Parameters and buffers, and views of them: which dimension of a tensor is which dimension of which stored tensor."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from pruning_lit.channels.tracing.shadow import outline, spread
from pruning_lit.channels.tracing.weak import WeakIdMap

NOT_MASKED = ("running_mean", "running_var", "weight_v", "original1")  # statistics; directions, which have no zero


@dataclass(frozen=True)
class View:
    """A stored tensor, perhaps with its dimensions in another order.

    Attributes:
        name: state-dict name of the stored tensor.
        dims: for each dimension of the view that of the stored tensor, or None for one of length 1.
        shape: of the stored tensor.
    """

    name: str
    dims: tuple[int | None, ...]
    shape: tuple[int, ...]

    def dim(self, which: int) -> int | None:
        """The stored dimension behind dimension ``which`` of the view."""
        found = self.dims[which]
        if found is not None:
            return found
        left = [dim for dim, length in enumerate(self.shape) if length == 1 and dim not in self.dims]
        return left[0] if left else None


Part = tuple[str, tuple[int, ...], dict[int, Tensor]]  # name, shape, stored dimension to a map of positions


class StoredTensors:
    """The parameters and buffers of a model, and their views as they come up."""

    def __init__(self, model: nn.Module) -> None:
        self.names: dict[int, str] = {}
        self.shapes: dict[str, tuple[int, ...]] = {}
        for name, tensor in model.state_dict(keep_vars=True).items():  # a buffer that is not saved has a fixed width
            if isinstance(tensor, Tensor):
                self.names.setdefault(id(tensor), name)
                self.shapes[name] = tuple(tensor.shape)
        self.parts: WeakIdMap[Part] = WeakIdMap()
        self.computed: WeakIdMap[frozenset[str]] = WeakIdMap()  # tensors to the stored ones they were computed from

    def name_of(self, tensor: Any) -> str | None:
        """State-dict name of a parameter or buffer; None for anything else."""
        return self.names.get(id(tensor)) if isinstance(tensor, Tensor) else None

    def sources(self, tensor: Tensor) -> frozenset[str]:
        """Names of the stored tensors with channels in several dimensions that a tensor is, or was computed from."""
        if (computed := self.computed.get(tensor, None)) is not None:
            return computed
        part = self.parts.get(tensor, None)
        name = self.name_of(tensor) if part is None else part[0]
        if name is None or sum(length > 1 for length in self.shapes.get(name, ())) < 2:
            return frozenset()
        return frozenset({name})

    def computes(self, given: list[Tensor], outputs: list[Tensor]) -> None:
        """Note that an operation on nothing but stored tensors, and what was computed from them, made ``outputs``."""
        if sources := frozenset[str]().union(*map(self.sources, given)):
            for output in outputs:
                if output not in self.parts:
                    self.computed[output] = sources

    def is_masked(self, tensor: Tensor) -> bool:
        """True for a stored tensor with channels in several dimensions, in which removed ones are zero."""
        return tensor not in self.computed and any(not name.endswith(NOT_MASKED) for name in self.sources(tensor))

    def is_zeroed(self, tensor: Tensor) -> bool:
        """True for a stored tensor, or a view of one, of which masks may make elements zero."""
        view = self.view(tensor, whole=False)
        return view is not None and max(view.shape, default=1) > 1 and not view.name.endswith(NOT_MASKED)

    def view(self, tensor: Tensor, whole: bool = True) -> View | None:
        """The view of a stored tensor that a tensor is; None where it is computed, or only a part.

        Args:
            tensor: of a forward pass.
            whole: False: rows that are picked from a stored tensor are a view of its other dimensions.
        """
        name = self.name_of(tensor)
        if name is not None:
            return View(name, tuple(range(tensor.ndim)), tuple(tensor.shape))
        part = self.parts.get(tensor, None)
        if part is None:
            return None
        name, shape, maps = part
        if whole and len(maps) < sum(length > 1 for length in shape):
            return None
        dims: list[int | None] = [None] * tensor.ndim
        for dim, positions in maps.items():
            there = outline(positions)
            if len(there.dims) != 1 or not torch.equal(there.identities, torch.arange(shape[dim])):
                return None
            dims[there.dims[0]] = dim
        return View(name, tuple(dims), shape)

    def moved(self, tensor: Tensor, result: Tensor, move: Callable[[Tensor], Tensor]) -> None:
        """Note that ``result`` is a stored tensor, or a view of one, after the shape operation ``move``."""
        if (part := self._part(tensor)) is not None:
            name, shape, maps = part
            self.parts[result] = name, shape, {dim: move(positions) for dim, positions in maps.items()}
        else:
            self.parts.discard(result)  # an operation in place

    def _part(self, tensor: Tensor) -> Part | None:
        if (part := self.parts.get(tensor, None)) is not None:
            return part
        if (name := self.name_of(tensor)) is None:
            return None
        shape = tuple(tensor.shape)
        maps = {dim: spread(torch.arange(length), dim, tensor.shape) for dim, length in enumerate(shape) if length > 1}
        return name, shape, maps

    def picked(self, tensor: Tensor, result: Tensor, dims: list[int], move: Callable[[Tensor], Tensor]) -> None:
        """Note that ``result`` consists of rows of a stored tensor, picked along ``dims`` of ``tensor``.

        What is left of it are the other dimensions, moved by ``move``.
        """
        if (part := self._part(tensor)) is not None:
            name, shape, maps = part
            whole = {dim: positions for dim, positions in maps.items() if not {*outline(positions).dims} & {*dims}}
            self.parts[result] = name, shape, {dim: move(positions) for dim, positions in whole.items()}

    def stands_for(self, computed: Tensor, tensor: Tensor) -> None:
        """Let ``computed`` take the place of the stored ``tensor``, element by element."""
        self.moved(tensor, computed, lambda positions: positions)


def layer_of(name: str) -> str:
    """The layer that a weight of this state-dict name belongs to: a module, or the weight itself if it has a name."""
    owner, _, key = name.rpartition(".")
    if key in ("original", "original0", "original1"):  # torch.nn.utils.parametrizations
        owner, _, key = owner.removesuffix(".parametrizations." + owner.rpartition(".")[2]), "", "weight"
    return owner if owner and key in ("weight", "weight_v", "weight_orig") else name
