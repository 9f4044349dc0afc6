"""Plan, rehearse, cut: prove on a copy that a plan removes what it says and nothing else."""

from collections import defaultdict
from typing import Any

from torch import Tensor, nn
from torch.utils._pytree import tree_map_only

from pruning_lit.channels.graph import ChannelGraph, Kept
from pruning_lit.channels.trace import trace

Position = tuple[str, int, int]  # tensor, dimension, position along it
Owners = dict[Position, tuple[str, int, bool]]  # the group and channel of a position, and whether it is protected


def require_same_channels(narrowed: nn.Module, graph: ChannelGraph, kept: Kept) -> None:
    """Trace a narrowed model; it must be the original trace with the removed channels deleted.

    A channel number that is written into somebody's ``forward`` shows up here, as a shape error or as channels that
    meet others than before.

    Raises:
        ValueError: it is not, with the groups concerned.
    """
    try:
        found = trace(narrowed, _moved_along(graph.example, narrowed))
    except (RuntimeError, ValueError, IndexError, TypeError) as error:
        raise ValueError(
            f"the model does not run any more once it is narrower: {str(error).splitlines()[0]}"
        ) from error
    expected, present = owners(graph, kept), owners(found, {})
    lone = {name for name, tensor in narrowed.state_dict().items() if tensor.numel() == 1}  # fits channels of any width
    wrong = {expected[position][0] for position in expected.keys() - present.keys() if position[0] not in lone}
    for channel in _channels(present):
        # A channel may have come apart, and read a weight of its own: a grouped convolution with one group left is an
        # ordinary one. But no two may have met, none may be new, and what was protected stays so.
        before = {expected[position] for position in channel & expected.keys()}
        protected = {present[position][2] for position in channel}
        if len(before) != 1 or {owner[2] for owner in before} != protected:
            wrong |= {group for group, *_ in before} or {present[position][0] for position in channel}
    if wrong:
        raise ValueError(f"channels hang together differently once the model is narrower, in groups {sorted(wrong)}")


def _moved_along(example: tuple[Any, ...], model: nn.Module) -> tuple[Any, ...]:
    """The example on the device and in the precision of ``model``, which may have changed since it was traced."""
    home = next(model.parameters())
    return tree_map_only(Tensor, lambda one: one.to(home) if one.is_floating_point() else one.to(home.device), example)


def owners(graph: ChannelGraph, kept: Kept) -> Owners:
    """Whose every position is, numbered as after the removal of what is not kept."""
    renumber = _renumbering(graph, graph.keep_mask(kept))
    owner: Owners = {}
    for group in graph.groups:
        stays = kept.get(group.name, range(group.size))
        for piece in group.slices:
            table, number = piece.positions.tolist(), renumber[piece.tensor, piece.dim]
            for channel in stays:
                for position in table[channel]:
                    place = piece.tensor, piece.dim, number.get(position, position)
                    owner[place] = group.name, channel, group.protected is not None
    return owner


def _channels(owner: Owners) -> list[set[Position]]:
    """The positions of each channel."""
    channels: dict[tuple[str, int], set[Position]] = defaultdict(set)
    for position, (group, channel, _) in owner.items():
        channels[group, channel].add(position)
    return list(channels.values())


def _renumbering(graph: ChannelGraph, masks: dict[str, Tensor]) -> dict[tuple[str, int], dict[int, int]]:
    """Old to new positions along every dimension from which something is removed."""
    removed: dict[tuple[str, int], set[int]] = defaultdict(set)
    top: dict[tuple[str, int], int] = defaultdict(int)
    for group in graph.groups:
        for piece in group.slices:
            slot = piece.tensor, piece.dim
            top[slot] = max(top[slot], int(piece.positions.max()))
            if group.name in masks:
                removed[slot].update(piece.positions[~masks[group.name]].flatten().tolist())
    return {
        slot: {old: new for new, old in enumerate(p for p in range(last + 1) if p not in removed[slot])}
        if removed[slot]
        else {}
        for slot, last in top.items()
    }
