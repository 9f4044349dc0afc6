"""Rehearsal of a cut: proof on a copy that it removes the channels that it says, and nothing else."""

import contextlib
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_map_only

from pruning_lit.channels.surgery.cut import Cut
from pruning_lit.channels.surgery.numbers import numbers_of_module, put_number
from pruning_lit.channels.surgery.rehearsal_tracers import Reference, Rehearsal, RehearsalMismatch
from pruning_lit.channels.surgery.replay import Replay
from pruning_lit.channels.tracing.graph import ChannelGraph
from pruning_lit.channels.tracing.modes import PassMode, still
from pruning_lit.channels.tracing.operations import evaluating, tensors_of, without_gradients
from pruning_lit.channels.tracing.outputs import Outputs, chosen
from pruning_lit.channels.tracing.passes import owned, run, twin_of
from pruning_lit.channels.tracing.replica import replica
from pruning_lit.channels.tracing.transcript import Transcript


def rehearse(cut: Cut, model: nn.Module, graph: ChannelGraph) -> None:
    """Carry a cut out on a copy of a model, run that in every mode, and hold it against the trace.

    The copy has no data, unless the model turns out to need some: detectors look at their own predictions. Then these
    are taken from the trace. Where that cannot be done, the narrowed copy is held against a masked one, which predicts
    the same: both in float64, or in the model's own precision where it does not run in another.

    Args:
        cut: what is to be done.
        model: the model that was traced; it is not touched.
        graph: its trace.

    Raises:
        RehearsalMismatch: the narrowed copy does not do what the model did, with the removed channels deleted.
    """
    removed, ahead = graph.removed(cut.kept), [graph.transcript, *graph.training]
    while ahead:
        transcript = ahead.pop(0)
        try:
            with still(model):
                asked = _rehearse(cut, model, transcript, removed, graph.outputs)
        except RehearsalMismatch as mismatch:
            mismatch.transcript = transcript
            raise
        if asked and not transcript.mode.training and not graph.training:  # so training was as this, at other widths
            ahead.append(replace(transcript, mode=PassMode(training=True)))


def _rehearse(cut: Cut, model: nn.Module, transcript: Transcript, removed: Tensor, outputs: Outputs | None) -> bool:
    """Rehearse one pass; True where a module of the narrowed copy asked whether it is in training."""
    failure = None
    if transcript.on_meta:
        trial = replica(model, on_meta)
        cut.narrow(trial)
        rehearsal = Rehearsal(trial, transcript, removed)
        try:
            _run(rehearsal, trial, outputs)
        except RehearsalMismatch as mismatch:
            failure = mismatch
        rehearsal.require_no_literals()
        if failure is None:
            return rehearsal.asked
        if not failure.needs_data:
            raise failure
    if transcript.decisions:
        trial = twin_of(model)
        cut.narrow(trial)
        rehearsal = Replay(trial, transcript, removed)
        with contextlib.suppress(RehearsalMismatch):
            _run(rehearsal, trial, outputs)
            rehearsal.require_no_literals()
            if transcript.failure is not None or _has_a_pass(cut, model, transcript):
                transcript.on_meta = False
                return rehearsal.asked
    try:
        try:
            reference, copied = _masked(cut, model, transcript, outputs, doubled), doubled
        except RehearsalMismatch:  # it makes tensors of a precision that is written into its code
            reference, copied = _masked(cut, model, transcript, outputs, owned), owned
        narrowed = replica(model, copied)
        cut.narrow(narrowed)
        rehearsal = Rehearsal(narrowed, reference.transcript, removed)
        _run(rehearsal, narrowed, outputs)
        rehearsal.require_no_literals()
        transcript.on_meta = False
    except RehearsalMismatch as mismatch:
        transcript.on_meta = failure is not None and mismatch.step <= failure.step
        raise
    return rehearsal.asked


