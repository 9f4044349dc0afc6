"""Redundancy graphs: filters whose maps look alike are neighbours, and are thinned out until none are left.

Source: Li et al. 2024, "Filter Pruning via Decomposition of Redundancy Graphs", Neurocomputing,
doi 10.1016/j.neucom.2024.128108.
"""

from collections.abc import Iterable, Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from pruning_lit.criteria.redundancy_graph.hashes import agreements


class Round(NamedTuple):
    """One round of a decomposition.

    Attributes:
        degeneracy: the largest k for which there is a k-core.
        components: the connected components of that core, each as its filters, ascending.
        kept: of each component the filter that stays.
    """

    degeneracy: int
    components: list[list[int]]
    kept: list[int]


@torch.no_grad()
def similarity(maps: Tensor) -> Tensor:
    """Similarity of filters: the share of bits in which the hashes of their maps agree.

    Args:
        maps: outputs of a convolution, before normalisation and activation, shape ``(N, C, H, W)``.

    Returns:
        Share of agreeing bits over all images, shape ``(C, C)``, float64, symmetric, 1 on the diagonal; unrelated
        maps are near 0.5. Maps of a single pixel all agree.

    Raises:
        ValueError: see ``hash_bits``; or there are no images.
    """
    if maps.ndim == 4 and not len(maps):
        raise ValueError(f"similarities need at least one image, got maps of shape {tuple(maps.shape)}")
    return shares(agreements(maps))


def shares(agreeing: Tensor) -> Tensor:
    """Similarities, shape ``(C, C)``, from ``agreements`` of the same shape."""
    bits = agreeing.diagonal()[:1]
    return 1 - (bits - agreeing) / 2 / bits  # one division of whole numbers: equal counts are equal at any threshold


def decompose(similarity: Tensor, norms: Tensor, threshold: float) -> list[int]:
    """The filters that stay.

    Args:
        similarity: shape ``(C, C)``, symmetric.
        norms: how much each filter is worth, by its L1 norm, shape ``(C,)``; of equal ones the lower index is.
        threshold: from which similarity on two filters are neighbours, in (0, 1].

    Returns:
        Ascending positions, never none; no two of them are neighbours. A filter that goes need not be a neighbour of
        one that stays, and a lower threshold may keep more.

    Raises:
        ValueError: shapes do not fit, or the threshold is outside (0, 1].
    """
    return survivors(len(norms), decomposition(similarity, norms, threshold))


def survivors(size: int, rounds: Iterable[Round]) -> list[int]:
    """Positions of the filters, of ``size``, that survive these rounds, ascending."""
    gone = {
        member for each in rounds for component in each.components for member in component if member not in each.kept
    }
    return [position for position in range(size) if position not in gone]


def decomposition(similarity: Tensor, norms: Tensor, threshold: float) -> list[Round]:
    """Rounds of ``decompose``: in each the components of the innermost core shrink to one filter each."""
    if similarity.shape != (len(norms), len(norms)):
        raise ValueError(
            f"expected similarities (C, C) and norms (C,), got {tuple(similarity.shape)} and {tuple(norms.shape)}"
        )
    require_threshold(threshold, "threshold")
    return list(_rounds(similarity.cpu() >= threshold, norms.tolist()))


def require_threshold(threshold: float, name: str) -> float:
    """The threshold as a number; ValueError where it is outside (0, 1]."""
    if isinstance(threshold, bool) or not isinstance(threshold, int | float) or not 0 < threshold <= 1:
        raise ValueError(f"{name} is a similarity in (0, 1], got {threshold!r}")
    return float(threshold)


def _rounds(neighbours: Tensor, norms: list[float]) -> Iterator[Round]:
    """Rounds of a graph given as booleans ``(C, C)``; the lower triangle and the diagonal are not looked at."""
    import networkx as nx  # late: no other criterion needs it

    graph = nx.Graph(neighbours.triu(diagonal=1).nonzero().tolist())
    while graph.number_of_edges():
        coreness = nx.core_number(graph)
        degeneracy = max(coreness.values())
        core = graph.subgraph([node for node, number in coreness.items() if number == degeneracy])
        components = sorted(sorted(component) for component in nx.connected_components(core))
        kept = [max(component, key=lambda node: (norms[node], -node)) for component in components]
        yield Round(degeneracy, components, kept)
        graph.remove_nodes_from({node for component in components for node in component} - {*kept})


def removal_thresholds(similarity: Tensor, norms: Tensor) -> Tensor:
    """The threshold at which each filter goes, when the threshold falls from 1 and what has gone stays gone.

    At every similarity that occurs the filters that are still there are decomposed; unless pairs have the very same
    similarity, there is one edge then, and the larger norm stays. So the choices are nested, as no published rule is:
    ``decompose`` begins anew at every threshold, with the innermost core of the whole graph, and may keep more at a
    lower one.

    Args:
        similarity: shape ``(C, C)``, symmetric.
        norms: shape ``(C,)``.

    Returns:
        Shape ``(C,)``, float64; the filter that never goes has -1.
    """
    rows, columns = torch.triu_indices(len(norms), len(norms), offset=1)
    order = similarity.cpu()[rows, columns].sort(descending=True, stable=True)
    levels, counts = order.values.unique_consecutive(return_counts=True)
    went, present = torch.full((len(norms),), -1.0, dtype=torch.float64), torch.ones(len(norms), dtype=torch.bool)
    for level, pairs in zip(levels.tolist(), order.indices.split(counts.tolist()), strict=True):
        pairs = pairs[present[rows[pairs]] & present[columns[pairs]]]
        if len(pairs):
            for position in _leaving(rows[pairs], columns[pairs], norms):
                went[position], present[position] = level, False
    return went


def _leaving(rows: Tensor, columns: Tensor, norms: Tensor) -> list[int]:
    """The filters that go when these pairs are neighbours."""
    nodes, places = torch.cat([rows, columns]).unique(return_inverse=True)
    neighbours = torch.zeros(len(nodes), len(nodes), dtype=torch.bool)
    neighbours[places[: len(rows)], places[len(rows) :]] = True
    kept = survivors(len(nodes), _rounds(neighbours, norms[nodes].tolist()))
    return [int(node) for place, node in enumerate(nodes) if place not in kept]
