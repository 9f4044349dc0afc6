"""What all cuts of a run come to: what has become of the groups, what is to be told, which thresholds there were."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from pruning_lit.channels import ChannelGraph
from pruning_lit.report.groups import group_record
from pruning_lit.report.record import GroupRecord
from pruning_lit.report.scores import ThresholdCut

CutRecord = Mapping[str, Any]  # as ``ScheduledPruning`` writes it


def group_records(graph: ChannelGraph, cuts: Sequence[CutRecord]) -> list[GroupRecord]:
    """What became of every group of the dense network over all cuts, in its own numbering.

    Why a group stays whole is said by the first cut, which knows what was excluded; without cuts, by the graph. A group
    whose first layer has gone with its residual branch is found by the other layers that make it.

    Args:
        graph: of the dense network.
        cuts: in order; each numbers the channels that it has found.
    """
    reasons = {group.name: group.protected for group in graph.groups}
    reasons |= {record["name"]: record["protected"] for record in (cuts[0]["groups"] if cuts else [])}
    alive = {group.name: list(range(group.size)) for group in graph.groups}
    for cut in cuts:
        kept = _by_first_name(cut["kept"], graph)
        alive |= {name: [alive[name][position] for position in positions] for name, positions in kept.items()}
    return [group_record(group, alive[group.name], reasons[group.name]) for group in graph.groups]


def _by_first_name(kept: Mapping[str, list[int]], graph: ChannelGraph) -> dict[str, list[int]]:
    """What was kept, by the names of the groups in the dense network; what has none there is left out."""
    names = {group.name for group in graph.groups}
    made = [(layer, group.name) for group in graph.groups for layer in group.writers]
    count = Counter(layer for layer, _ in made)
    makers = {layer: name for layer, name in made if count[layer] == 1}
    renamed = {makers[name]: kept[name] for name in kept if name not in names and name in makers}
    return renamed | {name: kept[name] for name in kept if name in names}


def notes_on(cuts: Sequence[CutRecord]) -> list[str]:
    """What a reader has to know of the cuts, in sentences; where there are several, each says which one it is about."""
    if len(cuts) == 1:
        return list(cuts[0]["notes"])
    return [f"Cut {number} of {len(cuts)}: {note}" for number, cut in enumerate(cuts, 1) for note in cut["notes"]]


def threshold_cuts(cuts: Sequence[CutRecord]) -> list[ThresholdCut]:
    """The cuts that one threshold on all scores has decided."""
    known = [cut for cut in cuts if cut.get("threshold") is not None]
    return [ThresholdCut(cut["scores"], cut["kept"], cut["threshold"]) for cut in known]
