"""All cuts of a run taken together: what has become of the groups, and notes."""

from collections.abc import Sequence

from pruning_lit.channels import ChannelGraph, PruningHistory
from pruning_lit.records.cut import CutRecord
from pruning_lit.reports.groups import group_record
from pruning_lit.reports.record import GroupRecord


def group_records(graph: ChannelGraph, cuts: Sequence[CutRecord]) -> list[GroupRecord]:
    """Records of every group of the dense network over all cuts, in its own numbering.

    Why a group stays whole is said by the first cut, which knows what was excluded; without cuts, by the graph.

    Args:
        graph: of the dense network.
        cuts: in order; each numbers the channels that it has found.
    """
    reasons = {group.name: group.protected for group in graph.groups}
    reasons |= {record["name"]: record["protected"] for record in (cuts[0].groups if cuts else [])}
    history = PruningHistory(graph)
    for cut in cuts:
        history.cut(cut.gone)
    alive = {group.name: list(range(group.size)) for group in graph.groups} | history.kept
    return [group_record(group, alive[group.name], reasons[group.name]) for group in graph.groups]


def notes_on(cuts: Sequence[CutRecord]) -> list[str]:
    """Notes on the cuts, in sentences; where there are several, each says which one it is about."""
    if len(cuts) == 1:
        return list(cuts[0].notes)
    return [f"Cut {number} of {len(cuts)}: {note}" for number, cut in enumerate(cuts, 1) for note in cut.notes]
