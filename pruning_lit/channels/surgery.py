"""Remove channels: ``narrow`` makes layers smaller, ``mask`` writes zeros instead."""

import torch
from torch import nn

from pruning_lit.channels import rehearsal
from pruning_lit.channels.cut import Cut, Moves
from pruning_lit.channels.graph import ChannelGraph, Kept
from pruning_lit.channels.rehearsal import Departed


def narrow(model: nn.Module, graph: ChannelGraph, kept: Kept, *, rehearse: bool = True) -> Moves:
    """Remove, in place, all channels that are not kept; layers get smaller, with new parameters.

    Args:
        model: the model that was traced.
        graph: its trace, with the present widths.
        kept: the positions that stay, by group; groups that are not named stay whole.
        rehearse: narrow a copy first, run it, and refuse if it does not do what the original did, with the removed
            channels deleted.

    Returns:
        What moved, so that optimizer states and averages can follow.

    Raises:
        ValueError: ``kept`` does not fit the graph, or the rehearsal fails; the model is untouched then.
    """
    cut = Cut.of(model, graph, kept)
    if rehearse and cut.stays:
        try:
            rehearsal.rehearse(cut, model, graph, graph.removed(kept))
        except Departed as departed:
            raise ValueError(_refusal(departed, graph, kept)) from departed
    return cut.narrow(model)


def mask(model: nn.Module, graph: ChannelGraph, kept: Kept) -> None:
    """Zero, in place, all that ``narrow`` would remove; shapes stay.

    Weights that make a removed channel, weights that read it, its biases and its normalisation scales become zero, so
    that it is invisible to all its readers. Batch-norm statistics are left alone, and of a weight-normalised kernel the
    lengths become zero, not the directions.

    Raises:
        ValueError: ``kept`` does not fit the graph; the model is untouched then.
    """
    Cut.of(model, graph, kept).mask(model)


def _refusal(departed: Departed, graph: ChannelGraph, kept: Kept) -> str:
    step = graph.course.steps[min(departed.step, len(graph.course.steps) - 1)]
    removed = graph.removed(kept)
    concerned = next((ids for ids in step.identities() if bool(removed[ids].any())), torch.empty(0, dtype=torch.int64))
    labels = set(graph.classes.labels[concerned].tolist())
    groups = [
        group.name
        for group, classes in zip(graph.groups, graph.classes.groups, strict=True)
        if len(kept.get(group.name, range(group.size))) < group.size and labels & set(classes.tolist())
    ]
    return f"{departed.reason} ({step.place}); nothing was cut, concerned are the groups {groups or sorted(kept)}"
