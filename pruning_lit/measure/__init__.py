"""Measured cost of a network: latency and memory, and which machine and code that was."""

from pruning_lit.measure.commits import commits
from pruning_lit.measure.machine import hardware, versions
from pruning_lit.measure.stopwatch import Stopwatch
from pruning_lit.records.latency import Latency, Timing

__all__ = ["Latency", "Stopwatch", "Timing", "commits", "hardware", "versions"]
