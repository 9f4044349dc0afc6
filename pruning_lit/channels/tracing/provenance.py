"""Provenance of tensors without channels: what led to them since there were channels in them last."""

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from pruning_lit.channels.tracing.kinds import COPIES, Operation, counts_values, short_name
from pruning_lit.channels.tracing.operations import tensors_in
from pruning_lit.channels.tracing.reach import memory_of
from pruning_lit.channels.tracing.sizes import numbers_in
from pruning_lit.channels.tracing.weak import WeakIdMap

FEW = 64  # numbers of a constant that are read


@dataclass(frozen=True)
class Provenance:
    """Provenance of a tensor without channels: the operations that led to it since there were channels in it last.

    Attributes:
        digest: a number for all operations and numbers on the way; it changes with whatever is computed from a width
            (``scores / math.sqrt(x.shape[1])``). None where values decided how many there are (the boxes of a
            detector): then the numbers that follow may be another time's others.
        step: the last step that led to it, -1 where none did.
        way: as ``digest``, of all operations, numbers and sizes, also behind values that have decided; None where a
            constant that nobody has seen being made is on the way. Equal for two passes in which values decide alike.
    """

    digest: int | None = 0
    step: int = -1
    way: int | None = 0


NO_PROVENANCE = Provenance()


class Provenances:
    """Provenances of the tensors of a pass.

    Args:
        has_channels: whether a tensor has.
        name_of: state-dict name of a tensor, None for those that have none.
    """

    def __init__(self, has_channels: Callable[[Tensor], bool], name_of: Callable[[Tensor], str | None]) -> None:
        self._has_channels, self._name_of = has_channels, name_of
        self._known: WeakIdMap[Provenance] = WeakIdMap()
        self._rewritten: WeakIdMap[int | None] = WeakIdMap()  # memory to the way of what was written into it
        self._wrote = False  # whether there is anything in ``_rewritten``

    def of(self, tensor: Tensor) -> Provenance:
        """The provenance of a tensor; none where there are channels in it."""
        if self._has_channels(tensor):
            return NO_PROVENANCE
        known = self._known.get(tensor, None)
        if known is None:
            known = self._known[tensor] = NO_PROVENANCE if self._name_of(tensor) else Provenance(way=_read(tensor))
        if self._wrote and (memory := memory_of(tensor)) in self._rewritten:
            return replace(known, way=hash((known.way, self._rewritten[memory])))
        return known

    def forget(self, tensor: Tensor) -> None:
        """Take a tensor for one that is as it was in any other pass: an argument of the model."""
        self._known[tensor] = NO_PROVENANCE

    def remember(
        self,
        operation: Operation,
        numbers: tuple[object, ...],
        before: tuple[Provenance, ...],
        way: int | None,
        step: int | None,
        given: list[Tensor],
        outputs: list[Tensor],
    ) -> None:
        """Note how the results of an operation came about.

        Args:
            operation: that was executed.
            numbers: among its arguments that are no widths, and what else a rule has noted.
            before: provenances of what went in.
            way: of the results, see ``way_of``.
            step: of the operation, where there were channels in what went in.
            given: the tensors that went in.
            outputs: the tensors that came out.
        """
        if step is None:
            step = max([provenance.step for provenance in before], default=-1)
        digests = tuple(provenance.digest for provenance in before)
        if short_name(operation) in COPIES:
            one = given[0]
            written = short_name(operation) == "lift_fresh" and one.numel() == 1 and not one.is_meta
            digest = hash(one.item()) if written else digests[0]
            way = _read(one) if short_name(operation) == "lift_fresh" else before[0].way
        elif None in digests or counts_values(operation, given):
            digest = None
        else:
            digest = hash((short_name(operation), numbers, digests))
        for output in outputs:
            self._known[output] = Provenance(digest, step, way)
        if operation._schema.is_mutable and outputs and not self._has_channels(outputs[0]):
            self._wrote, memory = True, memory_of(outputs[0])
            self._rewritten[memory] = hash((way, self._rewritten.get(memory, 0)))


def way_of(
    operation: Operation,
    numbers: tuple[object, ...],
    with_channels: bool,
    provenances: tuple[Provenance, ...],
    args: tuple,
    kwargs: dict,
) -> int | None:
    """Way of a result without channels; where there are none in what goes in, sizes are no widths.

    How many times a value is there is told by the operation that goes on with it.
    """
    name, ways = short_name(operation), [provenance.way for provenance in provenances]
    if None in ways:
        return None
    if name == "expand":
        return ways[0]
    if name.startswith("new_"):
        return hash((name, args[2] if len(args) > 2 else kwargs.get("fill_value")))
    if ways and not with_channels:
        numbers = numbers_in(args, kwargs, *(tensor.shape for tensor in tensors_in(args, kwargs)))
    return hash((name, numbers, *ways))


def _read(tensor: Tensor) -> int | None:
    """A number for the values of a constant; None where they are too many, or not there."""
    if tensor.is_meta or tensor.numel() > FEW:
        return None
    return hash(repr(torch._C.TensorBase.tolist(tensor)))  # not the method, which is watched in a pass
