"""From one forward pass, and a proof, to the groups of channels that can only leave together."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from pruning_lit.channels.surgery.cut import Cut
from pruning_lit.channels.surgery.rehearsal import RehearsalMismatch, rehearse
from pruning_lit.channels.tracing.graph import ChannelGraph, Kept
from pruning_lit.channels.tracing.grouping import GroupBuilder
from pruning_lit.channels.tracing.operations import evaluating, tensors_of
from pruning_lit.channels.tracing.rules import numbers_of, rule_for
from pruning_lit.channels.tracing.tracer import Tracer


def trace(model: nn.Module, example_input: Any) -> ChannelGraph:
    """Find out which slices of which tensors of ``model`` must leave together.

    The model is run on ``example_input``, in eval mode and without gradients; nothing in it is changed. Then a copy
    of it, with a part of all channels removed, is run and held against that. Where a channel number turns out to be
    written into somebody's ``forward``, the channels concerned are protected, until all that is not is proven.

    Args:
        model: any module; channels are found in its convolutions and linear layers.
        example_input: a tensor (a batch of one is enough), or a tuple of arguments; a list or a dictionary of tensors
            is a single argument, as detectors take it.

    Returns:
        The groups in execution order, those that may not be pruned included, with the reason.

    Raises:
        ValueError: the model does not run on ``example_input``.
    """
    tracer = Tracer(model, rule_for, numbers_of)
    return _proven(tracer, model, follow(tracer, model, example_input))


def follow(tracer: Tracer, model: nn.Module, example_input: Any) -> tuple[Any, ...]:
    """Run ``model`` once, in eval mode and without gradients, under its tracer.

    Returns:
        The arguments with which it was run.

    Raises:
        ValueError: it does not run on ``example_input``.
    """
    arguments = example_input if isinstance(example_input, tuple) else (example_input,)
    try:
        if not tensors_of(arguments):
            raise ValueError(f"example_input must be a tensor or a tuple of arguments, got {example_input!r}")
        result = _run(tracer, model, arguments)
    finally:
        tracer.close()
    for tensor in tensors_of(result):
        tracer.freeze(tensor, "it leaves the model")
        tracer.flow.leaves(tensor)
    tracer.finish([tracer.provenance(tensor) for tensor in tensors_of(result)])
    return arguments


def _run(tracer: Tracer, model: nn.Module, arguments: tuple[Any, ...]) -> Any:
    try:
        with evaluating(model), torch.inference_mode(), tracer:
            return model(*arguments)
    except Exception as error:
        shapes = ", ".join(str(tuple(tensor.shape)) for tensor in tensors_of(arguments))
        place = f" (in {tracer.module_path[-1]!r})" if tracer.module_path[-1] else ""
        message = (str(error).splitlines() or [type(error).__name__])[0]
        raise ValueError(f"the model does not run on the example input {shapes}: {message}{place}") from error


def _proven(tracer: Tracer, model: nn.Module, arguments: tuple[Any, ...]) -> ChannelGraph:
    """Protect more and more, until a rehearsal succeeds that removes some of whatever is not protected."""
    found: list[tuple[Tensor, str]] = []
    while True:
        identities = tracer.identities.copy()
        tracer.splits.apply(identities)
        for which, reason in found:
            identities.freeze(which, reason)
        graph = GroupBuilder(tracer, identities).graph(model, arguments)
        kept = some_of_everything(graph)
        if not kept:
            return graph
        cut = Cut.of(model, graph, kept)
        try:
            rehearse(cut, model, graph)
            return graph
        except RehearsalMismatch as mismatch:
            _blame(mismatch, graph, graph.removed(cut.kept), lambda *freezing: found.append(freezing))


def some_of_everything(graph: ChannelGraph) -> Kept:
    """A choice that removes channels, here and there, from every group that allows it."""
    random = torch.Generator().manual_seed(0)
    kept = {}
    for group in graph.prunable:
        if group.size > 1:
            width = int(torch.randint(max(1, group.size // 4), group.size, (), generator=random))
            kept[group.name] = sorted(torch.randperm(group.size, generator=random)[:width].tolist())
    return kept


def _blame(
    mismatch: RehearsalMismatch, graph: ChannelGraph, removed: Tensor, freeze: Callable[[Tensor, str], object]
) -> None:
    """Find out which channels are to be left alone: those of the step that went wrong, or else of the nearest one."""
    steps = graph.transcript.steps
    nearest = [*reversed(steps[: mismatch.step + 1]), *steps[mismatch.step + 1 :]]
    for step in nearest:
        if step.split is not None and bool(removed[step.split.identities].any()) and step.split.next_assumption():
            return
        for concerned in step.identities():
            if bool(removed[concerned].any()):
                freeze(concerned, f"{mismatch.reason} ({step.place})")
                return
    freeze(removed.nonzero().flatten(), mismatch.reason)
