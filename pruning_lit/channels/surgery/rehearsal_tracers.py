"""Tracers of a rehearsal: passes of a narrower, or otherwise other, model, held against the one that was traced."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from pruning_lit.channels.surgery.without_data import run_without_data
from pruning_lit.channels.tracing.dataflow import Role
from pruning_lit.channels.tracing.identities import Identities
from pruning_lit.channels.tracing.kinds import Operation, short_name
from pruning_lit.channels.tracing.operations import tensors_in
from pruning_lit.channels.tracing.provenance import Provenance
from pruning_lit.channels.tracing.rules import carries_over, makes_channels, numbers_of, rule_for
from pruning_lit.channels.tracing.shadow import Outline, outline_along
from pruning_lit.channels.tracing.sizes import sizes_of
from pruning_lit.channels.tracing.tracer import Tracer
from pruning_lit.channels.tracing.transcript import OpRecord, Transcript
from pruning_lit.channels.tracing.weak import WeakIdMap

LITERAL = "a channel number is written into the code"
BY_WIDTH = "a number behind it depends on the number of channels"


class RehearsalMismatch(Exception):
    """A narrower model does something else than the one that was traced.

    Attributes:
        step: number of the first step that is different.
        literals: numbers of all steps that ask for sizes that are no longer there, if that is what is different.
        reason: in words.
        transcript: the pass that is meant.
        needs_data: whether it may be another with data: numbers that the model puts into a tensor are not seen without,
            and some operations arrive under another name there, depending on PyTorch's version.
    """

    def __init__(self, step: int, reason: str, needs_data: bool = False) -> None:
        super().__init__(reason)
        self.step, self.reason, self.needs_data = step, reason, needs_data
        self.transcript: Transcript | None = None
        self.literals: tuple[int, ...] = ()


class KeptIdentities(Identities):
    """Identities of the first trace, given out once more without those that are removed."""

    def __init__(self, transcript: Transcript, removed: Tensor) -> None:
        super().__init__(transcript.slots, [])
        self.transcript, self.removed = transcript, removed
        self.left: dict[range, Tensor] = {}

    def of(self, name: str, dim: int, length: int) -> Tensor:
        """The identities of a slot that stay; ValueError where the dimension is not as long as it should be."""
        if (name, dim) not in self.slots:
            raise ValueError(f"dimension {dim} of {name!r} did not matter before")
        return self._left(self.slots[name, dim], length)

    def fresh(self, length: int) -> Tensor:
        """The next identities that sit in no tensor, those that stay."""
        self.made.append(self.transcript.made[len(self.made)])
        return self._left(self.made[-1], length)

    def tie(self, one: Tensor, other: Tensor) -> None:
        """Known already; RuntimeError where the two are not of the same length."""
        if one.shape != other.shape:
            raise RuntimeError(f"{tuple(one.shape)} channels meet {tuple(other.shape)}")

    def freeze(self, identities: Tensor, reason: str) -> None:
        """Known already."""

    def _left(self, given: range, length: int) -> Tensor:
        if given not in self.left:
            left = torch.arange(given.start, given.stop)
            self.left[given] = left[~self.removed[left]]
        left = self.left[given]
        if left.shape[0] != length:
            raise ValueError(f"{len(left)} channels were expected, there are {length}")
        return left


class Reference(Tracer):
    """Tracer of a model of the same widths with other values, and thus another transcript.

    Args:
        model: the model with other values.
        transcript: the first one, whose identities are used again.
    """

    def __init__(self, model: nn.Module, transcript: Transcript) -> None:
        self.expected = transcript
        super().__init__(model, rule_for, numbers_of, transcript.mode)

    def start(self) -> Identities:
        """Begin another transcript with the identities of the first one."""
        self.transcript = replace(self.expected, steps=[], outputs=[])
        return KeptIdentities(self.expected, self.expected.none_removed())


class Rehearsal(Tracer):
    """Tracer of a narrowed model; it stops where that does not do what it did, without the removed channels.

    Args:
        narrowed: the model after the cut, or a copy of it without data.
        transcript: of the model before the cut.
        removed: whether each identity is removed, see ``ChannelGraph.removed``.
    """

    def __init__(self, narrowed: nn.Module, transcript: Transcript, removed: Tensor) -> None:
        self.expected, self.removed = transcript, removed
        self.literals: dict[int, tuple[int, ...]] = {}  # steps that ask for other sizes, which they got; these sizes
        self.remainders: dict[int, Outline | None] = {}  # what is left of the transcript's outlines
        self.left_over: dict[int, Tensor] = {}  # the same, as shadows
        self.verdicts: WeakIdMap[Outline] = WeakIdMap()  # shadows that are what is left of an outline
        super().__init__(narrowed, rule_for, numbers_of, transcript.mode)

    def start(self) -> Identities:
        """Begin with the identities that stay."""
        return KeptIdentities(self.expected, self.removed)

    def compute(self, operation: Operation, args: tuple, kwargs: dict) -> Any:
        """Run an operation; without data, those that leave shapes alone are answered here."""
        x = args[0] if args else None
        if not isinstance(x, Tensor):
            return operation(*args, **kwargs)
        if (sizes := sizes_of(operation, args, kwargs)) and self.shadow(x) is not None:
            return self._take_apart(operation, args, kwargs, sizes)
        return run_without_data(operation, args, kwargs) if x.is_meta else operation(*args, **kwargs)

    def _take_apart(self, operation: Operation, args: tuple, kwargs: dict, sizes: tuple[int, ...]) -> Any:
        """Run an operation with sizes among its arguments; where they are wrong, note that and go on with the right."""
        shapes = self._shapes(short_name(operation))
        try:
            result = operation(*args, **kwargs)
        except (RuntimeError, IndexError):
            if shapes is None:
                raise
        else:
            if shapes is None or [tuple(tensor.shape) for tensor in tensors_in(result)] == shapes:
                return result
        self.literals[self.position] = sizes
        made = [args[0].new_zeros(shape) for shape in shapes]
        return made if "split" in operation._schema.name else made[0]

    def _shapes(self, name: str) -> list[tuple[int, ...]] | None:
        """Shapes of the results of the next step, without what is removed; None where they are not known."""
        if self.position == len(self.expected.steps) or (step := self.expected.steps[self.position]).operation != name:
            return None
        left = [self._remainder(before) for before in step.results]
        return None if None in left else [each.shape for each in left if each is not None]

    def _remainder(self, before: Outline | None) -> Outline | None:
        """Outline without what is removed; None where there is none, or not whole rows of it are removed."""
        if before is None:
            return None
        if id(before) not in self.remainders:
            self.remainders[id(before)] = before.without(self.removed)
        return self.remainders[id(before)]

    def _shadow_of(self, before: Outline, left: Outline) -> Tensor:
        """The shadow of what is left of an outline."""
        if id(before) not in self.left_over:
            self.left_over[id(before)] = left.shadow()
            self.verdicts[self.left_over[id(before)]] = before
        return self.left_over[id(before)]

    def _follow(self, operation: Operation, args: tuple, kwargs: dict, result: Any) -> Role | None:
        role = None if self.position in self.literals else super()._follow(operation, args, kwargs, result)
        if not sizes_of(operation, args, kwargs) or self._shapes(short_name(operation)) is None:
            return role
        if self.position not in self.literals and isinstance(args[0], Tensor) and self.shadow(args[0]) is None:
            return role  # it is no step of the trace, but of something beside that has no channels
        results = tensors_in(result)
        before = self.expected.steps[self.position].results
        if self.position not in self.literals:  # as long as it should be, but of other channels
            if len(before) != len(results) or all(map(self._is_expected, before, map(self.shadow, results))):
                return role
            self.literals[self.position] = sizes_of(operation, args, kwargs)
        for tensor, outline in zip(results, before, strict=True):
            left = self._remainder(outline)
            if left is not None and left.shape == tuple(tensor.shape):
                self.place(tensor, left.shadow())
        return role

    def seen(self, index: int, operation: Operation, args: tuple, kwargs: dict, result: Any) -> None:
        """Hold one operation against the next step."""
        if not self._is_repeated(operation, args, kwargs, tensors_in(result)):
            super().seen(index, operation, args, kwargs, result)

    def _is_repeated(self, operation: Operation, args: tuple, kwargs: dict, outputs: list[Tensor]) -> bool:
        """True where the next step is repeated, and what comes out must then be what is left of its results.

        That is so for operations of which each channel of a result is made of the same channel, or is a row of a
        weight: where what goes in is what is left of what went in, and the results are as long as they should be, no
        rule is needed to say who is in them, as removal respects all ties.
        """
        if self.position == len(self.expected.steps) or self.module_path[-1] in self.relabels:
            return False
        step, given = self.expected.steps[self.position], tensors_in(args, kwargs)
        flowing = [shadow for tensor in given if (shadow := self.shadows.get(tensor, None)) is not None]
        if (
            short_name(operation) != step.operation
            or not carries_over(operation)
            or (makes_channels(operation) and step.stored[1] is None)
            or not flowing
            or len(flowing) != len(step.given)
            or len(outputs) != len(step.results)
            or not all(map(self._is_expected, step.given, flowing))
            or self.numbers_of(operation, args, kwargs) != step.numbers
            or any(tensor in self.stored.parts for tensor in given)
            or tuple(map(self.name_of, given)) != step.stored
            or not all(map(self.is_same, step.provenances, map(self.provenances.of, given)))
        ):
            return False
        left = [self._remainder(before) for before in step.results]
        if any(each is None or each.shape != output.shape for each, output in zip(left, outputs, strict=True)):
            return False
        for output, before, each in zip(outputs, step.results, left, strict=True):
            if before is not None and each is not None:
                self.shadows[output] = self._shadow_of(before, each)
        self.position += 1
        return True

    def own_dimension(self, name: str, tensor: Tensor) -> int | None:
        """The dimension that the first trace found: a single channel may be left."""
        return self.expected.own.get(name)

    def varies(self, shadow: Tensor, dim: int) -> bool:
        """The answer that the first trace got."""
        return self.decide(True)

    def decide(self, answer: bool) -> bool:
        """The answer that the first trace got."""
        decisions = self._next().decisions
        if len(self.decisions) >= len(decisions):
            raise RehearsalMismatch(self.position, "the model does something else once it is narrower")
        self.decisions.append(decisions[len(self.decisions)])
        return self.decisions[-1]

    def _next(self) -> OpRecord:
        if self.position == len(self.expected.steps):
            raise RehearsalMismatch(self.position - 1, "the model does more once it is narrower")
        return self.expected.steps[self.position]

    def _record(
        self,
        name: str,
        numbers: tuple[object, ...],
        provenances: tuple[Provenance, ...],
        flowing: list[Tensor],
        stored: tuple[str | None, ...],
        after: list[Tensor | None],
    ) -> None:
        before = self._next()
        if name != before.operation:  # without data PyTorch may come to the same by another operation (fill_ as copy_)
            raise RehearsalMismatch(
                self.position, f"once the model is narrower it does {name!r} there", needs_data=True
            )
        if numbers != before.numbers:
            raise RehearsalMismatch(self.position, BY_WIDTH)
        self._require_same(before.provenances, provenances, self.position)
        if len(before.results) != len(after) or not all(map(self._is_expected, before.results, after)):
            raise RehearsalMismatch(self.position, LITERAL)

    def is_same(self, before: Provenance, now: Provenance) -> bool:
        """True where a tensor without channels was computed as before."""
        return before.digest == now.digest

    def _require_same(self, before: Sequence[Provenance], now: Sequence[Provenance], position: int) -> None:
        """Raise RehearsalMismatch where a tensor without channels was computed in another way than before."""
        if len(before) != len(now):
            raise RehearsalMismatch(position, "the model has another number of results once it is narrower")
        for one, other in zip(before, now, strict=True):
            if not self.is_same(one, other):
                raise RehearsalMismatch(one.step if one.step >= 0 else position, BY_WIDTH, needs_data=True)

    def _decided(self, *_decision: object) -> None:
        """Record nothing, as in ``_pass_on``."""

    def _pass_on(self, *_flow: object) -> None:
        """Record nothing: nobody asks for the data flow of a rehearsal."""

    def _made(self, *_selection: object) -> None:
        """Record nothing, as in ``_pass_on``."""

    def finish(self, outputs: list[Provenance]) -> None:
        """Hold the end against that of the first trace: nothing is missing, and outputs were computed as before."""
        if self.position != len(self.expected.steps):
            raise RehearsalMismatch(self.position, "the model does less once it is narrower")
        self._require_same(self.expected.outputs, outputs, self.position - 1)

    def require_no_literals(self) -> None:
        """RehearsalMismatch where the model has asked for numbers of channels that are no longer there."""
        if self.literals:
            mismatch = RehearsalMismatch(min(self.literals), LITERAL)
            mismatch.literals = tuple(self.literals)
            raise mismatch

    def _is_expected(self, before: Outline | None, shadow: Tensor | None) -> bool:
        """True where a shadow is the former one without the removed channels."""
        if before is None or shadow is None:
            all_removed = before is not None and bool(self.removed[before.identities].all())
            return (before is None and shadow is None) or all_removed
        if self.verdicts.get(shadow, None) is not before:  # most shadows are those of the step before
            if not self._is_without(before, shadow):
                return False
            self.verdicts[shadow] = before
        return True

    def _is_without(self, before: Outline, shadow: Tensor) -> bool:
        if shadow.ndim != len(before.shape):
            return False
        now = outline_along(shadow, before.dims)
        if now is not None and self._remainder(before) is before:
            return torch.equal(before.identities, now.identities)
        return now is not None and without(before.identities, self.removed, now.identities)


def without(before: Tensor, removed: Tensor, now: Tensor) -> bool:
    """True where ``now`` is ``before`` without the removed identities: shorter in one dimension, alike all over it."""
    stays = ~removed[before]
    if bool(stays.all()):
        return torch.equal(before, now)
    shorter = [dim for dim, (old, new) in enumerate(zip(before.shape, now.shape, strict=True)) if old != new]
    if len(shorter) != 1:
        return False
    before, stays, now = (tensor.movedim(shorter[0], -1) for tensor in (before, stays, now))
    if bool((stays.sum(-1) != now.shape[-1]).any()):
        return False
    return torch.equal(before[stays].view(now.shape), now)
