"""From one forward pass, and a proof, to the groups of channels that can only leave together."""

from collections.abc import Callable, Collection, Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd

from pruning_lit.channels.surgery.cut import Cut
from pruning_lit.channels.surgery.literals import Literals
from pruning_lit.channels.surgery.number_sources import Asked
from pruning_lit.channels.surgery.rehearsal import rehearse
from pruning_lit.channels.surgery.rehearsal_tracers import RehearsalMismatch
from pruning_lit.channels.tracing.graph import ChannelGraph, Kept
from pruning_lit.channels.tracing.grouping import GroupBuilder
from pruning_lit.channels.tracing.outputs import Outputs
from pruning_lit.channels.tracing.passes import arguments_of, follow
from pruning_lit.channels.tracing.rules import numbers_of, rule_for
from pruning_lit.channels.tracing.tracer import Tracer
from pruning_lit.channels.tracing.training import FurtherTracer, follow_training
from pruning_lit.channels.tracing.views import layer_of


def trace(
    model: nn.Module, example_input: Any, *, outputs: Outputs | None = None, training_input: Any = None
) -> ChannelGraph:
    """Find out which slices of which tensors of ``model`` must leave together.

    The model is run on ``example_input``, in eval mode and, where its modules ask for their mode, in training mode;
    without gradients, and on a replica: nothing in it is changed, nor are random numbers. Then a copy of it, with a
    part of all channels removed, is run and held against that. Where a channel number turns out to be written into
    somebody's ``forward``, the channels concerned are protected, until all that is not is proven.

    What the model returns is protected, in either mode, and so is whatever map is still held by somebody after a pass,
    or has its values taken out of PyTorch. So are layers of which nothing that can be seen depends, and those that
    matter in training only.

    Args:
        model: any module; channels are found in its convolutions and linear layers.
        example_input: a tensor (a batch of one is enough), or a tuple of arguments; a list or a dictionary of tensors
            is a single argument, as detectors take it.
        outputs: what of the model's result matters, where that is not everything: a key, an index or an attribute of
            it, a list of these, or a function of the result. What else it returns may lose channels. Where the result
            in training has no such thing, all of it matters there.
        training_input: the arguments in training, where they are others (with targets, say).

    A model that knows for how many regions of interest its heads are run may say so, by an attribute ``regions``; see
    ``ChannelGraph.with_regions``.

    Returns:
        The groups in execution order, those that may not be pruned included, with the reason. ``not_followed`` says
        where the model could not be run in training.

    Raises:
        ValueError: the model does not run on ``example_input``, or ``outputs`` is not in its result.
    """
    first = follow(lambda twin: Tracer(twin, rule_for, numbers_of), model, example_input, outputs)
    arguments = first.transcript.arguments if training_input is None else arguments_of(training_input)
    graph = _proven(first, follow_training(first, model, arguments, outputs), model, outputs)
    regions = getattr(model, "regions", None)
    return graph.with_regions(regions) if isinstance(regions, Mapping) else graph


def _proven(first: Tracer, training: list[FurtherTracer], model: nn.Module, outputs: Outputs | None) -> ChannelGraph:
    """Protect more and more, until a rehearsal succeeds that removes some of whatever is not protected."""
    found: list[tuple[Tensor, str]] = []
    literals = Literals(model, outputs)
    literals.explore([first.transcript, *(tracer.transcript for tracer in training)])
    used = frozenset(call.weight for call in first.calls if call.operation in first.reach.live)
    only_in_training = {call.weight for tracer in training for call in tracer.calls} - used
    while True:
        identities = first.identities.copy()
        first.splits.apply(identities)
        literals.apply(identities)
        for which, reason in found:
            identities.freeze(which, reason)
        graph = GroupBuilder(first, identities).graph(model, first.transcript.arguments)
        graph = graph.protect(_in_vain(graph, used, only_in_training))
        graph = replace(
            graph,
            outputs=outputs,
            numbers=literals.numbers(),
            training=tuple(tracer.transcript for tracer in training),
            not_followed=_not_followed(model, first, training),
        )
        kept = some_of_everything(graph)
        if not kept:
            return graph
        cut = Cut.of(model, graph, kept)
        try:
            rehearse(cut, model, graph)
            return graph
        except RehearsalMismatch as mismatch:
            removed, freeze = graph.removed(cut.kept), lambda *freezing: found.append(freezing)
            asked = [Asked(mismatch.transcript, position) for position in mismatch.literals if mismatch.transcript]
            if not literals.learn(asked, removed, freeze):
                _blame(mismatch, literals, removed, freeze)


def _in_vain(graph: ChannelGraph, used: Collection[str], only_in_training: Collection[str]) -> dict[str, str]:
    """Reasons to protect groups that no use of a layer makes on which a result in eval mode depends."""
    reasons = {}
    for group in graph.prunable:
        made_by = {piece.tensor for piece in group.slices if piece.role == "writes"}
        if made_by.isdisjoint(used) and not any(item.tensor in made_by for item in graph.relabellings):
            trains = not made_by.isdisjoint(only_in_training)
            reasons[group.name] = "it matters in training only" if trains else "nothing that can be seen depends on it"
    return reasons


def _not_followed(model: nn.Module, first: Tracer, training: list[FurtherTracer]) -> str | None:
    """Description of what the model does in training that was not seen; None where everything was."""
    failures = [tracer.transcript.failure for tracer in training if tracer.transcript.failure]
    if not failures:
        return None
    run = {layer_of(name) for name in first.order}
    idle = [
        path for path, module in model.named_modules() if path not in run and isinstance(module, nn.Linear | _ConvNd)
    ]
    told = f"in training the model was followed up to an error only: {failures[0]}"
    return f"{told}; never run, and left as they are, were {', '.join(idle)}" if idle else told


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
    mismatch: RehearsalMismatch, literals: Literals, removed: Tensor, freeze: Callable[[Tensor, str], object]
) -> None:
    """Find out which channels are to be left alone: those of the step that went wrong, or else of the nearest one."""
    assert mismatch.transcript is not None
    number = len(mismatch.transcript.steps)
    nearest = [*reversed(range(min(mismatch.step + 1, number))), *range(mismatch.step + 1, number)]
    for asked in (Asked(mismatch.transcript, position) for position in nearest):
        step = asked.step
        if step.split is not None and bool(removed[step.split.identities].any()) and step.split.may_be_otherwise:
            literals.learn([asked], removed, freeze)
            return
        for concerned in step.identities():
            if bool(removed[concerned].any()):
                freeze(concerned, f"{mismatch.reason} ({step.place})")
                return
    freeze(removed.nonzero().flatten(), mismatch.reason)
