"""The jobs of a sweep, one row each, read from what they left in their folders."""

import os
import shlex
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from pruning_lit.reports.record import JSON_NAME, Report
from pruning_lit.reports.wording import difference
from pruning_lit.sweeps.failure import noted_failure
from pruning_lit.sweeps.finished import finished_with

CHOICES = ("arch", "dataset", "method", "criterion", "sparsity")
FIGURES = ("primary", "macs", "params", "latency_ms", "throughput")  # primary: the metric that stands for the task
REDUCTIONS = ("macs", "params", "latency")
COLUMNS = (
    *("job", "status", "error", "experiment", "seed", *CHOICES, "settings"),
    *("metric", "primary_after_cut", "primary_change", *(f"{each}_reduction" for each in REDUCTIONS)),
    *(column for each in FIGURES for column in (f"{each}_before", each)),
)
FINISHED, FAILED = "finished", "failed"
RUN = "config"  # the primary config of `python -m pruning_lit`; other commands leave no figures

Row = dict[str, Any]


def collect(folders: Iterable[str | Path] | str | Path) -> list[Row]:
    """One row per job found in ``folders`` or below.

    A job is a folder with a ``report.json``, or with Hydra's ``.hydra``: without a report it failed (``error`` says
    why) or has not finished, and its row carries no figures. Keys are :data:`COLUMNS`, those of the dense network end
    in ``_before``; what is unknown is ``None``. ``metric`` is the ``Primary`` of the task, ``primary`` its value.
    ``settings`` are the job's overrides other than its seed and choices, quoted as in a shell, so that jobs which
    differ in a number are not taken for two seeds of the same. One more key, ``widths``, holds the number of channels
    before and after by group, in the order of the network, and another, ``items``, says what examples are.

    Raises:
        FileNotFoundError: one of the folders does not exist.
        ValueError: there are no runs in one of them.
    """
    roots = [Path(each) for each in ([folders] if isinstance(folders, str | Path) else folders)]
    shared = roots[0] if len(roots) == 1 else os.path.commonpath([os.path.abspath(root) for root in roots])
    rows: dict[Path, Row] = {}
    for root in roots:
        found = {job.resolve(): _row(job, _name(job, shared)) for job in _job_folders(root)}
        runs = {job: row for job, row in found.items() if row}
        if not runs:
            raise ValueError(
                f"no runs in {str(root)!r}: expected the folder of a run or a sweep, or one with such folders in it"
            )
        rows |= runs
    return list(rows.values())


def named_columns(rows: Iterable[Row]) -> dict[str, str]:
    """The columns with their headings: those of the primary metric by its name, where all jobs have the same."""
    metrics = {row["metric"].name for row in rows if row["metric"]}
    if len(metrics) != 1:
        return {column: column for column in COLUMNS}
    (name,) = metrics
    return {column: column.replace("primary", name) for column in COLUMNS if column != "metric"}


def settings_of(row: Row) -> list[str]:
    """The settings of a row, word by word."""
    return shlex.split(row["settings"])


def _job_folders(root: Path) -> list[Path]:
    """Folders of jobs, numbered ones in the order of their numbers."""
    if not root.is_dir():
        raise FileNotFoundError(f"no folder {str(root)!r}; expected that of a run or a sweep, or one with runs in it")
    found = {path.parent for pattern in (JSON_NAME, ".hydra") for path in root.rglob(pattern)}
    return sorted(found, key=lambda path: [part.zfill(9) if part.isdigit() else part for part in path.parts])


def _name(job: Path, shared: str | Path) -> str:
    """The job's place below the folder that all are in."""
    name = Path(os.path.relpath(job, shared)).as_posix()
    return job.resolve().name if name == "." else name


def _row(folder: Path, name: str) -> Row | None:
    """None where there was no run, but another command."""
    row: Row = dict.fromkeys(COLUMNS) | {"job": name, "settings": "", "widths": {}}
    hydra = folder / ".hydra"
    try:
        report = Report.read(folder)
    except (FileNotFoundError, ValueError) as error:
        begun = _load(hydra / "hydra.yaml")
        if OmegaConf.select(begun, "hydra.job.config_name", default=RUN) != RUN:
            return None
        return row | _asked_for(hydra, begun) | {"settings": shlex.join(_begun_with(hydra)), **_ending(folder, error)}
    overrides = finished_with(folder)
    if overrides is not None:
        settings = _without_choices(overrides)
    else:
        settings = _begun_with(hydra) if (hydra / "overrides.yaml").is_file() else _commanded(report, name)
    return row | _outcome(report) | {"settings": shlex.join(settings)}


def _ending(folder: Path, error: Exception) -> Row:
    """Status, and error where it is known, of a job without a readable report."""
    if not isinstance(error, FileNotFoundError):
        return {"status": f"damaged {JSON_NAME}"}
    told = noted_failure(folder)
    return {"status": "unfinished" if told is None else FAILED, "error": told}


def _begun_with(hydra: Path) -> list[str]:
    """The overrides of a job, as Hydra wrote them down, without its seed and choices."""
    overrides = OmegaConf.to_container(_load(hydra / "overrides.yaml"), resolve=False)  # ${…} were the job's
    return _without_choices(map(str, overrides)) if isinstance(overrides, list) else []


def _commanded(report: Report, name: str) -> list[str]:
    """Settings of a job from the command line in its report, where only the report was kept."""
    words = shlex.split(report.command)
    settings = [word for word in _without_choices(word for word in words if "=" in word) if word[:5] != "hydra"]
    swept = {"-m", "--multirun"} & set(words) and any(map(_is_swept, settings))
    return [f"job={name}"] if swept else settings  # which of several values this job had, nobody knows


def _is_swept(override: str) -> bool:
    try:
        return OverridesParser.create().parse_override(override).is_sweep_override()
    except HydraException:  # what no longer can be read is taken as it stands
        return False


def _without_choices(words: Iterable[str]) -> list[str]:
    named = {word.split("=")[0]: word for word in (each.lstrip("+/") for each in words)}  # of two, the later counts
    return [word for key, word in named.items() if key not in ("seed", *CHOICES)]


def _asked_for(hydra: Path, begun: Any) -> Row:
    choices = OmegaConf.select(begun, "hydra.runtime.choices", default={})
    seed = OmegaConf.select(_load(hydra / "config.yaml"), "seed")
    return {group: choices.get(group) for group in CHOICES} | {"seed": seed}


def _load(path: Path) -> Any:
    """Config or overrides that Hydra wrote down; empty where it could not, or not to its end."""
    try:
        return OmegaConf.load(path)
    except (YAMLError, OmegaConfBaseException, OSError, ValueError):
        return OmegaConf.create()


def _outcome(report: Report) -> Row:
    return {
        "status": FINISHED,
        "error": " ".join(report.missed) or None,
        "experiment": report.experiment,
        "seed": report.seed,
        **{group: report.choices[group] for group in CHOICES if group in report.choices},
        "metric": report.primary,
        "primary_after_cut": report.value(report.metrics_after_cut),
        "primary_change": difference(report.value(report.before.metrics), report.value(report.after.metrics)),
        **{f"{each}_reduction": report.reduction[each] for each in REDUCTIONS},
        "primary_before": report.value(report.before.metrics),
        "primary": report.value(report.after.metrics),
        **{f"{each}_before": getattr(report.before, each) for each in FIGURES[1:]},
        **{each: getattr(report.after, each) for each in FIGURES[1:]},
        "widths": {group.name: (group.size, group.kept) for group in report.groups},
        "items": report.items,
    }
