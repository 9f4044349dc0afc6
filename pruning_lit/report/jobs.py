"""The jobs of a sweep, one flat row each, read from what they left in their folders."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from pruning_lit.report.record import JSON_NAME, Report
from pruning_lit.report.wording import difference

CHOICES = ("arch", "dataset", "method", "criterion", "sparsity")
FIGURES = ("accuracy", "macs", "params", "latency_ms", "throughput")
REDUCTIONS = ("macs", "params", "latency")
COLUMNS = (
    *("job", "status", "experiment", "seed", *CHOICES, "settings"),
    *("accuracy_after_cut", "accuracy_change", *(f"{each}_reduction" for each in REDUCTIONS)),
    *(column for each in FIGURES for column in (f"{each}_before", each)),
)
FINISHED = "finished"

Row = dict[str, Any]


def collect(folders: Iterable[str | Path] | str | Path) -> list[Row]:
    """One row per job found in ``folders`` or below.

    A job is a folder with a ``report.json``, or with Hydra's ``.hydra``: without a report it failed or has not
    finished, and its row carries no figures. Keys are :data:`COLUMNS`, those of the dense network end in ``_before``;
    what is unknown is ``None``. ``settings`` are the job's overrides other than its seed and choices, so that jobs
    which differ in a number are not taken for two seeds of the same.

    Raises:
        FileNotFoundError: one of the folders does not exist.
    """
    roots = [Path(each) for each in ([folders] if isinstance(folders, str | Path) else folders)]
    for root in roots:
        if not root.is_dir():
            raise FileNotFoundError(f"no folder {root}; expected the folder of a multirun, or one with runs in it")
    jobs = {job.resolve(): job.relative_to(root) for root in roots for job in _job_folders(root)}
    return [_row(folder, str(name)) for folder, name in jobs.items()]


def _job_folders(root: Path) -> list[Path]:
    """Folders of jobs, numbered ones in the order of their numbers."""
    found = {path.parent for pattern in (JSON_NAME, ".hydra") for path in root.rglob(pattern)}
    return sorted(found, key=lambda path: [part.zfill(9) if part.isdigit() else part for part in path.parts])


def _row(folder: Path, name: str) -> Row:
    row: Row = dict.fromkeys(COLUMNS) | {"job": name}
    row |= _asked_for(folder / ".hydra")
    try:
        return row | _outcome(Report.read(folder))
    except FileNotFoundError:
        return row | {"status": "failed or unfinished"}
    except ValueError:
        return row | {"status": f"damaged {JSON_NAME}"}


def _asked_for(hydra: Path) -> Row:
    if not (hydra / "overrides.yaml").is_file():
        return {"settings": ""}
    overrides = OmegaConf.to_container(OmegaConf.load(hydra / "overrides.yaml"), resolve=False)  # ${…} were the job's
    assert isinstance(overrides, list)
    words = [str(each).lstrip("+/") for each in overrides]
    settings = [each for each in words if each.split("=")[0] not in ("seed", *CHOICES)]
    chosen = _load(hydra / "hydra.yaml")
    choices = OmegaConf.select(chosen, "hydra.runtime.choices", default={})
    seed = OmegaConf.select(_load(hydra / "config.yaml"), "seed")
    return {group: choices.get(group) for group in CHOICES} | {"settings": " ".join(settings), "seed": seed}


def _load(path: Path) -> DictConfig:
    loaded = OmegaConf.load(path)
    assert isinstance(loaded, DictConfig)
    return loaded


def _outcome(report: Report) -> Row:
    return {
        "status": FINISHED,
        "experiment": report.experiment,
        "seed": report.seed,
        **{group: report.choices[group] for group in CHOICES if group in report.choices},
        "accuracy_after_cut": report.accuracy_after_cut,
        "accuracy_change": difference(report.before.accuracy, report.after.accuracy),
        **{f"{each}_reduction": report.reduction[each] for each in REDUCTIONS},
        **{f"{each}_before": getattr(report.before, each) for each in FIGURES},
        **{each: getattr(report.after, each) for each in FIGURES},
    }
