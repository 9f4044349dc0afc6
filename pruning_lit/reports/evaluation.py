"""Networks side by side: the table of ``pruning_lit.evaluate``, on the console and in files."""

import json
import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from rich.table import Table

from pruning_lit.measure.forward_pass import ForwardPass
from pruning_lit.records.latency import speedup
from pruning_lit.records.primary import Primary
from pruning_lit.reports.wording import (
    NOISY,
    UNKNOWN,
    amount,
    change,
    latency_change,
    markdown_table,
    metric,
    metric_change,
    with_quartiles,
)
from pruning_lit.system.atomic import write_text

JSON_NAME = "evaluation.json"
MARKDOWN_NAME = "evaluation.md"
Value = TypeVar("Value")


@dataclass(frozen=True)
class Evaluated:
    """One network in numbers.

    Args:
        path: as the user has named it.
        metrics: those of the task by name, and its mean ``loss``.
        macs: multiply-accumulates for one image.
        params: number of parameters.
        mean, std: by which its images were normalised.
        passes: one per batch size.
    """

    path: str
    metrics: dict[str, float]
    macs: int
    params: int
    mean: list[float]
    std: list[float]
    passes: list[ForwardPass]


@dataclass(frozen=True)
class Evaluation:
    """Networks, measured on the same images and the same machine.

    Args:
        name: heading.
        primary: the metric of the task that stands for all.
        networks: at least one; the others are compared with the first.
        pictures: what they looked at, in words.
        items: what that is, in the plural: images, clouds.
        dataset: its config.
        memory: what their peak memory counts, in words.
        threads: CPU threads that PyTorch used.
        notes: sentences a reader has to know.
        command: the command line that repeats it.
        versions: library to version.
        hardware: where it was measured.
        date: when, ISO 8601.
    """

    name: str
    primary: Primary
    networks: list[Evaluated]
    pictures: str
    dataset: dict[str, Any]
    memory: str
    threads: int
    notes: list[str]
    command: str
    versions: dict[str, str]
    hardware: str
    items: str = "images"
    date: str = field(default_factory=lambda: datetime.now().isoformat(timespec="seconds"))

    def to_json(self) -> str:
        """All of it as JSON text; metrics that are not finite become null."""
        data = asdict(self)
        for network, told in zip(self.networks, data["networks"], strict=True):
            told["metrics"] = {name: value if math.isfinite(value) else None for name, value in network.metrics.items()}
            told["passes"] = [asdict(each) | {"throughput": each.throughput} for each in network.passes]
        return json.dumps(data, indent=2, allow_nan=False) + "\n"

    def to_markdown(self) -> str:
        """The text of ``evaluation.md``."""
        command = f"```\n{self.command}\n```"
        facts = {"hardware": self.hardware, "versions": ", ".join(f"{k} {v}" for k, v in self.versions.items())}
        sections = [
            f"# {self.name}",
            *[f"> **Note.** {note}" for note in self.notes],
            "\n".join(markdown_table(*_cells(self))),
            "\n".join(f"- {line}" for line in explanation(self)),
            "## How this was made",
            command,
            "\n".join(f"- {name}: {value}" for name, value in {**facts, "date": self.date}.items()),
        ]
        return "\n\n".join(sections) + "\n"

    def write(self, folder: Path) -> None:
        """Write ``evaluation.md`` and ``evaluation.json`` into ``folder``."""
        write_text(folder / MARKDOWN_NAME, self.to_markdown())
        write_text(folder / JSON_NAME, self.to_json())


def evaluation_table(evaluation: Evaluation) -> Table:
    """One column per network; below the figures of all but the first, how they differ from the first's."""
    header, rows = _cells(evaluation)
    table = Table(header[0], title=evaluation.name, title_justify="left")
    for path in header[1:]:
        table.add_column(path, justify="right", overflow="fold")
    for row in rows:
        table.add_row(*row)
    return table


def explanation(evaluation: Evaluation) -> list[str]:
    """On what the figures were measured, and what they count."""
    passes = " and ".join(dict.fromkeys(str(each.repeats) for each in evaluation.networks[0].passes))
    plural = "es" * (passes != "1")
    threads = f"{evaluation.threads} PyTorch thread{'s' * (evaluation.threads != 1)}"
    turns = ", the networks in turns," * (len(evaluation.networks) > 1)
    items = evaluation.items
    return [
        f"{items}: {evaluation.pictures}",
        f"MACs: multiply-accumulates of convolutions and linear layers for one {items.removesuffix('s')}",
        f"latency: median (quartiles) of {passes} pass{plural}{turns} on {evaluation.hardware} with {threads}; "
        f"throughput: {items} per second at that median; too noisy to tell: quartiles overlap or are far apart",
        f"peak memory of a forward pass: {evaluation.memory}",
    ]


def _cells(evaluation: Evaluation) -> tuple[list[str], list[list[str]]]:
    """Headings and rows of the table."""
    nets = evaluation.networks
    names = dict.fromkeys([evaluation.primary.name, *(name for net in nets for name in net.metrics)])
    rows = [
        *[_metric(evaluation.primary, name, [net.metrics.get(name) for net in nets]) for name in names],
        _row("parameters", [net.params for net in nets], amount, change),
        _row("MACs", [net.macs for net in nets], amount, change),
    ]
    for passes in zip(*(net.passes for net in nets), strict=True):
        batch = f",\nbatch of {passes[0].batch_size}"
        rows += [
            _row(f"latency{batch}", passes, _latency, _faster),
            _row(f"throughput{batch}", passes, partial(_speed, items=evaluation.items), _speed_change),
            _row(f"peak memory{batch}", [each.peak_memory for each in passes], _megabytes, change),
        ]
    return ["", *(net.path for net in nets)], rows


def _row(
    label: str, values: Sequence[Value], told: Callable[[Value], str], compared: Callable[[Value, Value], str]
) -> list[str]:
    """The first value, and the others with their differences from it in a second line."""
    first = values[0]
    others = [(told(value), compared(first, value)) for value in values[1:]]
    return [label, told(first), *(text if how == UNKNOWN else f"{text}\n({how})" for text, how in others)]


def _metric(primary: Primary, name: str, values: Sequence[float | None]) -> list[str]:
    """A metric of the task; all but the loss have the unit of the primary one."""
    unit = Primary(name, percent=primary.percent and name != "loss")
    return _row(unit.title, values, lambda value: metric(unit, value), lambda old, new: metric_change(unit, old, new))


def _latency(one: ForwardPass) -> str:
    return with_quartiles(one.timing)


def _faster(old: ForwardPass, new: ForwardPass) -> str:
    return latency_change(old.timing, new.timing, new.repeats)


def _speed(one: ForwardPass, items: str) -> str:
    return amount(one.throughput, f"{items}/s")


def _speed_change(old: ForwardPass, new: ForwardPass) -> str:
    told = speedup(old.timing, new.timing, new.repeats) is not None
    return change(old.throughput, new.throughput) if told else NOISY


def _megabytes(size: int) -> str:
    return amount(size / 1e6, "MB")
