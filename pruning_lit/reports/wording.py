"""Numbers written for people: percentages, points, metrics, counts."""

import math
import re
from textwrap import wrap

from pruning_lit.records.latency import Timing, speedup
from pruning_lit.records.primary import Primary

UNKNOWN = "-"
NOISY = "too noisy to tell"  # of a difference of two latencies


def percent(fraction: float | None, digits: int = 2) -> str:
    """A fraction as per cent: 0.9326 is ``93.26 %``."""
    return UNKNOWN if fraction is None else f"{100 * fraction:.{digits}f} %"


def points(difference: float | None) -> str:
    """A difference of two fractions in percentage points, with its sign: -0.0025 is ``-0.25 points``."""
    return UNKNOWN if difference is None else f"{100 * difference:+.2f} points"


def metric(primary: Primary, value: float | None) -> str:
    """A value of a metric with its unit; none where there was nothing to measure."""
    return UNKNOWN if value is None or math.isnan(value) else primary.format(value)


def metric_change(primary: Primary, before: float | None, after: float | None) -> str:
    """A difference of two values of a metric: in percentage points, or as it is."""
    both = difference(before, after)
    return points(both) if primary.percent or both is None else f"{both:+.4g}"


def change(before: float | None, after: float | None) -> str:
    """A relative change with its sign: 200 to 150 is ``-25.0 %``."""
    return UNKNOWN if before is None or after is None or before == 0 else f"{100 * (after / before - 1):+.1f} %"


def latency_change(before: Timing, after: Timing, repeats: int) -> str:
    """A change of the median latency with the speed-up, or that the passes are too noisy to tell one."""
    ratio = speedup(before, after, repeats)
    return NOISY if ratio is None else f"{change(before.median_ms, after.median_ms)}, {ratio:.2f}×"


def with_quartiles(timing: Timing) -> str:
    """A median latency, and in a second line its quartiles."""
    return f"{amount(timing.median_ms, 'ms')}\n({amount(timing.lower_ms)}–{amount(timing.upper_ms)})"


def amount(value: float | None, unit: str = "") -> str:
    """A number with its unit: counts whole and with separators, measurements with three significant digits or more."""
    if value is None:
        return UNKNOWN
    text = f"{value:,}" if isinstance(value, int) else f"{value:,.0f}" if value >= 100 else f"{value:#.3g}"
    return f"{text} {unit}".strip()


def difference(before: float | None, after: float | None) -> float | None:
    """``after - before``, or None when one of them is unknown."""
    return None if before is None or after is None or math.isnan(after - before) else after - before


def wrapped(text: str, width: int, lines: int = 2) -> str:
    """A label of a picture on at most so many lines of ``width`` letters; what does not fit is cut off."""
    return "\n".join(wrap(text, width, max_lines=lines, placeholder=" …"))


def literal(name: str) -> str:
    """A name as matplotlib draws it letter by letter: between two dollar signs it reads formulas."""
    return name.replace("$", r"\$")


def markdown_table(header: list[str], rows: list[list[str]]) -> list[str]:
    """Lines of a Markdown table without markup: the first column is text, the others are aligned to the right."""
    ruler = ["---"] + ["---:"] * (len(header) - 1)
    return [_line(cells) for cells in [header, ruler, *rows]]


def _line(cells: list[str]) -> str:
    return "| " + " | ".join(re.sub(r"([|*])", r"\\\1", cell).replace("\n", " ") for cell in cells) + " |"
