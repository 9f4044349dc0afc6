"""Many runs: collected, averaged over seeds, drawn against their costs."""

from pruning_lit.sweeps.sweep import SweepSummary, collect, write_summary

__all__ = ["SweepSummary", "collect", "write_summary"]
