"""What a run and a sweep say about themselves: measurements, records, tables, pictures."""

from pruning_lit.report.document import console_table, markdown
from pruning_lit.report.groups import group_record
from pruning_lit.report.latency import Latency, Timing
from pruning_lit.report.machine import hardware, versions
from pruning_lit.report.measure import Stopwatch
from pruning_lit.report.plots import figure_to_image, save, scores_figure, widths_figure
from pruning_lit.report.record import Best, Figures, GroupRecord, PhaseRecord, Report
from pruning_lit.report.sweep import SweepSummary, collect, write_summary

__all__ = [
    "Best",
    "Figures",
    "GroupRecord",
    "Latency",
    "PhaseRecord",
    "Report",
    "Stopwatch",
    "SweepSummary",
    "Timing",
    "collect",
    "console_table",
    "figure_to_image",
    "group_record",
    "hardware",
    "markdown",
    "save",
    "scores_figure",
    "versions",
    "widths_figure",
    "write_summary",
]