def _has_a_pass(cut: Cut, model: nn.Module, transcript: Transcript) -> bool:
    """True where a narrowed copy comes to the end of a pass with values of its own, which nobody follows."""
    narrowed = twin_of(model)
    cut.narrow(narrowed)
    with evaluating(), without_gradients():
        transcript.mode.set(narrowed)
        try:
            narrowed(*tree_map_only(Tensor, torch.clone, moved_along(transcript.arguments, narrowed)))
        except Exception:  # whatever somebody's forward raises
            return False
    return True


def _masked(
    cut: Cut,
    model: nn.Module,
    transcript: Transcript,
    outputs: Outputs | None,
    copied: Callable[[Tensor], Tensor],
) -> Reference:
    """The tracer of a masked copy, after its pass; ``copied`` makes the copy's tensors."""
    masked = replica(model, copied)
    cut.mask(masked)
    reference = Reference(masked, transcript)
    _run(reference, masked, outputs)
    return reference


def sizes_with(
    values: Mapping[tuple[str, str, int], int], model: nn.Module, transcript: Transcript, outputs: Outputs | None
) -> tuple[dict[int, tuple[int, ...]], bool]:
    """Sizes that a model asks for, in a copy with other numbers in its modules.

    The copy has no data, unless the model turns out to need some.

    Args:
        values: by path of a module, name of its attribute and position in that.
        model: the model that was traced; it is not touched.
        transcript: of the pass.
        outputs: which of its results matter.

    Returns:
        For each step that asks for other sizes than in that pass, these sizes; and whether all else is as it was.
    """
    for copied in (on_meta, owned) if transcript.on_meta else (owned,):
        trial = replica(model, copied)
        for (path, name, at), value in values.items():
            module = trial.get_submodule(path)
            numbers = numbers_of_module(module)[name]
            put_number(module, name, [*numbers[:at], value, *numbers[at + 1 :]])
        rehearsal = Rehearsal(trial, transcript, transcript.none_removed())
        try:
            with still(model):
                _run(rehearsal, trial, outputs)
            return rehearsal.literals, True
        except RehearsalMismatch as mismatch:
            if not mismatch.needs_data:
                break
    return rehearsal.literals, False


def _run(tracer: "Rehearsal | Reference", trial: nn.Module, outputs: Outputs | None) -> None:
    expected = tracer.expected
    result: Any = None
    try:
        result = run(tracer, trial, moved_along(expected.arguments, trial))
    except RehearsalMismatch:
        raise
    except Exception as error:  # whatever somebody's forward raises
        if expected.failure is None or (isinstance(tracer, Rehearsal) and tracer.position != len(expected.steps)):
            message = (str(error).splitlines() or [type(error).__name__])[0]
            how = "without some of its channels" if isinstance(tracer, Rehearsal) else "with some of its channels zero"
            reason = f"{how} the model fails: {message}"
            raise RehearsalMismatch(tracer.position, reason, needs_data=True) from error
    finally:
        tracer.close()
    with contextlib.suppress(Exception):  # in training, there may be no such outputs; then all that is returned matters
        result = chosen(result, outputs)
    tracer.finish([tracer.provenances.of(output) for output in tensors_of(result)])


def on_meta(tensor: Tensor) -> Tensor:
    """A tensor without data: it is on the ``meta`` device, which knows shapes only."""
    empty = tensor.detach().to("meta")
    return nn.Parameter(empty, tensor.requires_grad) if isinstance(tensor, nn.Parameter) else empty


def doubled(tensor: Tensor) -> Tensor:
    """A copy of a tensor in float64, if its numbers are real."""
    copy = tensor.detach().clone()
    copy = copy.double() if copy.is_floating_point() else copy
    return nn.Parameter(copy, tensor.requires_grad) if isinstance(tensor, nn.Parameter) else copy


def moved_along(example: tuple[Any, ...], model: nn.Module) -> tuple[Any, ...]:
    """The example on the device and in the precision of ``model``, which may have changed since it was traced."""
    home = next(model.parameters(), torch.empty(0))
    return tree_map_only(Tensor, lambda one: one.to(home) if one.is_floating_point() else one.to(home.device), example)
