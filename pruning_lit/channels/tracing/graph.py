"""Channel graph: groups of channels that can only leave together, and what else surgery and counting need."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from fractions import Fraction
from numbers import Integral
from typing import Any, Literal

import torch
from torch import Tensor, nn

from pruning_lit.channels.tracing.table import table
from pruning_lit.channels.tracing.transcript import Classes, Transcript
from pruning_lit.channels.tracing.views import layer_of

Kept = Mapping[str, Sequence[int]]  # a group's name to the ascending positions that stay


def _is_whole(position: Any) -> bool:
    return isinstance(position, Integral) and not isinstance(position, bool)


def _is_in(name: str, path: str) -> bool:
    """True for tensors, by name, of the module at a path or in it."""
    return f"{layer_of(name)}.".startswith(f"{path}.")


@dataclass(frozen=True)
class ChannelSlice:
    """Positions of a group along one dimension of one tensor.

    Attributes:
        tensor: state-dict name of a parameter or buffer.
        dim: the dimension along which channels are removed.
        positions: shape ``(group.size, n)``: the positions along ``dim`` owned by each channel (n > 1 behind a
            flattening, say).
        role: ``writes`` in the weight of a layer that makes the channels, ``reads`` in one that consumes them, else
            ``along``.
    """

    tensor: str
    dim: int
    positions: Tensor
    role: Literal["writes", "reads", "along"] = "along"


@dataclass(frozen=True)
class ChannelGroup:
    """A run of channels with the same footprint: each of them is removed from every slice, or from none.

    Attributes:
        name: the layer that makes the channels (the first of them in execution order).
        size: number of channels.
        slices: where the channels sit.
        writers, readers: names of the convolutions and linear layers that make and that consume the channels.
        protected: None, or the reason in words why no channel may be removed.
        feature_maps: the maps that the next consumers see, in execution order.
        producers: the uses of the layers that make the channels, in execution order.
    """

    name: str
    size: int
    slices: tuple[ChannelSlice, ...] = field(repr=False)
    writers: tuple[str, ...]
    readers: tuple[str, ...]
    protected: str | None = None
    feature_maps: tuple["FeatureMap", ...] = field(default=(), repr=False)
    producers: tuple["Producer", ...] = field(default=(), repr=False)

    @property
    def multiplicity(self) -> int:
        """Output channels of the layer called ``name`` that leave together with one channel of the group."""
        for piece in self.slices:
            if piece.role == "writes" and self.writers and layer_of(piece.tensor) == self.writers[0]:
                return piece.positions.shape[1]
        return 1


@dataclass(frozen=True)
class FeatureMap:
    """The feature map by which a group's channels are scored.

    Attributes:
        operation: its number in the forward pass, see ``operations.observe``.
        channels: number of channels of the map.
        positions: shape ``(group.size, n)``: which of them belong to each channel of the group.
    """

    operation: int
    channels: int
    positions: Tensor


@dataclass(frozen=True)
class Producer:
    """A use of a convolution or linear layer that makes the channels of a group.

    Attributes:
        layer: its name.
        weight: state-dict name of its weight.
        output: its own output, before normalisation and activation.
        places: number of pixels of that map; of its input, where a convolution is transposed.
        depth: number of layers on the longest way from the model's input to that map, this one included.
    """

    layer: str
    weight: str
    output: FeatureMap
    places: int
    depth: int


@dataclass(frozen=True)
class Relabelling:
    """A ``ChannelRelabel`` module: its buffer is rewritten when channels at its input go.

    Attributes:
        tensor: name of its ``source`` buffer.
        inputs: for every input channel, the (group index, channel index) it belongs to, or None where it cannot go.
    """

    tensor: str
    inputs: tuple[tuple[int, int] | None, ...]


@dataclass(frozen=True)
class WidthNumber:
    """A width that a module keeps as a number: surgery rewrites it.

    Attributes:
        module: path of the module.
        name: of its attribute, an int or a list or tuple of ints.
        at: position in that, 0 for an int.
        channels: the identities of the channels that it counts, shape ``(value,)``.
    """

    module: str
    name: str
    at: int
    channels: Tensor


@dataclass(frozen=True)
class Branch:
    """A residual branch that can be taken out whole: without its channels it adds zeros to the shortcut, exactly.

    Attributes:
        path: of the block, a ``ResidualBranch``.
        groups: names of the groups that are in the branch only, in execution order; they go together.
        end: name of the one among them that the last convolution alone reads.
    """

    path: str
    groups: tuple[str, ...]
    end: str


@dataclass(frozen=True)
class LayerCall:
    """One use of a weight: multiply-accumulates = ``times`` x number of elements of the weight.

    Attributes:
        weight: its state-dict name.
        positions: pixels, or tokens, of one row.
        operation: its number in the forward pass, see ``operations.observe``.
        strided: whether a convolution has fewer pixels in its output than in its input.
        rows: length of the leading dimension for one example: 1 for a batch of images, more for windows, frames or
            regions of an image that lie along it; a fraction where examples have different numbers of them.
        share: elements that are used, divided by those of the weight: not 1 where the weight in use is a part of the
            stored one (of the projections of attention), or computed from it and of another size.
    """

    weight: str
    positions: int
    operation: int
    strided: bool = False
    rows: int | Fraction = 1
    share: int | Fraction = 1

    @property
    def times(self) -> int | Fraction:
        """Multiply-accumulates for each element of the weight, for one example."""
        return self.rows * self.positions * self.share


@dataclass(frozen=True, repr=False)
class ChannelGraph:
    """All groups of a model, in the order in which their channels are made.

    Attributes:
        groups: the groups, protected ones included.
        shapes: shapes of all parameters by name, and of the buffers that are used as weights, for counting.
        fixed: names of these buffers; they cost multiply-accumulates, and are no parameters.
        calls: the uses of convolution and linear weights in one forward pass, for one example.
        entries: names of the layers that read the model's input.
        relabellings: the ``ChannelRelabel`` modules.
        branches: the residual branches of which all channels may go at once.
        example: the arguments with which the model was traced.
        transcript, classes: what the pass did to the channels, to be held against that of a narrower model.
        training: the same of passes in training mode, where the model asks for its mode.
        numbers: widths that modules keep as numbers.
        outputs: what of the model's result matters, as it was given to ``trace``.
        not_followed: what the model does in training that was not seen, and why; None where all of it was.
    """

    groups: tuple[ChannelGroup, ...]
    shapes: dict[str, tuple[int, ...]]
    fixed: frozenset[str]
    calls: tuple[LayerCall, ...]
    entries: tuple[str, ...]
    relabellings: tuple[Relabelling, ...]
    branches: tuple[Branch, ...]
    example: tuple[Any, ...] = field(repr=False)
    transcript: Transcript = field(repr=False)
    classes: Classes = field(repr=False)
    training: tuple[Transcript, ...] = field(default=(), repr=False)
    numbers: tuple[WidthNumber, ...] = field(default=(), repr=False)
    outputs: Any = None
    not_followed: str | None = None

    def __str__(self) -> str:
        """A table of the groups that fits a screen; of a long network the beginning and the end."""
        return table([(group.name, group.size, group.readers, group.protected) for group in self.groups])

    def __repr__(self) -> str:
        """Numbers of groups; ``print`` shows the groups."""
        return f"<ChannelGraph of {len(self.groups)} groups, {len(self.prunable)} of them prunable>"

    def __getitem__(self, name: str) -> ChannelGroup:
        """The group called ``name``; ValueError, with the nearest names, where there is none."""
        for group in self.groups:
            if group.name == name:
                return group
        raise ValueError(f"no channel group is called {name!r}; the groups are {[group.name for group in self.groups]}")

    @property
    def prunable(self) -> tuple[ChannelGroup, ...]:
        """The groups that are not protected."""
        return tuple(group for group in self.groups if group.protected is None)

    def protect(self, reasons: Mapping[str, str]) -> "ChannelGraph":
        """A copy of the graph with groups protected, by name, for these reasons; what is protected already stays so."""
        groups = (replace(group, protected=group.protected or reasons.get(group.name)) for group in self.groups)
        branches = (branch for branch in self.branches if reasons.keys().isdisjoint(branch.groups))
        return replace(self, groups=tuple(groups), branches=tuple(branches))

    def with_regions(self, numbers: Mapping[str, int]) -> "ChannelGraph":
        """A copy of the graph that counts the heads of a detector for a declared number of regions of interest (RoIs).

        As traced, a head is counted for as many regions as the pass found in the example, divided by the number of
        examples: for none at all where an untrained network finds nothing.

        Args:
            numbers: by path of a module, the rows that its layers get for one example, as
                ``{"roi_heads.box_head": 1000, "roi_heads.mask_head": 100}``.

        Raises:
            ValueError: no layer is used in a module, or a number is negative.
        """
        calls = list(self.calls)
        for path, number in numbers.items():
            inside = [i for i, call in enumerate(calls) if _is_in(call.weight, path)]
            if not inside or not _is_whole(number) or number < 0:
                raise ValueError(
                    f"regions: expected a module with layers that are used, and a number; got {path!r}: {number!r}"
                )
            for i in inside:
                calls[i] = replace(calls[i], rows=number)
        return replace(self, calls=tuple(calls))

    def within(self, path: str) -> "ChannelGraph":
        """A copy of the graph that counts the layers in the module at ``path`` alone, as the backbone of a detector.

        Raises:
            ValueError: no layer is used in it.
        """
        calls = tuple(call for call in self.calls if _is_in(call.weight, path))
        if not calls:
            used = sorted({call.weight.split(".")[0] for call in self.calls})
            raise ValueError(f"no layer is used in a module called {path!r}; there are {', '.join(used)}")
        shapes = {name: shape for name, shape in self.shapes.items() if _is_in(name, path)}
        shapes |= {call.weight: self.shapes[call.weight] for call in calls}
        return replace(self, calls=calls, shapes=shapes)

    def require_traced(self, model: nn.Module) -> None:
        """Require that ``model`` is as wide as the one that was traced; ValueError otherwise."""
        tensors = [*model.named_parameters(), *(each for each in model.named_buffers() if each[0] in self.fixed)]
        present = {name: tuple(tensor.shape) for name, tensor in tensors}
        for name, shape in self.shapes.items():
            if name not in present:
                raise ValueError(f"the model is not the one that was traced: it has no tensor called {name!r}")
            if present[name] != shape:
                raise ValueError(f"{name!r} is {present[name]}, but was {shape} when it was traced; trace it again")

    def removed(self, masks: Mapping[str, Tensor]) -> Tensor:
        """One boolean per identity of the trace, true where it is removed; the last entry, for none, is False.

        Args:
            masks: by group, one boolean per channel, true where it stays; see ``keep_mask``.
        """
        numbers = {group.name: number for number, group in enumerate(self.groups)}
        return self.classes.removed({numbers[name]: flags for name, flags in masks.items()})

    def keep_mask(self, kept: Kept) -> dict[str, Tensor]:
        """Check ``kept`` and turn it into one boolean per channel for each group named in it.

        Raises:
            ValueError: unknown or protected group, positions that are not ascending or do not exist, or nothing kept
                elsewhere than in all groups of a branch.
        """
        if not isinstance(kept, Mapping):
            raise ValueError(f"kept must map names of groups to positions, got {kept!r}")
        masks = {}
        for name, positions in kept.items():
            group = self[name]
            if not isinstance(positions, Iterable) or isinstance(positions, str):
                raise ValueError(f"group {name!r}: kept must be a list of positions, got {positions!r}")
            given = positions.tolist() if isinstance(positions, Tensor) else list(positions)
            whole = set(map(type, given)) <= {int} or all(map(_is_whole, given))
            index = torch.tensor(given if whole else [-1], dtype=torch.int64)
            if index.numel() and (index.min() < 0 or index.max() >= group.size or (index.diff() <= 0).any()):
                raise ValueError(
                    f"group {name!r} has {group.size} channels (0…{group.size - 1}); "
                    f"kept must list ascending positions, got {given}"
                )
            if group.protected is not None and index.numel() < group.size:
                raise ValueError(f"group {name!r} is protected: {group.protected}")
            masks[name] = torch.zeros(group.size, dtype=torch.bool)
            masks[name][index] = True
        self._require_none_emptied(masks)
        return masks

    def emptied(self, masks: Mapping[str, Tensor]) -> tuple[Branch, ...]:
        """The branches of which nothing stays, where ``masks`` has one boolean per channel of each group named."""
        empty = {name for name, flags in masks.items() if not bool(flags.any())}
        return tuple(branch for branch in self.branches if empty.issuperset(branch.groups))

    def _require_none_emptied(self, masks: Mapping[str, Tensor]) -> None:
        removed = {name for branch in self.emptied(masks) for name in branch.groups}
        for name, flags in masks.items():
            if bool(flags.any()) or name in removed:
                continue
            others = next((branch.groups for branch in self.branches if name in branch.groups), None)
            unless = f" unless all groups of its residual branch are, {list(others)}" if others else ""
            raise ValueError(f"group {name!r}: no channel is kept, a layer cannot be emptied{unless}")
