"""Pruning history: the channels left after several cuts, in the numbering of the network as it was at first.

A later trace may part groups that were one (of a stream some channels have lost all their readers), and so call them by
other names; the places in the weights that make a channel tell which one it is.
"""

from collections.abc import Mapping

from pruning_lit.channels.tracing.graph import ChannelGraph, Kept

RemovedPositions = dict[str, list[int]]  # by the name of a tensor that makes channels: the positions that go


def removed_positions(graph: ChannelGraph, kept: Kept) -> RemovedPositions:
    """Positions that a cut removes from the tensors that make channels, in the numbering before this cut.

    Args:
        graph: of the network before the cut.
        kept: the positions that stay, by group.
    """
    positions: dict[str, set[int]] = {}
    for name, flags in graph.keep_mask(kept).items():
        for piece in graph[name].slices:
            if piece.role == "writes":
                positions.setdefault(piece.tensor, set()).update(piece.positions[~flags].flatten().tolist())
    return {tensor: sorted(each) for tensor, each in positions.items() if each}


class PruningHistory:
    """Follow the channels of a network through its cuts.

    Args:
        graph: of the network before the first cut.
    """

    def __init__(self, graph: ChannelGraph) -> None:
        self.graph = graph
        self.removed: RemovedPositions = {}  # in the numbering at first

    def cut(self, removed: Mapping[str, list[int]]) -> None:
        """Add one more cut, given by the positions that it removed, in the numbering before it."""
        for tensor, positions in removed.items():
            before = self.removed.get(tensor, [])
            self.removed[tensor] = sorted([*before, *(_at_first(position, before) for position in positions)])

    @property
    def kept(self) -> dict[str, list[int]]:
        """The positions that have stayed, for the groups of the graph that have lost some."""
        left = {}
        for group in self.graph.groups:
            stays = [True] * group.size
            for piece in group.slices:
                lost = set(self.removed.get(piece.tensor, ())) if piece.role == "writes" else set()
                for channel, places in enumerate(piece.positions.tolist() if lost else []):
                    stays[channel] &= lost.isdisjoint(places)
            if not all(stays):
                left[group.name] = [channel for channel, there in enumerate(stays) if there]
        return left


def _at_first(position: int, removed: list[int]) -> int:
    """The position before the removal of these, which ascend."""
    for each in removed:
        if each > position:
            break
        position += 1
    return position
