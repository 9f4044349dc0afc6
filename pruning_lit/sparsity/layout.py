"""Layout of a list of rates: the groups of each entry, found from the graph, in the order the papers use."""

from dataclasses import dataclass

from pruning_lit.channels import ChannelGraph, ChannelGroup


@dataclass(frozen=True)
class Layout:
    """The entries of a list of rates, each the groups that share it.

    Attributes:
        stem: the groups that read the image, or () where the network has no residual stream or the stem belongs to
            one.
        has_stem: whether the list begins with an entry for the stem.
        streams: residual streams, in order; one entry each.
        inner: the groups inside each block, in order; one entry per block (or per layer, in a network without streams).
        whole: groups without an entry: what the classifier reads, and linear layers.
    """

    has_stem: bool
    stem: tuple[ChannelGroup, ...]
    streams: tuple[ChannelGroup, ...]
    inner: tuple[tuple[ChannelGroup, ...], ...]
    whole: tuple[ChannelGroup, ...]

    @property
    def entries(self) -> list[tuple[ChannelGroup, ...]]:
        """The groups of each entry, in the order of the list."""
        return [*([self.stem] if self.has_stem else []), *((stream,) for stream in self.streams), *self.inner]

    def describe(self) -> str:
        """The expected list in words."""
        parts = []
        if self.has_stem:
            parts.append(f"1 for the stem ({_names(self.stem) or 'narrowed with the first stream, so 0 or its rate'})")
        if self.streams:
            parts.append(f"{len(self.streams)} for the residual streams ({_names(self.streams)})")
        first, last = (_names(self.inner[i]) for i in (0, -1)) if self.inner else ("", "")
        what = "blocks" if self.has_stem else "layers"
        parts.append(f"{len(self.inner)} for the {what} ({first} … {last})")
        return f"{len(self.entries)} rates: {', then '.join(parts)}; whole stay {_names(self.whole) or 'none'}"


def layout(graph: ChannelGraph) -> Layout:
    """The entries that a list of rates needs for this network.

    In a residual network: the stem, then the residual streams, then block by block what lies inside. In a plain
    network: layer by layer. What the classifier reads stays whole and has no entry, as do hidden linear layers.

    Source: Sui et al. 2021 (CHIP), as released, for VGG-16 and the ResNets; derived from the graph so that it
    covers others as well.
    """
    linear = {
        name.removesuffix(".weight")
        for name, shape in graph.shapes.items()
        if name.endswith(".weight") and len(shape) == 2
    }
    order = {
        layer: i for i, layer in enumerate(dict.fromkeys(call.weight.removesuffix(".weight") for call in graph.calls))
    }
    whole = [g for g in graph.prunable if linear & {*g.readers, *g.writers}]
    rest = [g for g in graph.prunable if g not in whole]
    all_streams = [g for g in graph.prunable if is_stream(graph, g)]
    streams = tuple(g for g in all_streams if g in rest)
    if not all_streams:
        return Layout(False, (), (), tuple((g,) for g in rest), tuple(whole))
    stem = tuple(g for g in rest if g not in streams and set(g.writers) & set(graph.entries))
    ends = sorted(order[layer] for g in all_streams for layer in g.writers)
    blocks: dict[int, list[ChannelGroup]] = {}
    for group in rest:
        if group not in streams and group not in stem:
            start = order[group.writers[0]]
            blocks.setdefault(next((end for end in ends if end > start), len(order)), []).append(group)
    return Layout(True, stem, streams, tuple(tuple(blocks[end]) for end in sorted(blocks)), tuple(whole))


def is_stream(graph: ChannelGraph, group: ChannelGroup) -> bool:
    """True for a stream: additions join channels of several layers, or of a layer and a zero-padded shortcut."""
    shortcuts = {item.tensor for item in graph.relabellings}
    return len(group.writers) > 1 or any(piece.tensor in shortcuts for piece in group.slices)


def _names(groups: tuple[ChannelGroup, ...]) -> str:
    return ", ".join(group.name for group in groups)
