"""Records of cuts, made by hand."""

from typing import Any

from pruning_lit.records.cut import CutRecord


def cut(
    kept: Any = None, gone: Any = None, groups: Any = (), notes: Any = (), macs: int = 1250, **details: Any
) -> CutRecord:
    return CutRecord(0, kept or {}, gone or {}, list(groups), macs, 100, list(notes), 0.0, details=details)
