"""What a multirun leaves behind: ``summary.csv``, ``summary.md`` and ``pareto.png``."""

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hydra.core.utils import JobReturn
from hydra.experimental.callback import Callback
from hydra.types import RunMode
from omegaconf import DictConfig
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from pruning_lit.report.atomic import replacing, write_text
from pruning_lit.report.jobs import COLUMNS, FINISHED, Row, collect
from pruning_lit.report.pareto import pareto_figure
from pruning_lit.report.plots import save
from pruning_lit.report.spread import Combination, Spread, combine
from pruning_lit.report.wording import UNKNOWN, markdown_table

HEADINGS = ["method", "sparsity", "seeds", "dense, %", "pruned, %", "change, points"]
HEADINGS += ["MACs removed, %", "parameters removed, %", "latency removed, %"]
ON_CONSOLE = {"method", "sparsity", "pruned, %", "change, points", "MACs removed, %"}
SPREADS = ("accuracy_before", "accuracy", "accuracy_change", "macs_reduction", "params_reduction", "latency_reduction")
EXPLANATION = """\
Mean ± sample standard deviation over the seeds. *Dense* and *pruned* are accuracies; *change* is pruned minus dense,
taken seed by seed. Removed shares are of the dense network; latencies were measured in each job on its own machine."""


def write_summary(folder: str | Path) -> Path:
    """Summarise every job below ``folder`` in ``summary.csv``, ``summary.md`` and ``pareto.png`` there.

    The picture is left out as long as no job has both an accuracy and MACs.

    Returns:
        The path of ``summary.md``.

    Raises:
        FileNotFoundError: the folder does not exist.
    """
    folder = Path(folder)
    rows = collect(folder)
    combinations = combine(rows)
    with replacing(folder / "summary.csv") as draft, draft.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, COLUMNS)
        writer.writeheader()
        writer.writerows(rows)
    pictured = any(each.spread("accuracy") and each.spread("macs_reduction") for each in combinations)
    if pictured:
        save(pareto_figure(combinations), folder / "pareto.png")
    write_text(folder / "summary.md", _markdown(rows, combinations, pictured))
    return folder / "summary.md"


def summary_tables(combinations: Sequence[Combination]) -> list[Table]:
    """One rich table per network and data set: mean ± sample standard deviation, the columns that fit a console."""
    tables = []
    for place, members in _by_place(combinations).items():
        table = Table(title=place, title_justify="left", box=SIMPLE_HEAD)
        for column, heading in enumerate(HEADINGS):
            if heading in ON_CONSOLE:
                table.add_column(heading, justify="left" if column < 2 else "right", no_wrap=column < 2)
        for each in members:
            cells = zip(HEADINGS, _cells(each), strict=True)
            table.add_row(*(cell for heading, cell in cells if heading in ON_CONSOLE))
        tables.append(table)
    return tables


class SweepSummary(Callback):
    """Summarise a multirun: after every job, so that a failing one does not take the summary along, and at the end."""

    def on_job_end(self, config: DictConfig, job_return: JobReturn, **kwargs: Any) -> None:
        """Bring the summary up to date; Hydra skips :meth:`on_multirun_end` when a job has failed."""
        if config.hydra.mode == RunMode.MULTIRUN:
            write_summary(_sweep_folder(config))

    def on_multirun_end(self, config: DictConfig, **kwargs: Any) -> None:
        """Write the summary and print it with its place."""
        folder = _sweep_folder(config)
        path = write_summary(folder)
        rows = collect(folder)
        console = Console()
        for table in summary_tables(combine(rows)):
            console.print(table)
        for row in rows:
            if row["status"] != FINISHED:
                console.print(f"job {row['job']}: {row['status']}", markup=False)
        console.print(f"summary: {path}", markup=False, soft_wrap=True)


def _sweep_folder(config: DictConfig) -> Path:
    return Path(config.hydra.runtime.cwd) / config.hydra.sweep.dir  # jobs may have changed the working directory


def _markdown(rows: Sequence[Row], combinations: Sequence[Combination], pictured: bool) -> str:
    finished = sum(row["status"] == FINISHED for row in rows)
    sections = [f"# Summary of {len(rows)} jobs, {finished} of them finished"]
    if combinations:
        sections.append(EXPLANATION)
    if pictured:
        sections.append("![accuracy against the MACs that are left](pareto.png)")
    for place, members in _by_place(combinations).items():
        sections += [f"## {place}", "\n".join(markdown_table(HEADINGS, [_cells(each) for each in members]))]
    if finished < len(rows):
        missing = [
            f"- `{row['job']}` (seed {row['seed']}): {row['status']}" for row in rows if row["status"] != FINISHED
        ]
        sections += ["## Jobs without figures", "\n".join(missing)]
    return "\n\n".join(sections) + "\n"


def _by_place(combinations: Sequence[Combination]) -> dict[str, list[Combination]]:
    """Network and data set, in words, to what was tried there; accuracies of two places do not compare."""
    places: dict[str, list[Combination]] = {}
    for each in combinations:
        name = " on ".join(filter(None, (each.key["arch"], each.key["dataset"]))) or UNKNOWN
        places.setdefault(name, []).append(each)
    return places


def _cells(combination: Combination) -> list[str]:
    key, seeds = combination.key, combination.seeds
    counted = f"{len(set(seeds))} ({', '.join(map(str, seeds))})"
    asked = " ".join(filter(None, (key["sparsity"], key["settings"])))
    return [
        combination.method or UNKNOWN,
        asked or UNKNOWN,
        counted,
        *(_text(combination.spread(each)) for each in SPREADS),
    ]


def _text(spread: Spread | None) -> str:
    if spread is None:
        return UNKNOWN
    deviation = "" if spread.deviation is None else f" ± {100 * spread.deviation:.2f}"
    return f"{100 * spread.mean:.2f}{deviation}"
