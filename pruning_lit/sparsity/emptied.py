"""Groups of which a budget would take every channel."""

from collections.abc import Mapping

from torch import Tensor

from pruning_lit.channels import ChannelGraph
from pruning_lit.sparsity.limits import OnEmpty


def emptied(wanted: Mapping[str, int]) -> list[str]:
    """Names of the groups of which nothing is to stay."""
    return [name for name, width in wanted.items() if width == 0]


def require_survivors(wanted: Mapping[str, int], scores: Mapping[str, Tensor], on_empty: OnEmpty, hint: str) -> None:
    """Refuse what no floor should mend, and, if so asked, every emptied group.

    Args:
        wanted: widths that the budget asks for.
        scores: of the groups.
        on_empty: see ``Limits``.
        hint: how much less would empty none, in words; empty where nobody knows.

    Raises:
        ValueError: no channel is to stay in any group, or, with ``error``, in some.
    """
    empty = emptied(wanted)
    if empty and len(empty) == len(wanted):
        total = sum(len(scores[name]) for name in wanted)
        largest = max(float(scores[name].max()) for name in wanted)
        raise ValueError(
            f"none of {total} channels would stay, none has a score above {largest:g}: the scores do not tell the "
            "channels apart, as in a network that was never trained, or the share that is to go is too large"
        )
    if empty and on_empty == "error":
        raise ValueError(
            f"all channels of {', '.join(map(repr, empty))} would go, and sparsity.on_empty=error forbids that"
            + (f"; {hint}" if hint else "")
        )


def removed_branches(graph: ChannelGraph, wanted: Mapping[str, int], on_empty: OnEmpty) -> dict[str, list[str]]:
    """The residual branches that can be taken out: their paths to the names of their groups.

    Source: of a branch whose last convolution reads nothing, and adds no bias, only zeros are left to be added.
    """
    if on_empty != "remove":
        return {}
    return {branch.path: list(branch.groups) for branch in graph.branches if wanted.get(branch.end) == 0}


def told(name: str, scores: Tensor, stay: int) -> str:
    """A sentence on a group that only a floor has kept."""
    return (
        f"All {len(scores)} channels of `{name}` would go, the largest score is {float(scores.max()):.3g}; "
        f"the best {stay} stay."
    )
