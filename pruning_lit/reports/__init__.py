"""The report of one run: record, sections, tables, pictures."""

from pruning_lit.reports.cuts import group_records, notes_on, threshold_cuts
from pruning_lit.reports.document import console_table, markdown, redundancy_table
from pruning_lit.reports.plots import figure_to_image, save, widths_figure
from pruning_lit.reports.published_counts import params_with_whole_norms
from pruning_lit.reports.record import (
    Best,
    CompactedGroup,
    CompactedRecord,
    DecidedRecord,
    Figures,
    GroupRecord,
    PhaseRecord,
    Report,
)
from pruning_lit.reports.redundancy import DecidedLayer, decided_layers, redundancy_figure
from pruning_lit.reports.scores import ThresholdCut, scores_figure

__all__ = [
    "Best",
    "CompactedGroup",
    "CompactedRecord",
    "DecidedLayer",
    "DecidedRecord",
    "Figures",
    "GroupRecord",
    "PhaseRecord",
    "Report",
    "ThresholdCut",
    "console_table",
    "decided_layers",
    "figure_to_image",
    "group_records",
    "markdown",
    "notes_on",
    "params_with_whole_norms",
    "redundancy_figure",
    "redundancy_table",
    "save",
    "scores_figure",
    "threshold_cuts",
    "widths_figure",
]
