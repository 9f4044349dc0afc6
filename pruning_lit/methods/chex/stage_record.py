"""Record of a stage of channel exploration, for the report, the log and TensorBoard."""

from collections.abc import Collection, Mapping
from typing import Any

from pytorch_lightning.loggers import Logger, TensorBoardLogger

from pruning_lit.methods.chex.decision import Stage

TOLD = ("at", "share", "num_kept", "num_grown", "num_pruned", "survived", "macs", "widths")  # in the report


def stage_record(
    stage: Stage, at: int, share: float, macs: int, before: Mapping[str, Any] | None, together: Mapping[str, int]
) -> dict[str, Any]:
    """Plain data on a stage.

    Args:
        stage: what it decided.
        at: its epoch or optimizer step.
        share: of the channels that was to come back.
        macs: of the network from now on.
        before: the record of the stage before; None at the first.
        together: by group, output channels that can only leave together, see ``ChannelGroup.multiplicity``.

    Returns:
        Of output channels: ``num_kept`` for their own sake, ``num_grown`` that came back, ``num_pruned`` that fell
        dormant, and ``survived``: of those that came back at the stage before, the share now kept for its own sake,
        None where there were none. ``widths``, ``active`` and ``grown`` are by group.
    """
    grown = {name: set(positions) for name, positions in (before or {}).get("grown", {}).items()}
    active = {name: set(positions) for name, positions in (before or {}).get("active", {}).items()}
    came_back = _count(grown, together)
    stayed = _count({name: each.intersection(stage.kept[name]) for name, each in grown.items()}, together)
    return {
        "at": at,
        "share": share,
        "active": stage.active,
        "grown": stage.regrown,
        "num_kept": _count(stage.kept, together),
        "num_grown": _count(stage.regrown, together),
        "num_pruned": _count({name: each - {*stage.active[name]} for name, each in active.items()}, together),
        "survived": stayed / came_back if came_back else None,
        "macs": macs,
        "widths": {name: len(positions) * together[name] for name, positions in stage.active.items()},
    }


def _count(positions: Mapping[str, Collection[int]], together: Mapping[str, int]) -> int:
    return sum(len(each) * together[name] for name, each in positions.items())


def stage_figures(record: Mapping[str, Any], dense_macs: int) -> dict[str, float]:
    """The numbers that are logged, by name: ``macs`` is a share of the dense network's."""
    figures = {
        "channels": float(sum(record["widths"].values())),
        "grown": float(record["num_grown"]),
        "pruned": float(record["num_pruned"]),
        "macs": record["macs"] / dense_macs,
    }
    return figures if record["survived"] is None else figures | {"survived": record["survived"]}


def log_stage(logger: Logger, figures: Mapping[str, float], widths: Mapping[str, int], step: int) -> None:
    """Write the figures, and for TensorBoard the width of every group, too."""
    logger.log_metrics({f"stage/{name}": value for name, value in figures.items()}, step)
    if isinstance(logger, TensorBoardLogger):
        for name, width in widths.items():
            logger.experiment.add_scalar(f"widths/{name}", width, step)
