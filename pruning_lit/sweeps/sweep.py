"""Summary of a sweep: ``summary.csv``, ``summary.md``, ``summary.html``, ``pareto.png`` and ``widths.png``."""

import csv
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from hydra.core.utils import JobReturn, JobStatus
from hydra.experimental.callback import Callback
from hydra.types import RunMode
from omegaconf import DictConfig

from pruning_lit.reports.console import open_console
from pruning_lit.reports.record import JSON_NAME
from pruning_lit.sweeps.failure import noted_failure
from pruning_lit.sweeps.jobs import Row, collect, named_columns
from pruning_lit.sweeps.spread import combine
from pruning_lit.sweeps.summary import budgets_missed, console_tables, markdown, without_figures
from pruning_lit.system.atomic import replacing, write_text
from pruning_lit.system.launcher import place
from pruning_lit.system.preemption import asked


def write_summary(folders: Iterable[str | Path] | str | Path, out: str | Path | None = None) -> Path:
    """Summarise every job in ``folders`` or below.

    Args:
        folders: one or several, see :func:`collect`.
        out: where the summary goes; by default the one folder.

    Returns:
        The path of ``summary.md``.

    Raises:
        FileNotFoundError: a folder does not exist.
        ValueError: there are no runs in one, or ``out`` is itself the folder of a run.
    """
    if out is None:
        if not isinstance(folders, str | Path):
            raise ValueError("the summary of several folders needs a folder of its own, out=…")
        out = folders
    return write_rows(collect(folders), Path(out))


def write_rows(rows: Sequence[Row], out: Path) -> Path:
    """Write the summary of the jobs into ``out``; pictures for which the figures are missing are left out.

    Returns:
        The path of ``summary.md``.

    Raises:
        ValueError: ``out`` is the folder of a run, whose own ``widths.png`` would be lost.
    """
    if (out / JSON_NAME).is_file():
        raise ValueError(f"{str(out)!r} is the folder of a run, and keeps its own pictures: name another folder, out=…")
    from pruning_lit.reports.page import page  # late: every command loads this module, and few of them draw
    from pruning_lit.sweeps.pictures import draw

    combinations = combine(rows)
    with replacing(out / "summary.csv") as draft, draft.open("w", newline="", encoding="utf-8") as file:
        writer, columns = csv.writer(file), named_columns(rows)
        writer.writerow(columns.values())
        for row in rows:
            known = row | {"metric": row["metric"] and row["metric"].name}
            writer.writerow([known[column] for column in columns])
    text = markdown(rows, combinations, draw(combinations, out))
    write_text(out / "summary.html", page(text, out))
    write_text(out / "summary.md", text)
    return out / "summary.md"


def print_rows(rows: Sequence[Row], path: Path) -> None:
    """Print the tables, the jobs without figures or that missed their budget, and where the summary is."""
    console = open_console()
    for table in console_tables(combine(rows)):
        console.print(table)
    jobs = without_figures(rows) | budgets_missed(rows)
    for line in [*(f"job {job}{told}" for job, told in jobs.items()), f"summary: {path}"]:
        console.print(line, soft_wrap=True)


class SweepSummary(Callback):
    """Summarise a multirun: after every job, so that nothing takes the summary along, and at the end."""

    def on_job_end(self, config: DictConfig, job_return: JobReturn, **kwargs: Any) -> None:
        """Bring the summary up to date; Hydra skips :meth:`on_multirun_end` where an error of our own ends a job."""
        if config.hydra.mode != RunMode.MULTIRUN or not _is_first():
            return
        path = write_summary(_sweep_folder(config))
        if job_return.status == JobStatus.FAILED or noted_failure(Path(config.hydra.runtime.output_dir)):
            text = f"job {config.hydra.job.num} has failed, the others are run all the same; summary: {path}"
            open_console().print(text, soft_wrap=True)

    def on_multirun_end(self, config: DictConfig, **kwargs: Any) -> None:
        """Write the summary and print it with its place; exit code 1 if a job has failed."""
        if not _is_first() or asked():  # not the end, if a signal has come
            return
        folder = _sweep_folder(config)
        rows = collect(folder)
        print_rows(rows, write_rows(rows, folder))
        if failed := sum(noted_failure(folder / row["job"]) is not None for row in rows):  # finished before or not
            open_console().print(f"{failed} of {len(rows)} jobs have failed")
            sys.exit(1)


def _is_first() -> bool:
    """True in the first of the processes that a launcher has started, which all go through the sweep."""
    rank, _ = place()
    return rank == 0


def _sweep_folder(config: DictConfig) -> Path:
    return Path(config.hydra.runtime.cwd) / config.hydra.sweep.dir  # jobs may have changed the working directory
