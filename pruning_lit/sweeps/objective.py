"""Objective of a sweep that optimises: figures that each job returns to the sweeper, never those of the test part."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pruning_lit.records.metrics_table import read_lines
from pruning_lit.records.primary import Primary
from pruning_lit.reports.record import Report

COSTS = ("macs", "params", "latency_ms")  # of the network that the job has made
TRIES_ALL = "hydra._internal.core_plugins.basic_sweeper.BasicSweeper"  # and asks for no figure


def names_of(objective: Any) -> list[str]:
    """Names of the figures that are asked for; none where nothing is."""
    if objective is None or isinstance(objective, str):
        return [objective] if objective else []
    return [str(each) for each in objective]


def returned(objective: Any, folder: Path) -> float | list[float] | None:
    """Figures of a finished job for its sweeper.

    Args:
        objective: name of a figure, or several; None: nothing is returned.
        folder: of the job. Figures of the training are those of the last epoch in ``metrics.csv``, costs are those of
            the network that was made.

    Raises:
        ValueError: there is no such figure.
    """
    if not (names := names_of(objective)):
        return None
    after, lines = Report.read(folder).after, read_lines(folder / "metrics.csv")
    last = {name: float(value) for phase, epoch, _, name, value in lines if [phase, epoch] == lines[-1][:2]}
    figures = last | {name: float(getattr(after, name)) for name in COSTS if getattr(after, name) is not None}
    if missing := [name for name in names if name not in figures]:
        raise ValueError(f"objective={missing[0]}: the run has no such figure; there are {', '.join(figures)}")
    values = [figures[name] for name in names]
    return values[0] if isinstance(objective, str) else values


def require_objective(
    objective: Any, logged: Sequence[str], primary: Primary, sweeper: str, directions: Sequence[str]
) -> None:
    """Refuse, before any training, an objective that a job could not return, or that would be led astray.

    Args:
        objective: name of a figure, or several; None for none.
        logged: figures of an epoch of the last phase.
        primary: metric of the task.
        sweeper: class of the sweeper.
        directions: in which it goes, ``minimize`` or ``maximize``, for each figure; empty where it does not say.

    Raises:
        ValueError: naming what to type.
    """
    names = names_of(objective)
    if sweeper != TRIES_ALL and not names:
        better = next((each for each in logged if each == f"val/{primary.name}"), "macs")
        raise ValueError(
            f"the sweeper chooses by a figure of every job: add objective={better}, or another of "
            f"{', '.join([*logged, *COSTS])}"
        )
    for name in names:
        if name not in (*logged, *COSTS):
            raise ValueError(f"objective={name}: a run has no such figure; there are {', '.join([*logged, *COSTS])}")
    if directions and len(names) != len(directions):
        raise ValueError(
            f"objective has {len(names)} figures and hydra.sweeper.direction {len(directions)}: one direction for each"
        )
    for name, direction in zip(names, directions, strict=False):
        right = "min" if name.endswith("/loss") or name in COSTS else None
        right = primary.mode if name.endswith(f"/{primary.name}") else right
        if right and not direction.startswith(right):
            raise ValueError(
                f"objective={name} is to be {right}imized, and the sweeper goes the other way: add "
                f"hydra.sweeper.direction={right}imize"
            )
