"""Groups of which a budget would take every channel."""

from collections.abc import Mapping

from torch import Tensor

from pruning_lit.channels import ChannelGraph
from pruning_lit.sparsity.limits import OnEmpty


def emptied(wanted: Mapping[str, int]) -> list[str]:
    """Names of the groups of which nothing is to stay."""
    return [name for name, width in wanted.items() if width == 0]


def removed_branches(graph: ChannelGraph, wanted: Mapping[str, int], on_empty: OnEmpty) -> dict[str, list[str]]:
    """The residual branches that are to be taken out: their paths to the names of their groups.

    Of a branch whose last convolution reads nothing any more only zeros are left to be added; all its groups go, so all
    must be among those that may.
    """
    if on_empty != "remove":
        return {}
    ended = [branch for branch in graph.branches if wanted.get(branch.end) == 0 and wanted.keys() >= {*branch.groups}]
    return {branch.path: list(branch.groups) for branch in ended}


def told(name: str, scores: Tensor, stay: int) -> str:
    """A sentence on a group that only a floor has kept."""
    return (
        f"All channels of `{name}` ({len(scores)}) would go, the largest score is {float(scores.max()):.3g}; "
        f"the best {stay} stay."
    )
