"""The report of one run: record, sections, tables, pictures.

What draws or looks at a network is in the modules: these names need neither torch nor matplotlib.
"""

from pruning_lit.reports.document import console_table, markdown, write_report
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
    "markdown",
    "write_report",
]
