"""A budget that is approached a few channels at a time: which of them are on the list, by the scores of the moment."""

from collections.abc import Mapping, Sequence
from fractions import Fraction

from torch import Tensor

from pruning_lit.channels import ChannelGraph
from pruning_lit.sparsity.base import Scores, Sparsity, require_scores
from pruning_lit.sparsity.dense import DenseCost


def updated(
    sparsity: Sparsity,
    graph: ChannelGraph,
    scores: Scores,
    dense: DenseCost,
    listed: Mapping[str, Sequence[int]],
    granularity: int,
) -> dict[str, list[int]]:
    """The list after an update: chosen anew from all channels, and longer than before until the budget is met.

    Args:
        sparsity: says how many of each group stay in the end.
        graph: the network, whole.
        scores: of now, by group, shape ``(size,)``.
        dense: of the same network, see ``DenseCost``.
        listed: by group the positions on the list before; groups may be missing.
        granularity: by how many the list grows.

    Returns:
        As ``gradual``.

    Raises:
        ValueError: as ``gradual``.

    Source: Ding et al. 2021, "ResRep: Lossless CNN Pruning via Decoupling Remembering and Forgetting", as released.
    """
    widths = {group.name: group.size - len(listed.get(group.name, ())) for group in sparsity.prunable_groups(graph)}
    met = sparsity.meets(graph, scores, widths, dense)
    return gradual(sparsity, graph, scores, dense, allowance(sum(map(len, listed.values())), granularity, met))


def allowance(num_listed: int, granularity: int, met: bool) -> int | None:
    """How many may be on the list after an update; None, without limit, where those before it met the budget."""
    return None if met else num_listed + granularity


def gradual(
    sparsity: Sparsity, graph: ChannelGraph, scores: Scores, dense: DenseCost, most: int | None = None
) -> dict[str, list[int]]:
    """The channels on the list: of those that the whole budget takes by these scores, the smallest, ``most`` of them.

    This equals a walk through all channels, smallest scores first, that passes over those of groups at their floor and
    stops where the budget is met or ``most`` are on the list: what it passes over depends on what went before alone,
    so that a shorter list is the beginning of a longer one. Released code lets what is passed over use up its limit,
    and may so stop for ever above the target.

    Args:
        sparsity: how many of each group stay in the end. With ``on_empty=remove`` floors hold as with ``floor``.
        graph: the network, whole.
        scores: by group, shape ``(size,)``, larger means more worth keeping.
        dense: of the same network, see ``DenseCost``.
        most: how many channels may be on the list; None: all that are to go.

    Returns:
        For every group of the population the positions on the list, ascending. Of equal scores those of the first
        group and the lowest position come first.

    Raises:
        ValueError: as ``Sparsity.plan``.

    Source: as ``updated``.
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
    listed: dict[str, list[int]] = {group.name: [] for group in population}
    for _, place, position in going[:most]:
        listed[population[place].name].append(position)
    return {name: sorted(positions) for name, positions in listed.items()}


def weakest(scores: Tensor, count: int) -> list[tuple[float, int]]:
    """The ``count`` smallest scores, each with its position, ascending; of equal ones the lower position comes first.

    ``base.best`` is no complement: it prefers the lower positions, too, so of equal scores both take the same.
    """
    values, positions = (each[:count].tolist() for each in scores.sort(stable=True))
    return list(zip(values, positions, strict=True))
