"""Replay: rehearsal of a model that looks at its own predictions, with those of the pass that was traced.

Detectors count their boxes, so they do not run without data. But what a rehearsal proves, that fewer channels go
through the same operations, does not depend on which boxes there are: no layer has to be computed for that.
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_map_only

from pruning_lit.channels.surgery.rehearsal_tracers import Rehearsal, RehearsalMismatch
from pruning_lit.channels.surgery.without_data import empty_result
from pruning_lit.channels.tracing.kinds import Operation, counts_values, gives_numbers, short_name
from pruning_lit.channels.tracing.operations import tensors_in
from pruning_lit.channels.tracing.provenance import Provenance
from pruning_lit.channels.tracing.reach import memory_of
from pruning_lit.channels.tracing.shadow import Outline
from pruning_lit.channels.tracing.transcript import Decision, Transcript
from pruning_lit.channels.tracing.weak import WeakIdMap

UNSEEN = "what its values decide cannot be told from the pass before"
WHOLE_NUMBERS = (torch.int64, torch.int32, torch.int16, torch.int8)
KNOWN = ("aten", "torchvision", "prims")  # name spaces of operations that tell when values decide


class Replay(Rehearsal):
    """Tracer of a narrowed model with data, but with zeros for what layers, norms and activations make.

    Whatever is computed from these zeros is unknown. Where unknown values decide how many results there are, or are
    taken out as whole numbers (the corners of a box, and how these compare), the answer is that of the first pass;
    provided that they came about in the same way, through the same operations on what is left of the same channels. A
    masked model would have decided as the narrowed one for the same reason. Other truths, and real numbers, that are
    taken out of unknown values are none to go on with: a model may refuse some of them.

    Args:
        narrowed: the model after the cut.
        transcript: of the model before the cut.
        removed: whether each identity is removed, see ``ChannelGraph.removed``.
    """

    def __init__(self, narrowed: nn.Module, transcript: Transcript, removed: Tensor) -> None:
        super().__init__(narrowed, transcript, removed)
        self.unknown: WeakIdMap[bool] = WeakIdMap()  # memory with values of no pass in it
        self.compared: WeakIdMap[bool] = WeakIdMap()  # results of operations on whole numbers
        self.num_decisions = 0
        self.failed = False

    def execute(self, operation: Operation, args: tuple, kwargs: dict) -> Any:
        """Run an operation, unless it is one of a layer; decide as before where values are unknown."""
        given = tensors_in(args, kwargs)
        unknown = any(map(self._is_unknown, given))
        decides = gives_numbers(operation) or counts_values(operation, given)
        decision = self._next_decision(operation) if decides else None
        if unknown and (operation.namespace not in KNOWN or (gives_numbers(operation) and not self._are_whole(given))):
            raise self._not_told()
        if unknown and decision is not None:
            return self._decide(decision, operation, args, kwargs, given)
        result = empty_result(operation, args, kwargs) if args and isinstance(args[0], Tensor) else None
        if result is not None:
            unknown = True
            if result is not args[0]:
                result.zero_()  # not just anything: some operations would crash with it
        else:
            result = super().execute(operation, args, kwargs)
        if unknown:
            if all(tensor.dtype in WHOLE_NUMBERS for tensor in given):
                for tensor in tensors_in(result):
                    self.compared[tensor] = tensor.dtype == torch.bool
            for tensor in [*tensors_in(result), *(given if operation._schema.is_mutable else [])]:
                self.unknown[memory_of(tensor)] = True
        return result

    def _are_whole(self, tensors: list[Tensor]) -> bool:
        """True for whole numbers, and for what has come of comparing such."""
        return all(tensor.dtype in WHOLE_NUMBERS or self.compared.get(tensor, False) for tensor in tensors)

    def _is_unknown(self, tensor: Tensor) -> bool:
        memory = memory_of(tensor)
        return memory is None or memory in self.unknown

    def _next_decision(self, operation: Operation) -> Decision:
        decisions, self.num_decisions = self.expected.decisions, self.num_decisions + 1
        if len(decisions) < self.num_decisions or decisions[self.num_decisions - 1].operation != short_name(operation):
            raise self._not_told()
        return decisions[self.num_decisions - 1]

    def _decide(self, decision: Decision, operation: Operation, args: tuple, kwargs: dict, given: list[Tensor]) -> Any:
        masked = decision.operation == "index"
        ways = tuple(self.provenances.of(tensor).way for tensor in given)
        shapes = tuple(tuple(tensor.shape) for tensor in given)
        if None in ways or ways != decision.ways or shapes[masked:] != decision.shapes[masked:]:
            raise self._not_told()
        if not masked:
            return _moved(decision.answer, given)
        result = operation(args[0], _moved(decision.answer, given), *args[2:], **kwargs)
        self.unknown[memory_of(result)] = True
        return result

    def left(self, tensor: Tensor, way: str) -> None:
        """RehearsalMismatch where unknown values are taken out of PyTorch."""
        if self._is_unknown(tensor):
            raise self._not_told()

    def is_same(self, before: Provenance, now: Provenance) -> bool:
        """True where a tensor without channels was computed as before, also behind values that have decided."""
        return super().is_same(before, now) and before.way is not None and before.way == now.way

    def _is_expected(self, before: Outline | None, shadow: Tensor | None) -> bool:
        """True where a shadow, in its shape too, is what is left: a channel may be repeated for every other one."""
        if before is not None and shadow is not None:
            left = self._remainder(before)
            if left is None or left.shape != tuple(shadow.shape):
                return False
        return super()._is_expected(before, shadow)

    def finish(self, outputs: list[Provenance]) -> None:
        """Hold the end against that of the first trace."""
        if self.failed or self.num_decisions != len(self.expected.decisions):
            raise self._not_told()  # also where the model has caught the first one
        super().finish(outputs)

    def _not_told(self) -> RehearsalMismatch:
        self.failed = True
        return RehearsalMismatch(self.position, UNSEEN, needs_data=True)


def _moved(answer: Any, given: list[Tensor]) -> Any:
    """An answer of the first pass, anew, on the device of what is looked at now."""
    return tree_map_only(Tensor, lambda one: one.to(given[0].device, copy=True), answer)
