"""Reports of earlier versions, read under the present keys."""

from typing import Any

from pruning_lit.records.primary import FORMER_METRIC

SECTIONS = {"decided": "redundancy", "compacted": "compaction", "explored": "exploration"}  # keys to sections
METRICS = {  # values of the only metric there was, to metrics by name
    FORMER_METRIC: "metrics",
    f"{FORMER_METRIC}_after_cut": "metrics_after_cut",
    f"test_{FORMER_METRIC}": "metrics",
}
VALUES = {f"val_{FORMER_METRIC}": "validation"}


def present(report: dict[str, Any]) -> dict[str, Any]:
    """The data of a ``report.json`` under the present keys: metrics by name, data of sections under ``sections``."""
    sections = {name: report[key] for key, name in SECTIONS.items() if report.get(key)}
    return _with_metrics(report) | {
        "sections": sections | report.get("sections", {}),
        "before": _with_metrics(report["before"]),
        "after": _with_metrics(report["after"]),
        "best": _with_metrics(report["best"]) if report.get("best") else None,
        "phases": [_with_metrics(phase) for phase in report.get("phases", [])],
    }


def _with_metrics(part: dict[str, Any]) -> dict[str, Any]:
    told: dict[str, Any] = {}
    for key, value in part.items():
        if key in METRICS:
            told[METRICS[key]] = None if value is None else {FORMER_METRIC: value}
        else:
            told[VALUES.get(key, key)] = value
    return told
