"""What a run and a sweep say about themselves: measurements, records, tables, pictures."""

from pruning_lit.report.commits import commits
from pruning_lit.report.compaction import Compaction, compaction_figure, compactions
from pruning_lit.report.cuts import group_records, notes_on, threshold_cuts
from pruning_lit.report.document import console_table, markdown, redundancy_table
from pruning_lit.report.exploration import Exploration, exploration_figure, explorations
from pruning_lit.report.explored import ExploredGroup, ExploredRecord, exploration_table
from pruning_lit.report.forgotten import compaction_table
from pruning_lit.report.latency import Latency, Timing
from pruning_lit.report.machine import hardware, versions
from pruning_lit.report.measure import Stopwatch
from pruning_lit.report.plots import figure_to_image, save, widths_figure
from pruning_lit.report.published_counts import params_with_whole_norms
from pruning_lit.report.record import (
    Best,
    CompactedGroup,
    CompactedRecord,
    DecidedRecord,
    Figures,
    GroupRecord,
    PhaseRecord,
    Report,
)
from pruning_lit.report.redundancy import DecidedLayer, decided_layers, redundancy_figure
from pruning_lit.report.scores import ThresholdCut, scores_figure
from pruning_lit.report.sweep import SweepSummary, collect, write_summary

__all__ = [
    "Best",
    "CompactedGroup",
    "CompactedRecord",
    "Compaction",
    "DecidedLayer",
    "DecidedRecord",
    "Exploration",
    "ExploredGroup",
    "ExploredRecord",
    "Figures",
    "GroupRecord",
    "Latency",
    "PhaseRecord",
    "Report",
    "Stopwatch",
    "SweepSummary",
    "ThresholdCut",
    "Timing",
    "collect",
    "commits",
    "compaction_figure",
    "compaction_table",
    "compactions",
    "console_table",
    "decided_layers",
    "exploration_figure",
    "exploration_table",
    "explorations",
    "figure_to_image",
    "group_records",
    "hardware",
    "markdown",
    "notes_on",
    "params_with_whole_norms",
    "redundancy_figure",
    "redundancy_table",
    "save",
    "scores_figure",
    "threshold_cuts",
    "versions",
    "widths_figure",
    "write_summary",
]
