"""Gradual masking: a budget that is approached a few channels at a time, by the scores of the moment."""

from collections.abc import Mapping, Sequence
from fractions import Fraction

from torch import Tensor

from pruning_lit.channels import ChannelGraph
from pruning_lit.sparsity.base import Scores, Sparsity, require_scores
from pruning_lit.sparsity.dense import DenseCost


def next_masked(
    sparsity: Sparsity,
    graph: ChannelGraph,
    scores: Scores,
    dense: DenseCost,
    masked: Mapping[str, Sequence[int]],
    granularity: int,
) -> dict[str, list[int]]:
    """The masked channels after an update: chosen anew from all, and more than before until the budget is met.

    Args:
        sparsity: says how many of each group stay in the end.
        graph: the network, whole.
        scores: of now, by group, shape ``(size,)``.
        dense: of the same network, see ``DenseCost``.
        masked: by group the positions that were masked before; groups may be missing.
        granularity: by how many they become more.

    Returns:
        As ``masked_for_budget``.

    Raises:
        ValueError: as ``masked_for_budget``.

    Source: Ding et al. 2021, "ResRep: Lossless CNN Pruning via Decoupling Remembering and Forgetting", as released.
    """
    widths = {group.name: group.size - len(masked.get(group.name, ())) for group in sparsity.prunable_groups(graph)}
    met = sparsity.meets(graph, scores, widths, dense)
    most = None if met else sum(map(len, masked.values())) + granularity
    return masked_for_budget(sparsity, graph, scores, dense, most)


def masked_for_budget(
    sparsity: Sparsity, graph: ChannelGraph, scores: Scores, dense: DenseCost, most: int | None = None
) -> dict[str, list[int]]:
    """The channels to mask: of those that the whole budget takes by these scores, the smallest, ``most`` of them.

    This equals a walk through all channels, smallest scores first, that passes over those of groups at their floor and
    stops where the budget is met or ``most`` are masked: what it passes over depends on what went before alone,
    so that fewer are the beginning of more. Released code lets what is passed over use up its limit,
    and may so stop for ever above the target.

    Args:
        sparsity: how many of each group stay in the end. With ``on_empty=remove`` floors hold as with ``floor``.
        graph: the network, whole.
        scores: by group, shape ``(size,)``, larger means more worth keeping.
        dense: of the same network, see ``DenseCost``.
        most: how many channels may be masked; None: all that are to go.

    Returns:
        For every group of the population the masked positions, ascending. Of equal scores those of the first
        group and the lowest position come first.

    Raises:
        ValueError: as ``Sparsity.plan``.

    Source: as ``next_masked``.
    """
    population = sparsity.prunable_groups(graph)
    for group in population:
        require_scores(group, scores)
    ranked = sparsity.ranking(graph, scores, dense, Fraction(1)).scores
    target = sparsity.target_widths(graph, ranked, dense, Fraction(1))
    sparsity.require_survivors(graph, ranked, target)
    widths = sparsity.allowed_widths(graph, dense, target)
    going = sorted(
        (score, place, position)
        for place, group in enumerate(population)
        for score, position in weakest(ranked[group.name], group.size - widths[group.name])
    )
    masked: dict[str, list[int]] = {group.name: [] for group in population}
    for _, place, position in going[:most]:
        masked[population[place].name].append(position)
    return {name: sorted(positions) for name, positions in masked.items()}


def weakest(scores: Tensor, count: int) -> list[tuple[float, int]]:
    """The ``count`` smallest scores, each with its position, ascending; of equal ones the lower position comes first.

    ``base.best`` is no complement: it prefers the lower positions, too, so of equal scores both take the same.
    """
    values, positions = (each[:count].tolist() for each in scores.sort(stable=True))
    return list(zip(values, positions, strict=True))
