"""Speed of a network where it is deployed: the table of ``pruning_lit.export``, on the console and in a file."""

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import TypeVar

from rich.table import Table

from pruning_lit.records.latency import Timing
from pruning_lit.records.primary import Primary
from pruning_lit.reports.wording import UNKNOWN, amount, change, latency_change, metric
from pruning_lit.system.atomic import write_text

JSON_NAME = "export.json"
RUNTIMES = {"eager": "PyTorch", "compiled": "torch.compile", "onnx": "ONNX Runtime"}
Value = TypeVar("Value")


@dataclass(frozen=True)
class Deployed:
    """One network where it runs.

    Args:
        name: of the column.
        macs, params: multiply-accumulates for one image, and parameters.
        timings: wall time of its passes, one per size of batches, by the runtime: ``eager``, ``compiled`` by
            ``torch.compile``, ``onnx`` in ONNX Runtime; those that run it and were asked for.
        onnx_bytes: size of its ONNX file.
        metrics: on the test part, where they were asked for.
    """

    name: str
    macs: int
    params: int
    timings: dict[str, list[Timing]]
    onnx_bytes: int | None = None
    metrics: dict[str, float] | None = None


@dataclass(frozen=True)
class Deployment:
    """Networks on one machine, in several runtimes.

    Args:
        networks: the dense one first, which the others are compared with.
        batch_sizes: images in a pass.
        repeats: timed passes of each network, for each size, by the runtime.
        threads: CPU threads, of either.
        hardware: where it was measured.
        versions: library to version.
        notes: sentences a reader has to know.
        primary: the metric that stands for all, where there are metrics.
        date: when, ISO 8601.
    """

    networks: list[Deployed]
    batch_sizes: list[int]
    repeats: dict[str, list[int]]
    threads: int
    hardware: str
    versions: dict[str, str]
    notes: list[str]
    primary: Primary | None = None
    date: str = field(default_factory=lambda: datetime.now().isoformat(timespec="seconds"))

    def write(self, folder: Path) -> Path:
        """Write ``export.json`` into ``folder``, which is its path then."""
        write_text(folder / JSON_NAME, json.dumps(asdict(self), indent=2) + "\n")
        return folder / JSON_NAME


def deployment_table(deployment: Deployment) -> Table:
    """One column per network; below the figures of all but the first, how they differ from the first's."""
    networks, primary = deployment.networks, deployment.primary
    table = Table("", title="Where it runs", title_justify="left")
    for network in networks:
        table.add_column(network.name, justify="right", overflow="fold")
    _add(table, "MACs", [each.macs for each in networks], amount, change)
    if "onnx" in deployment.repeats:
        sizes = [None if each.onnx_bytes is None else each.onnx_bytes / 1e3 for each in networks]
        _add(table, "ONNX file", sizes, lambda size: amount(size, "kB"), change)
    if primary is not None:
        values = [None if each.metrics is None else each.metrics[primary.name] for each in networks]
        _add(table, primary.title, values, lambda value: metric(primary, value), lambda *both: UNKNOWN)
    for place, size in enumerate(deployment.batch_sizes):
        for runtime, repeats in deployment.repeats.items():
            timings = [each.timings[runtime][place] if runtime in each.timings else None for each in networks]
            label = f"{RUNTIMES[runtime]},\nbatch of {size}"
            _add(table, label, timings, _milliseconds, partial(_faster, repeats[place]))
    return table


def _add(
    table: Table, label: str, values: Sequence[Value], told: Callable[[Value], str], how: Callable[[Value, Value], str]
) -> None:
    """Add a row: the first value, and the others with their differences from it in a second line."""
    others = [(told(value), how(values[0], value)) for value in values[1:]]
    table.add_row(
        label, told(values[0]), *(text if known == UNKNOWN else f"{text}\n({known})" for text, known in others)
    )


def _milliseconds(timing: Timing | None) -> str:
    return UNKNOWN if timing is None else amount(timing.median_ms, "ms")


def _faster(repeats: int, before: Timing | None, after: Timing | None) -> str:
    return UNKNOWN if before is None or after is None else latency_change(before, after, repeats)
