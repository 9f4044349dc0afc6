"""The report of one run: record, sections, tables, pictures."""

from pruning_lit.reports.cuts import group_records, notes_on
from pruning_lit.reports.document import console_table, markdown, write_report
from pruning_lit.reports.plots import figure_to_image, save, widths_figure
from pruning_lit.reports.published_counts import params_with_whole_norms
from pruning_lit.reports.record import Best, Figures, GroupRecord, PhaseRecord, Report
from pruning_lit.reports.section import Section

__all__ = [
    "Best",
    "Figures",
    "GroupRecord",
    "PhaseRecord",
    "Report",
    "Section",
    "console_table",
    "figure_to_image",
    "group_records",
    "markdown",
    "notes_on",
    "params_with_whole_norms",
    "save",
    "widths_figure",
    "write_report",
]
