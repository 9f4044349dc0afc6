"""Networks of nothing but counts, and ResRep's walk through their rows as its specification words it."""

from typing import NamedTuple

import torch

from pruning_lit.channels import ChannelGraph, ChannelGroup, ChannelSlice
from pruning_lit.channels.tracing.graph import LayerCall
from pruning_lit.channels.tracing.transcript import Classes, Transcript

CONSTANT = -1  # in place of a layer: a width that nothing changes


class Counts(NamedTuple):
    """How many multiply-accumulates a network has, by its widths.

    Attributes:
        widths: of all layers.
        prunable: the layers that may lose channels, in the order of their groups.
        terms: (in, out, coefficient, width of what is CONSTANT), to be added up: coefficient x widths of both sides.
        constant: to be added.
        leaders: layers that lose the channels that another one loses, to that one.
    """

    widths: tuple[int, ...]
    prunable: tuple[int, ...]
    terms: tuple[tuple[int, int, int, int], ...]
    constant: int = 0
    leaders: dict[int, int] = {}  # noqa: RUF012 - never written to

    def of(self, widths) -> int:
        """The count with these widths of all layers."""
        sides = [[fixed if end == CONSTANT else widths[end] for end in ends] for *ends, _, fixed in self.terms]
        return sum(term[2] * a * b for term, (a, b) in zip(self.terms, sides, strict=True)) + self.constant

    def graph(self) -> ChannelGraph:
        """Groups called after their layers, with a weight for every term; what is constant is a weight of its own."""
        return ChannelGraph(
            groups=tuple(self._group(layer) for layer in self.prunable),
            shapes={f"{n}.weight": self._shape(term) for n, term in enumerate(self.terms)} | {"constant": (1,)},
            calls=(
                *(LayerCall(f"{n}.weight", coefficient, n) for n, (_, _, coefficient, _) in enumerate(self.terms)),
                LayerCall("constant", self.constant, len(self.terms)),
            ),
            fixed=frozenset(),
            entries=(),
            relabellings=(),
            branches=(),
            example=(),
            transcript=Transcript([], {}, [], {}, []),
            classes=Classes(torch.tensor([]), ()),
        )

    def _shape(self, term) -> tuple[int, int]:
        into, out, _, fixed = term
        return tuple(fixed if end == CONSTANT else self.widths[end] for end in (out, into))

    def _group(self, layer: int) -> ChannelGroup:
        together = {layer, *(follower for follower, leader in self.leaders.items() if leader == layer)}
        each = torch.arange(self.widths[layer])[:, None]
        slices = [
            ChannelSlice(f"{n}.weight", dim, each)
            for n, (into, out, _, _) in enumerate(self.terms)
            for dim, end in ((0, out), (1, into))
            if end in together
        ]
        return ChannelGroup(str(layer), self.widths[layer], tuple(slices), (), ())


def walk(counts: Counts, scores, listed, target, granularity: int, min_channels: int) -> dict[int, list[int]]:
    """One update: by layer the rows on the list.

    Args:
        counts: of the network.
        scores: by prunable layer the scores of its rows.
        listed: by prunable layer the rows on the list so far.
        target: share of the multiply-accumulates that may stay.
        granularity: rows by which the list grows.
        min_channels: rows that stay in every layer.
    """
    goal = target * counts.of(counts.widths)
    now = narrowed(counts, {layer: len(rows) for layer, rows in listed.items()})
    num_listed = sum(len(rows) for rows in listed.values())
    budget = num_listed + granularity if counts.of(now) > goal else float("inf")
    order = [
        (score, place, row)
        for place, layer in enumerate(counts.prunable)
        for row, score in enumerate(map(float, scores[layer]))
    ]
    chosen: dict[int, list[int]] = {layer: [] for layer in counts.prunable}
    for _, place, row in sorted(order):
        layer = counts.prunable[place]
        attempt = narrowed(counts, {each: len(rows) for each, rows in chosen.items()})
        if counts.of(attempt) <= goal or sum(map(len, chosen.values())) == budget:
            break
        if attempt[layer] > min_channels:
            chosen[layer].append(row)
    return {layer: sorted(rows) for layer, rows in chosen.items()}


def narrowed(counts: Counts, lost) -> list[int]:
    """The widths of all layers when each prunable layer has lost so many rows, and its followers with it."""
    leaders = {layer: layer for layer in counts.prunable} | counts.leaders
    return [width - lost.get(leaders.get(layer, layer), 0) for layer, width in enumerate(counts.widths)]
