"""Plan, rehearse, cut: prove on a copy that a plan removes what it says and nothing else."""

from collections import Counter, defaultdict
from typing import Any

from torch import Tensor, nn
from torch.utils._pytree import tree_map_only

from pruning_lit.channels.graph import ChannelGraph, Kept
from pruning_lit.channels.trace import trace

Channel = tuple[frozenset[tuple[str, int, int]], bool]  # all positions of a channel, and whether it is protected


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
    expected = channels_left(graph, kept)
    present = Counter(channel for channels in channels_left(found, {}).values() for channel in channels)
    wrong = [name for name, channels in expected.items() if any(not present[channel] for channel in channels)]
    if wrong or sum(map(len, expected.values())) != present.total():
        raise ValueError(f"channels hang together differently once the model is narrower, in groups {wrong or 'added'}")


def _moved_along(example: tuple[Any, ...], model: nn.Module) -> tuple[Any, ...]:
    """The example on the device and in the precision of ``model``, which may have changed since it was traced."""
    home = next(model.parameters())
    return tree_map_only(Tensor, lambda one: one.to(home) if one.is_floating_point() else one.to(home.device), example)


def channels_left(graph: ChannelGraph, kept: Kept) -> dict[str, list[Channel]]:
    """Every channel that stays, by group, as the positions it has after the removal of the others."""
    renumber = _renumbering(graph, graph.keep_mask(kept))
    left: dict[str, list[Channel]] = {}
    for group in graph.groups:
        stays = kept.get(group.name, range(group.size))
        tables = [
            (piece.tensor, piece.dim, piece.positions.tolist(), renumber[piece.tensor, piece.dim])
            for piece in group.slices
        ]
        left[group.name] = [
            (
                frozenset(
                    (tensor, dim, number.get(p, p)) for tensor, dim, table, number in tables for p in table[channel]
                ),
                group.protected is not None,
            )
            for channel in stays
        ]
    return left


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
