"""Remove channels: ``narrow`` makes layers smaller, ``mask`` writes zeros, ``verify`` compares the two."""

import copy
import math
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.utils._pytree import tree_map_only

from pruning_lit.channels.surgery import rehearsal
from pruning_lit.channels.surgery.cut import Cut
from pruning_lit.channels.surgery.followers import migrate_optimizers, require_alike, require_trains
from pruning_lit.channels.surgery.moves import Moves
from pruning_lit.channels.surgery.rehearsal_tracers import RehearsalMismatch
from pruning_lit.channels.surgery.trace import trace
from pruning_lit.channels.tracing.graph import ChannelGraph, Kept
from pruning_lit.channels.tracing.modes import still
from pruning_lit.channels.tracing.operations import Alike, evaluating, tensors_of, without_gradients
from pruning_lit.channels.tracing.passes import twin_of
from pruning_lit.channels.tracing.randomness import same_randomness


def narrow(
    model: nn.Module,
    graph: ChannelGraph,
    kept: Kept,
    *,
    rehearse: bool = True,
    optimizer: Optimizer | Iterable[Optimizer] = (),
) -> Moves:
    """Remove, in place, all channels that are not kept; layers get smaller, with new parameters.

    Args:
        model: the model that was traced.
        graph: its trace, with the present widths.
        kept: the positions that stay, by group; groups that are not named stay whole. Where nothing is kept of all
            groups of one of the graph's ``branches``, that residual branch is taken out.
        rehearse: narrow a copy first, run it, and refuse if it does not do what the original did, with the removed
            channels deleted.
        optimizer: one or several that train the model: they get the new parameters, with the part of their state that
            belongs to them. Else they would go on stepping parameters that are no longer in the model.

    Returns:
        What moved, so that averages, too, can follow; see ``carry_average``.

    Raises:
        ValueError: ``kept`` does not fit the graph, the rehearsal fails, or an optimizer does not train the model or
            cannot follow; model and optimizers are untouched then.
    """
    cut = Cut.of(model, graph, kept)
    optimizers = [optimizer] if isinstance(optimizer, Optimizer) else list(optimizer)
    tensors = model.state_dict(keep_vars=True) if optimizers else {}
    for each in optimizers:
        require_trains(each, model)
        require_alike(each, [tensors[name] for name in cut.stays])
    if rehearse and cut.branches:
        _rehearse(*_without_branches(cut, model, graph))
    elif rehearse and cut.stays:
        _rehearse(cut, model, graph)
    moves = cut.narrow(model)
    migrate_optimizers(optimizers, moves)
    return moves


def mask(model: nn.Module, graph: ChannelGraph, kept: Kept) -> None:
    """Zero, in place, all that ``narrow`` would remove; shapes stay.

    Weights that make a removed channel, weights that read it, its biases and its normalisation scales become zero, so
    that it is invisible to all its readers. Batch-norm statistics are left alone, and of a weight-normalised kernel the
    lengths become zero, not the directions.

    Raises:
        ValueError: ``kept`` does not fit the graph; the model is untouched then.
    """
    Cut.of(model, graph, kept).mask(model)


def verify(narrowed: nn.Module, masked: nn.Module, inputs: Any, *, training: bool = False) -> float:
    """Largest difference between the outputs of two networks, over the largest output of the second.

    Infinite where the shapes, or the numbers of tensors, differ. Nothing in the networks is changed, and both draw the
    same random numbers.

    Args:
        narrowed: the one network.
        masked: the other, of whatever widths.
        inputs: a tensor, or a tuple of arguments.
        training: compare in training mode, in which dropout lets everything through here, else in eval mode.
    """
    arguments = inputs if isinstance(inputs, tuple) else (inputs,)
    ones, others = (_outputs(net, arguments, training) for net in (narrowed, masked))
    if len(ones) != len(others) or any(one.shape != other.shape for one, other in zip(ones, others, strict=True)):
        return math.inf
    pairs = [pair for pair in zip(ones, others, strict=True) if pair[0].numel()]  # a detector may find nothing
    difference = max((float((one.double() - other.double()).abs().max()) for one, other in pairs), default=0.0)
    largest = max((float(other.double().abs().max()) for _, other in pairs), default=0.0)
    return difference / largest if largest > 0 else difference


def _outputs(net: nn.Module, arguments: tuple[Any, ...], training: bool) -> list[Tensor]:
    twin = twin_of(net)
    with still(net), evaluating(twin), same_randomness(), without_gradients(), Alike():
        twin.train(training)
        return tensors_of(twin(*tree_map_only(Tensor, torch.clone, arguments)))


def _rehearse(cut: Cut, model: nn.Module, graph: ChannelGraph) -> None:
    """Rehearse a cut; ValueError where the narrowed model would not do what it did without the removed channels."""
    try:
        rehearsal.rehearse(cut, model, graph)
    except RehearsalMismatch as mismatch:
        raise ValueError(_refusal(mismatch, cut, graph)) from mismatch


def _without_branches(cut: Cut, model: nn.Module, graph: ChannelGraph) -> tuple[Cut, nn.Module, ChannelGraph]:
    """The rest of a cut on a copy of the model without the branches that are to go, with that copy and its graph.

    Groups may have other names in it, and channels that differed in the branch alone share one; so the rest of the cut
    is found by tensors and positions, and must come out as the same cut.
    """
    trial = copy.deepcopy(model)
    removals = cut.drop(trial)
    rest = {name: dims for name, dims in cut.stays.items() if name not in removals}
    training = graph.training[0].arguments if graph.training else graph.example
    example, training = (rehearsal.moved_along(arguments, trial) for arguments in (graph.example, training))
    anew = trace(trial, example, outputs=graph.outputs, training_input=training)
    kept = {}
    for group in anew.groups:
        piece = group.slices[0]
        if (flags := rest.get(piece.tensor, {}).get(piece.dim)) is not None:
            kept[group.name] = flags[piece.positions].all(dim=1).nonzero().flatten().tolist()
    left = Cut.of(trial, anew, kept)
    if _lists(left.stays) != _lists(rest):
        raise ValueError(
            f"without the branches of {list(cut.branches)} the rest of kept does not fit the network; nothing was cut, "
            "remove these branches alone, trace the network again, and cut the rest then"
        )
    return left, trial, anew


def _lists(stays: dict[str, dict[int, Tensor]]) -> dict[str, dict[int, list[bool]]]:
    return {name: {dim: flags.tolist() for dim, flags in dims.items()} for name, dims in stays.items()}


def _refusal(mismatch: RehearsalMismatch, cut: Cut, graph: ChannelGraph) -> str:
    assert mismatch.transcript is not None
    steps = mismatch.transcript.steps
    step = steps[min(mismatch.step, len(steps) - 1)]
    removed = graph.removed(cut.kept)
    concerned = next((ids for ids in step.identities() if bool(removed[ids].any())), torch.empty(0, dtype=torch.int64))
    labels = set(graph.classes.labels[concerned].tolist())
    groups = [
        group.name
        for group, classes in zip(graph.groups, graph.classes.groups, strict=True)
        if group.name in cut.kept and not bool(cut.kept[group.name].all()) and labels & set(classes.tolist())
    ]
    place = f"{step.place}{mismatch.transcript.mode}"
    return f"{mismatch.reason} ({place}); nothing was cut, concerned are the groups {groups or sorted(cut.kept)}"
