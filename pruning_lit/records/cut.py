"""The record of a cut."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Self

from pruning_lit.records.primary import FORMER_METRIC

if TYPE_CHECKING:  # the channel graph is torch's, its records are not
    from pruning_lit.channels import Kept, RemovedPositions

#: Keys of a cut in checkpoints of earlier versions, to the sections that read what was there.
FORMER_DETAILS = {"evidence": "redundancy", "compaction": "compaction", "exploration": "exploration"}


@dataclass
class CutRecord:
    """Record of one cut, for the report; a part of the state of the callback that made it.

    Attributes:
        epoch: in front of which the network was cut.
        kept: by group, the positions that stayed, in the numbering of the network before the cut.
        gone: by tensor, the positions that were removed, see ``removed_positions``.
        groups: every group before the cut: ``name``, ``size`` in output channels, ``protected``: why it stays whole.
        macs, params: of the network after the cut; params are None in checkpoints of earlier versions.
        notes: sentences a reader has to know.
        error: largest difference from what the masked network computed, over its largest output.
        metrics_before, metrics_after: of the task on the test part; None: not measured.
        details: by name of a report's section, what that alone reads, plain data.
        missed: a sentence on the budget, where the cut does not meet it.
        metrics_recalibrated: after the cut and with new statistics of the norms; None: they are the old ones.
    """

    epoch: int
    kept: "Kept"
    gone: "RemovedPositions"
    groups: list[dict[str, Any]]
    macs: int
    params: int | None
    notes: list[str]
    error: float
    metrics_before: dict[str, float] | None = None
    metrics_after: dict[str, float] | None = None
    details: dict[str, Any] = field(default_factory=dict)
    missed: str | None = None
    metrics_recalibrated: dict[str, float] | None = None

    def state(self) -> dict[str, Any]:
        """Plain data for a checkpoint."""
        return dict(vars(self))

    @classmethod
    def of_state(cls, state: Mapping[str, Any]) -> Self:
        """The record back from ``state``, also as earlier versions have written it."""
        if "details" in state:
            return cls(**state)
        details = {name: state[key] for key, name in FORMER_DETAILS.items() if state.get(key)}
        if "scores" in state:
            details["scores"] = {"scores": state["scores"], "threshold": state["threshold"]}
        before, after = (
            None if (value := state[f"{FORMER_METRIC}_{when}"]) is None else {FORMER_METRIC: value}
            for when in ("before", "after")
        )
        plain = {key: state[key] for key in ("epoch", "kept", "gone", "groups", "macs", "notes", "error")}
        return cls(**plain, params=state.get("params"), metrics_before=before, metrics_after=after, details=details)
